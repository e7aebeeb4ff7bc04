package entitlements_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stiggio/server-sdk-go/entitlements"
)

var resetPeriods = []entitlements.ResetPeriod{
	entitlements.ResetHour, entitlements.ResetDay, entitlements.ResetWeek,
	entitlements.ResetMonth, entitlements.ResetYear,
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	require.NoError(t, err)
	return v
}

func TestPeriodAt(t *testing.T) {
	for _, tc := range []struct {
		name       string
		anchor     string
		reset      entitlements.ResetPeriod
		now        string
		start, end string
	}{
		{"hour", "2026-01-31T10:15:00Z", "HOUR", "2026-06-01T12:00:00Z", "2026-06-01T11:15:00Z", "2026-06-01T12:15:00Z"},
		{"hour, at the end", "2026-01-31T10:15:00Z", "HOUR", "2026-06-01T12:15:00Z", "2026-06-01T12:15:00Z", "2026-06-01T13:15:00Z"},
		{"hour, just before the end", "2026-01-31T10:15:00Z", "HOUR", "2026-06-01T12:14:59.999999999Z", "2026-06-01T11:15:00Z", "2026-06-01T12:15:00Z"},
		{"hour, anchor's fraction", "2026-01-31T10:15:00.5Z", "HOUR", "2026-01-31T11:15:00.4Z", "2026-01-31T10:15:00.5Z", "2026-01-31T11:15:00.5Z"},
		{"hour, before the anchor", "2026-01-31T10:15:00Z", "HOUR", "2026-01-31T10:14:00Z", "2026-01-31T09:15:00Z", "2026-01-31T10:15:00Z"},
		{"day", "2026-01-31T10:15:00Z", "DAY", "2026-06-01T10:14:00Z", "2026-05-31T10:15:00Z", "2026-06-01T10:15:00Z"},
		{"day, at the anchor", "2026-01-31T10:15:00Z", "DAY", "2026-01-31T10:15:00Z", "2026-01-31T10:15:00Z", "2026-02-01T10:15:00Z"},
		{"day, a whole number before the anchor", "2026-01-31T10:15:00Z", "DAY", "2026-01-29T10:15:00Z", "2026-01-29T10:15:00Z", "2026-01-30T10:15:00Z"},
		{"day, beyond the reach of a time.Duration", "1600-01-01T00:00:00Z", "DAY", "2026-06-01T10:14:00Z", "2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"},
		{"week", "2026-01-01T00:00:00Z", "WEEK", "2026-01-20T00:00:00Z", "2026-01-15T00:00:00Z", "2026-01-22T00:00:00Z"},
		{"month", "2026-01-15T08:00:00Z", "MONTH", "2026-06-15T07:59:59Z", "2026-05-15T08:00:00Z", "2026-06-15T08:00:00Z"},
		{"month, at the end", "2026-01-15T08:00:00Z", "MONTH", "2026-06-15T08:00:00Z", "2026-06-15T08:00:00Z", "2026-07-15T08:00:00Z"},
		{"month, over the year's end", "2026-01-15T08:00:00Z", "MONTH", "2027-01-01T00:00:00Z", "2026-12-15T08:00:00Z", "2027-01-15T08:00:00Z"},
		{"month 31: January", "2026-01-31T08:00:00Z", "MONTH", "2026-02-10T00:00:00Z", "2026-01-31T08:00:00Z", "2026-02-28T08:00:00Z"},
		{"month 31: February", "2026-01-31T08:00:00Z", "MONTH", "2026-03-01T00:00:00Z", "2026-02-28T08:00:00Z", "2026-03-31T08:00:00Z"},
		{"month 31: February, clamped start", "2026-01-31T08:00:00Z", "MONTH", "2026-02-28T08:00:00Z", "2026-02-28T08:00:00Z", "2026-03-31T08:00:00Z"},
		{"month 31: February, just before", "2026-01-31T08:00:00Z", "MONTH", "2026-02-28T07:59:59Z", "2026-01-31T08:00:00Z", "2026-02-28T08:00:00Z"},
		{"month 31: leap February", "2024-01-31T08:00:00Z", "MONTH", "2024-03-01T00:00:00Z", "2024-02-29T08:00:00Z", "2024-03-31T08:00:00Z"},
		{"month 31: March", "2026-01-31T08:00:00Z", "MONTH", "2026-04-15T00:00:00Z", "2026-03-31T08:00:00Z", "2026-04-30T08:00:00Z"},
		{"month 31: April", "2026-01-31T08:00:00Z", "MONTH", "2026-05-01T00:00:00Z", "2026-04-30T08:00:00Z", "2026-05-31T08:00:00Z"},
		{"month 31: before the anchor", "2026-01-31T08:00:00Z", "MONTH", "2025-11-30T08:00:00Z", "2025-11-30T08:00:00Z", "2025-12-31T08:00:00Z"},
		{"month 31: before the anchor, last February", "2026-01-31T08:00:00Z", "MONTH", "2025-03-30T00:00:00Z", "2025-02-28T08:00:00Z", "2025-03-31T08:00:00Z"},
		{"month 30: leap February", "2023-11-30T08:00:00Z", "MONTH", "2024-02-29T08:00:00Z", "2024-02-29T08:00:00Z", "2024-03-30T08:00:00Z"},
		{"month, century without a leap day", "2099-12-31T00:00:00Z", "MONTH", "2100-03-01T00:00:00Z", "2100-02-28T00:00:00Z", "2100-03-31T00:00:00Z"},
		{"year", "2020-03-01T00:00:00Z", "YEAR", "2026-02-28T23:59:59Z", "2025-03-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"year of a leap day: 1st", "2024-02-29T08:00:00Z", "YEAR", "2025-02-28T08:00:00Z", "2025-02-28T08:00:00Z", "2026-02-28T08:00:00Z"},
		{"year of a leap day: 2nd", "2024-02-29T08:00:00Z", "YEAR", "2026-12-31T00:00:00Z", "2026-02-28T08:00:00Z", "2027-02-28T08:00:00Z"},
		{"year of a leap day: 3rd", "2024-02-29T08:00:00Z", "YEAR", "2028-02-29T07:59:59Z", "2027-02-28T08:00:00Z", "2028-02-29T08:00:00Z"},
		{"year of a leap day: 4th", "2024-02-29T08:00:00Z", "YEAR", "2028-02-29T08:00:00Z", "2028-02-29T08:00:00Z", "2029-02-28T08:00:00Z"},
		{"year, before the anchor", "2024-02-29T08:00:00Z", "YEAR", "2023-12-01T00:00:00Z", "2023-02-28T08:00:00Z", "2024-02-29T08:00:00Z"},
		{"anchor in another zone", "2026-02-01T01:00:00+02:00", "MONTH", "2026-03-01T00:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T23:00:00Z"},
		{"now in another zone", "2026-01-01T00:00:00Z", "MONTH", "2026-03-01T01:00:00+02:00", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start, end, ok := entitlements.PeriodAt(at(t, tc.anchor), tc.reset, at(t, tc.now))
			require.True(t, ok)
			require.Equal(t, at(t, tc.start), start)
			require.Equal(t, at(t, tc.end), end)
			require.Equal(t, time.UTC, start.Location())
			require.Equal(t, time.UTC, end.Location())
		})
	}
}

func TestPeriodAtCannotTell(t *testing.T) {
	anchor := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := anchor.AddDate(0, 3, 0)
	for _, tc := range []struct {
		name   string
		anchor time.Time
		reset  entitlements.ResetPeriod
		now    time.Time
	}{
		{"no anchor", time.Time{}, entitlements.ResetMonth, now},
		{"no reset period", anchor, "", now},
		{"unknown reset period", anchor, "FORTNIGHT", now},
		{"reset period in lower case", anchor, "month", now},
		{"anchor out of range", time.Unix(math.MaxInt64, 0), entitlements.ResetHour, now},
		{"now out of range", anchor, entitlements.ResetHour, time.Unix(math.MinInt64, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start, end, ok := entitlements.PeriodAt(tc.anchor, tc.reset, tc.now)
			require.False(t, ok)
			require.Zero(t, start)
			require.Zero(t, end)
		})
	}
}

// TestPeriodAtIgnoresDaylightSaving: the hour that a zone skips is an hour.
func TestPeriodAtIgnoresDaylightSaving(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zone database:", err)
	}
	anchor := time.Date(2026, 3, 29, 1, 30, 0, 0, zone) // 00:30 UTC, before the clocks go forward
	now := time.Date(2026, 3, 29, 3, 30, 0, 0, zone)    // 01:30 UTC

	start, end, ok := entitlements.PeriodAt(anchor, entitlements.ResetHour, now)
	require.True(t, ok)
	require.Equal(t, time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC), start)
	require.Equal(t, time.Date(2026, 3, 29, 2, 30, 0, 0, time.UTC), end)

	// A month counted in Berlin's clock would end an hour earlier.
	anchor = time.Date(2026, 3, 1, 0, 0, 0, 0, zone) // February 28, 23:00 UTC
	start, end, ok = entitlements.PeriodAt(anchor, entitlements.ResetMonth, now)
	require.True(t, ok)
	require.Equal(t, time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC), start)
	require.Equal(t, time.Date(2026, 4, 28, 23, 0, 0, 0, time.UTC), end)
}

func drawTime(t *rapid.T, name string) time.Time {
	sec := rapid.Int64Range(-200_000_000_000, 200_000_000_000).Draw(t, name)
	nsec := rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns")
	zone := time.FixedZone("z", rapid.IntRange(-14*3600, 14*3600).Draw(t, name+" zone"))
	return time.Unix(sec, nsec).In(zone)
}

// nth is the start of the n-th period by the calendar, step by step.
func nth(anchor time.Time, reset entitlements.ResetPeriod, n int) time.Time {
	a := anchor.UTC()
	switch reset {
	case entitlements.ResetHour:
		return a.Add(time.Duration(n) * time.Hour)
	case entitlements.ResetDay:
		return a.AddDate(0, 0, n)
	case entitlements.ResetWeek:
		return a.AddDate(0, 0, 7*n)
	case entitlements.ResetYear:
		n *= 12
	}
	first := time.Date(a.Year(), a.Month(), 1, a.Hour(), a.Minute(), a.Second(), a.Nanosecond(), time.UTC).AddDate(0, n, 0)
	v := first.AddDate(0, 0, a.Day()-1)
	for v.Month() != first.Month() {
		v = v.AddDate(0, 0, -1)
	}
	return v
}

func TestPeriodAtCountsFromTheAnchor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anchor := drawTime(t, "anchor")
		reset := rapid.SampledFrom(resetPeriods).Draw(t, "reset")
		n := rapid.IntRange(-60, 60).Draw(t, "n")
		wantStart, wantEnd := nth(anchor, reset, n), nth(anchor, reset, n+1)
		now := wantStart.Add(time.Duration(rapid.Int64Range(0, int64(wantEnd.Sub(wantStart))-1).Draw(t, "into")))

		start, end, ok := entitlements.PeriodAt(anchor, reset, now)
		require.True(t, ok)
		require.Equal(t, wantStart, start)
		require.Equal(t, wantEnd, end)
	})
}

func TestPeriodsTile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anchor, now := drawTime(t, "anchor"), drawTime(t, "now")
		reset := rapid.SampledFrom(resetPeriods).Draw(t, "reset")

		start, end, ok := entitlements.PeriodAt(anchor, reset, now)
		require.True(t, ok)
		require.False(t, start.After(now), "a period contains now")
		require.True(t, end.After(now), "a period contains now")

		next, _, ok := entitlements.PeriodAt(anchor, reset, end)
		require.True(t, ok)
		require.Equal(t, end, next, "the next period starts at the end")

		_, last, ok := entitlements.PeriodAt(anchor, reset, start.Add(-1))
		require.True(t, ok)
		require.Equal(t, start, last, "the last period ended at the start")
	})
}

func FuzzPeriodAt(f *testing.F) {
	jan31 := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC).Unix()
	for i := range resetPeriods {
		f.Add(jan31, int64(500_000_000), uint8(i), jan31+10_000_000, int64(0))
		f.Add(int64(math.MinInt64), int64(math.MinInt64), uint8(i), int64(math.MaxInt64), int64(math.MaxInt64))
		f.Add(int64(-8_640_000_000_000), int64(0), uint8(i), int64(8_640_000_000_000), int64(999_999_999))
		f.Add(int64(8_640_000_000_000), int64(1), uint8(i), int64(-8_640_000_000_000), int64(0))
	}
	f.Fuzz(func(t *testing.T, anchorSec, anchorNsec int64, reset uint8, nowSec, nowNsec int64) {
		period := resetPeriods[int(reset)%len(resetPeriods)]
		now := time.Unix(nowSec, nowNsec)
		start, end, ok := entitlements.PeriodAt(time.Unix(anchorSec, anchorNsec), period, now)
		if !ok {
			require.Zero(t, start)
			require.Zero(t, end)
			return
		}
		require.False(t, start.After(now), "start %v, now %v", start, now)
		require.True(t, end.After(now), "end %v, now %v", end, now)
	})
}
