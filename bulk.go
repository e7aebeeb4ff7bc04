package stigg

import "errors"

// BulkResult says what became of a bulk call that was made in parts.
type BulkResult struct {
	// Parts are the calls that the items were split into, in order. Within a
	// part all items went through or none did.
	Parts []BulkPart
	// IdempotencyKeys are the keys that the items were sent with, or would have
	// been, by the index of the item.
	IdempotencyKeys []string
}

// UsageBulkResult is a BulkResult with what the API said of each report that
// went through.
type UsageBulkResult struct {
	BulkResult
	Measurements []UsageMeasurement
}

// BulkPart is one call of a bulk call.
type BulkPart struct {
	From, To int   // the items From to To-1
	Err      error // nil: acknowledged; ErrNotSent: an earlier part failed; else why it failed
}

// ErrNotSent says that a part was not sent because an earlier one failed. Send
// it again.
var ErrNotSent = errors.New("not sent")

// Acknowledged is the number of items that went through: the first of them,
// since a bulk call ends at the first failure.
func (r BulkResult) Acknowledged() int {
	n := 0
	for _, p := range r.Parts {
		if p.Err == nil {
			n += p.To - p.From
		}
	}
	return n
}

// inParts makes calls for n items, at most limit items and maxCallBytes bytes
// in each, until one fails. sizes are the items' sizes, nil if they are small.
func inParts(n, limit int, sizes []int, call func(from, to int) error) ([]BulkPart, error) {
	var parts []BulkPart
	var failed error
	for from := 0; from < n; {
		to, bytes := from, 0
		for to < n && to-from < limit {
			if sizes != nil {
				if bytes += sizes[to]; bytes > maxCallBytes && to > from {
					break
				}
			}
			to++
		}
		part := BulkPart{From: from, To: to, Err: ErrNotSent}
		if failed == nil {
			part.Err = call(from, to)
			failed = part.Err
		}
		parts = append(parts, part)
		from = to
	}
	return parts, failed
}
