// Package faultproxy puts a TCP proxy between a client and a real server, so
// that a test can take the network away from them in the ways networks fail:
// connections refused or reset, bytes swallowed, held back, delayed, cut off
// in mid-reply or corrupted.
//
// The proxy's address stays the same through all of it, and every fault can be
// switched on and off while connections are open.
package faultproxy
