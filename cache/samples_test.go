package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// sampleState is a customer of n entitlements, a tenth of them credits, most
// of the rest metered.
func sampleState(n int) entitlements.State {
	state := entitlements.State{Records: make([]entitlements.Record, n)}
	updated := time.UnixMilli(1780308000000)
	for i := range n {
		limit := float64(100 * i)
		r := &state.Records[i]
		r.Definition = entitlements.Definition{UsageLimit: &limit, UpdatedAt: updated}
		r.HasUsage = i%5 != 0
		r.Usage = entitlements.Usage{Current: float64(i) + 0.25, PeriodEnd: updated.AddDate(1, 0, 0), UpdatedAt: updated}
		switch {
		case i%10 == 9:
			r.Definition.IsCredit = true
			r.Definition.Currency = credits.Currency{ID: fmt.Sprintf("currency-%03d", i), DisplayName: "Tokens", UnitSingular: "token", UnitPlural: "tokens"}
		case i%5 == 0:
			r.Definition.Feature = entitlements.Feature{ID: fmt.Sprintf("feature-%03d", i), DisplayName: "On or off", Type: entitlements.FeatureBoolean, MeterType: entitlements.MeterNone}
		default:
			r.Definition.Feature = entitlements.Feature{
				ID: fmt.Sprintf("feature-%03d", i), DisplayName: "Calls of the API", Type: entitlements.FeatureNumber,
				MeterType: entitlements.MeterIncremental, Units: "call", UnitsPlural: "calls",
			}
			r.Definition.ResetPeriod = entitlements.ResetMonth
			r.Definition.RawResetPeriodConfiguration = []byte(`{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"}`)
		}
	}
	return state
}

// sampleValue is the customer value of sampleState.
func sampleValue(t testing.TB, n int) string {
	t.Helper()
	pairs, err := encodeState("lab", Key{CustomerID: "customer"}, sampleState(n), time.Time{})
	require.NoError(t, err)
	return pairs[0].value
}

// middle names an entitlement in the midst of sampleState's.
func middle(n int) Ref { return RefOf(&sampleState(n).Records[n/2+1].Definition) }
