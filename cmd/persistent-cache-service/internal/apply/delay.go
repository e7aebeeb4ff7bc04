package apply

import (
	"math/rand/v2"
	"time"
)

const (
	// firstReturnDelay is for how long at least a message that was received
	// once is returned to the queue.
	firstReturnDelay = time.Minute
	// maxReturnDelay is the longest, random part included; a queue hides a
	// message for no more than twelve hours.
	maxReturnDelay = 4 * time.Hour
)

// returnDelay is how long a message that was received so often stays hidden
// when it is returned because too many wait. It doubles each time, so that a
// long outage of the Edge API does not use up the deliveries that the queue's
// redrive policy allows; up to half of it is added at random, to keep those
// apart that were returned together.
func returnDelay(receiveCount int) time.Duration {
	const doublings = 8 // more would only be cut
	d := min(firstReturnDelay<<min(max(receiveCount-1, 0), doublings), maxReturnDelay*2/3)
	return d + rand.N(d/2)
}
