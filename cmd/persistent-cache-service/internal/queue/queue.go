// Package queue is the queue that the service consumes: SQS, and where its
// credentials come from.
package queue

import (
	"context"
	"time"
)

// Message is a message as the queue delivered it.
type Message struct {
	ID           string
	Receipt      string // names this delivery to Delete and SetVisibility
	Body         string
	SentAt       time.Time // zero when the queue did not tell
	ReceiveCount int       // how often it was delivered, this time included; 0 when the queue did not tell
	// Damaged says why the message is not what was sent; nil: it is. Then its
	// Body is empty, and its Receipt can be: it must not be named to the queue.
	Damaged error
}

// Depth is how many messages a queue holds, approximately.
type Depth struct {
	Visible  int // waiting
	InFlight int // delivered and not deleted
	Delayed  int // not to be delivered yet
}

// Queue is what the service needs of a queue.
type Queue interface {
	// Receive waits up to wait for messages, and hides those it returns from
	// other receivers for the visibility timeout. The error is that of the call:
	// a message that was damaged comes with the others and says so.
	Receive(ctx context.Context, most int, wait, visibility time.Duration) ([]Message, error)
	// Delete deletes up to MaxBatch deliveries and returns those it could not.
	Delete(ctx context.Context, receipts []string) (failed []string, err error)
	// SetVisibility hides up to MaxBatch deliveries for the timeout from now
	// on; 0 shows them at once. It returns those it could not hide or show.
	SetVisibility(ctx context.Context, receipts []string, timeout time.Duration) (failed []string, err error)
	// Depth asks how much is in the queue.
	Depth(ctx context.Context) (Depth, error)
}

// MaxBatch is the most deliveries that one call may name.
const MaxBatch = 10
