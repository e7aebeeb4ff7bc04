package faultproxy

import (
	"sync"
	"time"
)

// Direction says which way bytes travel through the proxy.
type Direction uint8

// The directions.
const (
	Requests Direction = 1 << iota // from the client to the server
	Replies                        // from the server to the client
	Both     = Requests | Replies
)

// lane is what the proxy does to the bytes that travel one way.
type lane struct {
	drop    bool
	hold    bool
	latency time.Duration
	cut     *counter // nil: no end
	corrupt *counter // nil: left alone
}

// counter is a fault that counts the bytes of a connection; a new one starts
// from zero on every connection.
type counter struct{ n int }

// faults is what the proxy does at the moment, to be read by many connections.
type faults struct {
	mu      sync.Mutex
	lanes   map[Direction]lane
	changed chan struct{} // closed and replaced on every change
}

func newFaults() *faults {
	return &faults{lanes: map[Direction]lane{}, changed: make(chan struct{})}
}

// get returns the lane and a channel that is closed when it changes.
func (f *faults) get(d Direction) (lane, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lanes[d], f.changed
}

// set changes the lanes of the given directions.
func (f *faults) set(d Direction, change func(*lane)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range []Direction{Requests, Replies} {
		if d&one != 0 {
			l := f.lanes[one]
			change(&l)
			f.lanes[one] = l
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}
