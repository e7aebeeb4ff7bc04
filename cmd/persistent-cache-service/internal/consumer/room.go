package consumer

import (
	"context"
	"time"
)

// roomPoll is how often to look whether there is room, beside being told:
// nobody tells when a message begins to wait for a refetch, or when the queue was
// told of one.
const roomPoll = 20 * time.Millisecond

// room lets those wait who need room for something.
type room chan struct{}

func newRoom() room { return make(room, 1) }

// await waits until there is room. It reports false if ctx ended before.
func (r room) await(ctx context.Context, there func() bool) bool {
	if ctx.Err() != nil {
		return false
	}
	if there() {
		return true
	}
	poll := time.NewTicker(roomPoll)
	defer poll.Stop()
	for !there() {
		select {
		case <-ctx.Done():
			return false
		case <-poll.C:
		case <-r:
		}
	}
	r.tell() // there may be room for another
	return true
}

// tell wakes one of those who wait, if anyone does.
func (r room) tell() {
	select {
	case r <- struct{}{}:
	default:
	}
}
