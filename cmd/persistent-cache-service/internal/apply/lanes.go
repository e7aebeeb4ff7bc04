package apply

import "sync"

// lanes carry out work in the order of its arrival for each customer, and for
// different customers at the same time. A lane has a goroutine only while
// there is something to do; whoever submits bounds how much that is.
type lanes struct {
	mu     sync.Mutex
	queued map[string][]func() // a lane that works is in the map
}

func newLanes() *lanes { return &lanes{queued: map[string][]func(){}} }

// submit adds work to the customer's lane. It never waits.
func (l *lanes) submit(customerID string, work func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if queued, active := l.queued[customerID]; active {
		l.queued[customerID] = append(queued, work)
		return
	}
	l.queued[customerID] = nil
	go l.run(customerID, work)
}

func (l *lanes) run(customerID string, work func()) {
	for work != nil {
		work()
		work = l.next(customerID)
	}
}

// next takes the customer's next work; nil, and the lane is gone, if there is none.
func (l *lanes) next(customerID string) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	queued := l.queued[customerID]
	if len(queued) == 0 {
		delete(l.queued, customerID)
		return nil
	}
	l.queued[customerID] = queued[1:]
	return queued[0]
}
