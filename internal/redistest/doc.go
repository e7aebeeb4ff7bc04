// Package redistest starts real redis-server processes for tests: single
// servers with the flags a test needs, a Cluster, and a Sentinel setup.
//
// Every server listens on 127.0.0.1 only, keeps its files in the test's
// temporary directory, and is gone when the test ends; on Linux it also goes
// when the test binary dies. redis-server has to be on PATH; a test that finds
// none fails, it does not skip.
//
// Helpers fail the test through t.Fatal, so they are called from the test's
// own goroutine.
package redistest
