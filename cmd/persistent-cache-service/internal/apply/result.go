// Package apply carries out what messages ask for: it writes to Redis, asks
// the Edge API, and purges.
package apply

import (
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
)

// Fate is what is to be done with a message in the queue.
type Fate uint8

// The fates.
const (
	Delete Fate = iota // it was dealt with
	Leave              // it cannot be dealt with: its queue's redrive policy decides
	Return             // it was not dealt with and has to come back
)

// The outcomes of messages, as metrics name them.
const (
	Applied      = "applied"       // something was written
	SkippedOlder = "skipped_older" // Redis holds newer data
	NotCached    = "not_cached"    // the customer is not cached, and the policy says to leave it so
	Refetched    = "refetched"     // the customer was fetched and written
	Purged       = "purged"
	Ignored      = "ignored"   // the message changes nothing that is cached
	Ambiguous    = "ambiguous" // the ids could name another customer's keys
	Foreign      = "foreign"   // of another environment
	Failed       = "failed"    // refused by Redis or by the Edge API for good
	Panicked     = "panicked"
	Returned     = "returned" // given back to the queue
)

// Result is what became of a message.
type Result struct {
	Outcome string
	Fate    Fate
	// Delay is how long a returned message stays hidden.
	Delay time.Duration
	// Err says why; nil when it was dealt with.
	Err error
}

func done(outcome string) Result { return Result{Outcome: outcome} }

func failed(err error) Result { return Result{Outcome: Failed, Fate: Leave, Err: err} }

// Job is a message to be carried out.
type Job struct {
	ID      string // of the message, for logs
	Message message.Message
	// At is the time of the change: the message's own, or the best known.
	At time.Time
	// ReceiveCount is how often the queue has handed the message out, this time
	// included; 0: not known, which counts as the first time.
	ReceiveCount int
	// Done is called once, with what became of it.
	Done func(Result)
	// Shrunk is called if the job goes on to wait for a refetch, and its message
	// takes up no room worth counting any more; nil: nobody wants to know.
	Shrunk func()
}
