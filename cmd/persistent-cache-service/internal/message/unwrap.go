package message

import "time"

// maxWrappers is how many wrappers are taken off: an event bus that forwards
// to a topic makes two.
const maxWrappers = 4

// unwrap takes off what SNS and EventBridge put around a message, and returns
// the message with the time at which the innermost wrapper was sent.
func unwrap(body string) (fields object, sentAt time.Time, err error) {
	for range maxWrappers + 1 {
		fields, ok := parseObject(body)
		if !ok {
			return nil, time.Time{}, &Error{NotJSON, "not a JSON object"}
		}
		inner, at, wrapped := peel(fields)
		if !wrapped {
			return fields, sentAt, nil
		}
		body = inner
		if !at.IsZero() {
			sentAt = at
		}
	}
	return nil, time.Time{}, &Error{UnknownFormat, "wrapped too often"}
}

// peel takes off one wrapper, if there is one.
func peel(fields object) (inner string, at time.Time, wrapped bool) {
	switch {
	case fields["Type"] == `"Notification"` && fields.has("Message"):
		inner, at = fields["Message"], wrapperTime(fields["Timestamp"])
	case fields.has("detail-type") && fields.has("detail"):
		inner, at = fields["detail"], wrapperTime(fields["time"])
	default:
		return "", time.Time{}, false
	}
	// SNS always passes a text on, EventBridge only when it was given one.
	if text, err := readText(inner); err == nil {
		inner = text
	}
	return inner, at, true
}

// wrapperTime reads the time of a wrapper, which is only the second choice
// after the message's own: one that cannot be read counts as absent.
func wrapperTime(raw string) time.Time {
	t, err := readTime(raw)
	if err != nil || t.UnixMilli() <= 0 {
		return time.Time{}
	}
	return t
}
