package graphql

import (
	"encoding/json"
	"time"

	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// DateTime is a time of the API. It reads RFC 3339 and epoch milliseconds, in
// UTC and whole milliseconds; null is the zero time.
type DateTime struct{ time.Time }

// OptionalTime is t for an optional field: nil, and so absent, when t is zero.
func OptionalTime(t time.Time) *DateTime {
	if t.IsZero() {
		return nil
	}
	return &DateTime{t}
}

// OrZero is the time, and the zero time for an absent one.
func (d *DateTime) OrZero() time.Time {
	if d == nil {
		return time.Time{}
	}
	return d.Time
}

// MarshalJSON writes RFC 3339 in UTC with milliseconds, and null for the zero
// time.
func (d DateTime) MarshalJSON() ([]byte, error) {
	if d.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(d.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

// UnmarshalJSON reads what the type's comment says, and fails for all else.
func (d *DateTime) UnmarshalJSON(raw []byte) error {
	t, err := apistate.ParseTime(raw)
	d.Time = t
	return err
}
