// Package message reads the change messages of a queue. Each format has a
// decoder in a file of its own; all of them end in a Message, which says what
// is to be done. It does no I/O.
package message

import (
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// Action is what a message asks for.
type Action uint8

// The actions.
const (
	// Ignore: the message changes nothing that is cached.
	Ignore Action = iota
	// Write: the message brings all entitlements of Key, in State.
	Write
	// UpdateUsage: the message brings the usage of one entitlement.
	UpdateUsage
	// UpdateBalance: the message brings the balance of one wallet.
	UpdateBalance
	// Refetch: Key changed, and the message does not say all about how.
	Refetch
	// PurgeCustomer: the customer is gone.
	PurgeCustomer
	// PurgeAll: every customer of the environment may have changed.
	PurgeAll
)

var actionNames = [...]string{"ignore", "write", "update_usage", "update_balance", "refetch", "purge_customer", "purge_all"}

// String names the action.
func (a Action) String() string { return actionNames[a] }

// Message is a change message.
type Message struct {
	// Type is the message's own name of its type, or "other" for one that this
	// package does not know: a bounded set, fit for a label.
	Type   string
	Action Action
	// Key is who changed; empty for Ignore and PurgeAll.
	Key cache.Key
	// EnvironmentID is the environment that the message says it is of; empty
	// when it does not say.
	EnvironmentID string
	// Time is when the change happened, as the message itself says; zero when
	// it does not say.
	Time time.Time
	// SentAt is when the wrapper of the message says that it was sent; zero
	// without a wrapper.
	SentAt time.Time

	State   entitlements.State // Write
	Ref     cache.Ref          // UpdateUsage, UpdateBalance
	Usage   entitlements.Usage // UpdateUsage
	Balance Balance            // UpdateBalance
}

// Balance is what is left in a wallet, in credits.
type Balance struct {
	Granted   float64
	Remaining float64
}

// Consumed is what was taken out of the wallet, as far as what is left tells.
func (b Balance) Consumed() float64 { return b.Granted - b.Remaining }

// The kinds of messages that cannot be read.
const (
	NotJSON       = "not_json"       // not a JSON object
	UnknownFormat = "unknown_format" // a JSON object of no known format
	Malformed     = "malformed"      // of a known format, but not as agreed
)

// Error says why a message cannot be read, without quoting it.
type Error struct {
	Kind    string // NotJSON, UnknownFormat or Malformed
	Problem string
}

// Error describes the problem without quoting the message.
func (e *Error) Error() string { return e.Kind + ": " + e.Problem }

// maxIDLength is the longest id that is taken for one.
const maxIDLength = 255

// Decode reads a message: it takes off the wrappers, then asks the decoder of
// each format. What it returns shares the memory of body only if it is a Write.
// Its error is an *Error.
func Decode(body string) (Message, error) {
	fields, sentAt, err := unwrap(body)
	if err != nil {
		return Message{}, err
	}
	for _, decode := range []func(object) (Message, bool, error){decodeRealtime, decodeEvent} {
		m, known, err := decode(fields)
		if err != nil {
			return Message{}, err
		}
		if known {
			m.SentAt = sentAt
			return m, nil
		}
	}
	return Message{}, &Error{UnknownFormat, "neither an event nor a realtime payload"}
}
