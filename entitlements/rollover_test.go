package entitlements_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/entitlements"
)

func TestEnded(t *testing.T) {
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	require.False(t, entitlements.Usage{}.Ended(now), "never resets")
	require.False(t, entitlements.Usage{PeriodEnd: now.Add(1)}.Ended(now), "runs")
	require.True(t, entitlements.Usage{PeriodEnd: now}.Ended(now), "ends now")
	require.True(t, entitlements.Usage{PeriodEnd: now.Add(-1)}.Ended(now), "over")
}

func TestRollOver(t *testing.T) {
	now := at(t, "2026-06-15T12:00:00Z")
	updated := at(t, "2026-05-20T00:00:00Z")
	ended := entitlements.Usage{
		Current: 42, UpdatedAt: updated,
		PeriodStart: at(t, "2026-04-30T08:00:00Z"), PeriodEnd: at(t, "2026-05-31T08:00:00Z"),
	}
	running := ended
	running.PeriodEnd = now.Add(1)
	endsNow := ended
	endsNow.PeriodEnd = now
	endless := entitlements.Usage{Current: 42, UpdatedAt: updated}

	monthly := entitlements.Definition{
		Feature:           entitlements.Feature{Type: "NUMBER", MeterType: "Incremental"},
		UsagePeriodAnchor: at(t, "2026-01-31T08:00:00Z"),
		ResetPeriod:       entitlements.ResetMonth,
	}
	noAnchor := monthly
	noAnchor.UsagePeriodAnchor = time.Time{}
	unknownReset := monthly
	unknownReset.ResetPeriod = "FORTNIGHT"
	numeric := monthly
	numeric.Feature.MeterType = entitlements.MeterNone
	credit := monthly
	credit.IsCredit = true

	renewed := entitlements.Usage{
		UpdatedAt:   updated,
		PeriodStart: at(t, "2026-05-31T08:00:00Z"), PeriodEnd: at(t, "2026-06-30T08:00:00Z"),
	}
	for _, tc := range []struct {
		name string
		d    *entitlements.Definition
		u    entitlements.Usage
		want entitlements.Usage
	}{
		{"running", &monthly, running, running},
		{"endless", &monthly, endless, endless},
		{"ended", &monthly, ended, renewed},
		{"ends now", &monthly, endsNow, renewed},
		{"ended, no anchor", &noAnchor, ended, entitlements.Usage{UpdatedAt: updated}},
		{"ended, unknown reset period", &unknownReset, ended, entitlements.Usage{UpdatedAt: updated}},
		{"not metered", &numeric, ended, ended},
		{"credit", &credit, ended, ended},
		{"no definition", nil, ended, ended},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, entitlements.RollOver(tc.d, tc.u, now))
		})
	}
}
