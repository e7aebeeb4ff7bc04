package apistate

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// The epoch milliseconds of the years 1 and 9999: what RFC 3339 can write.
const (
	minMillis = -62135596800000
	maxMillis = 253402300799999
)

var errTime = errors.New("not a time")

// ParseTime reads a time of the APIs from its JSON: RFC 3339 with or without a
// fraction, or epoch milliseconds as a number or as a string of digits. The
// time is in UTC and whole milliseconds. Null, nothing and epoch zero are the
// zero time, which stands for "none".
func ParseTime(raw json.RawMessage) (time.Time, error) {
	if isNull(raw) {
		return time.Time{}, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		var ms float64
		if err := json.Unmarshal(raw, &ms); err != nil {
			return time.Time{}, errTime
		}
		return fromMillis(ms)
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		if ms := t.UnixMilli(); ms < minMillis || ms > maxMillis {
			return time.Time{}, errTime
		}
		return time.UnixMilli(t.UnixMilli()).UTC(), nil
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, errTime
	}
	return fromMillis(float64(ms))
}

func fromMillis(ms float64) (time.Time, error) {
	if ms == 0 {
		return time.Time{}, nil
	}
	if ms < minMillis || ms > maxMillis {
		return time.Time{}, errTime
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}
