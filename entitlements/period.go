package entitlements

import "time"

const (
	hourSeconds = 60 * 60
	daySeconds  = 24 * hourSeconds
	weekSeconds = 7 * daySeconds

	// maxUnixSeconds bounds the times that periods are computed for, on both
	// sides of 1970. No source can send a time beyond it (it is the range of
	// dates in JavaScript, some 270,000 years), and within it no sum overflows.
	maxUnixSeconds = 8_640_000_000_000
)

// PeriodAt returns the usage period [start, end) that contains now, in UTC.
// Periods are counted from the anchor in both directions. Months and years are
// calendar steps from the anchor, clamped to the last day of the month: the
// periods of an anchor on January 31 start on February 28 or 29, March 31,
// April 30 and so on. ok is false, and both times are zero, when the anchor is
// zero, the reset period is empty or unknown, or a time is out of range (more
// than some 270,000 years from now).
func PeriodAt(anchor time.Time, reset ResetPeriod, now time.Time) (start, end time.Time, ok bool) {
	if anchor.IsZero() || outOfRange(anchor) || outOfRange(now) {
		return time.Time{}, time.Time{}, false
	}
	switch reset {
	case ResetHour:
		start, end = fixedPeriodAt(anchor, hourSeconds, now)
	case ResetDay:
		start, end = fixedPeriodAt(anchor, daySeconds, now)
	case ResetWeek:
		start, end = fixedPeriodAt(anchor, weekSeconds, now)
	case ResetMonth:
		start, end = calendarPeriodAt(anchor.UTC(), 1, now.UTC())
	case ResetYear:
		start, end = calendarPeriodAt(anchor.UTC(), 12, now.UTC())
	default:
		return time.Time{}, time.Time{}, false
	}
	return start, end, true
}

func outOfRange(t time.Time) bool {
	s := t.Unix()
	return s < -maxUnixSeconds || s > maxUnixSeconds
}

// fixedPeriodAt steps in whole seconds rather than in a time.Duration, which
// ends after 292 years.
func fixedPeriodAt(anchor time.Time, seconds int64, now time.Time) (start, end time.Time) {
	elapsed := now.Unix() - anchor.Unix()
	if now.Nanosecond() < anchor.Nanosecond() {
		elapsed--
	}
	first := anchor.Unix() + floorDiv(elapsed, seconds)*seconds
	nanos := int64(anchor.Nanosecond())
	return time.Unix(first, nanos).UTC(), time.Unix(first+seconds, nanos).UTC()
}

func calendarPeriodAt(anchor time.Time, months int, now time.Time) (start, end time.Time) {
	// By months alone the n-th period starts in now's month or before it, and
	// the next one in a later month; within now's month the day decides.
	n := floorDiv(monthIndex(now)-monthIndex(anchor), months)
	start = addMonths(anchor, n*months)
	if start.After(now) {
		n--
		start = addMonths(anchor, n*months)
	}
	return start, addMonths(anchor, (n+1)*months)
}

// monthIndex numbers the months since January of the year 0.
func monthIndex(t time.Time) int { return t.Year()*12 + int(t.Month()) - 1 }

// addMonths is AddDate for months, with the day clamped to the month's last
// where AddDate would run over into the next month. t is in UTC.
func addMonths(t time.Time, months int) time.Time {
	index := monthIndex(t) + months
	year := floorDiv(index, 12)
	month := time.Month(index-year*12) + time.January
	lastDay := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return time.Date(year, month, min(t.Day(), lastDay),
		t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// floorDiv divides rounding down, where Go's division rounds towards zero. b is
// positive.
func floorDiv[T int | int64](a, b T) T {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
