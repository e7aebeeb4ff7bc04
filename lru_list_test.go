package stigg_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// TestStaleListIsOfOneState: the list of a customer was read, then the customer
// changed, and of what it is now only one entitlement was read before Redis and
// the API went away. The list answers as a whole: nothing of it is taken from
// what the customer is now, and nothing is left out.
func TestStaleListIsOfOneState(t *testing.T) {
	for name, change := range map[string]struct {
		value func(before string) string
		calls float64 // the limit, as it is then read
	}{
		"nothing is left": {func(string) string { return "{}" }, 0},
		"other limits": {func(before string) string {
			return strings.ReplaceAll(before, `"usageLimit":100,`, `"usageLimit":777,`)
		}, 777},
	} {
		t.Run(name, func(t *testing.T) {
			server, api := redistest.Start(t), stiggtest.New(t)
			writer := server.Client()
			api.SetEntitlements("acme", stiggtest.Boolean("on"), stiggtest.Metered("calls", 100, 40), stiggtest.Metered("mails", 100, 7))
			fill(t, api, server, "acme")
			client := newClient(t, api, server, withLRU(1000), func(c *stigg.Config) { c.Redis.OutageTTL = -1 })
			var before stigg.EntitlementsState
			eventually(t, func() bool {
				var err error
				before, err = client.GetEntitlements(background(), "acme", "")
				return err == nil && before.Source == stigg.SourceMemory
			}, "the list from memory")
			require.Len(t, before.Entitlements, 3)

			value, err := writer.Get(background(), "lab:c_acme").Result()
			require.NoError(t, err)
			_, err = writer.TxPipelined(background(), func(pipe redis.Pipeliner) error {
				setPair(pipe, "lab:c_acme", change.value(value), time.Now().UnixMilli())
				return nil
			})
			require.NoError(t, err)
			eventually(t, func() bool {
				a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
				return err == nil && a.Source == stigg.SourceMemory && a.UsageLimit == change.calls
			}, "what calls is now, from memory")
			api.Close()
			server.Kill()

			after, err := client.GetEntitlements(background(), "acme", "")
			require.ErrorIs(t, err, stigg.ErrUnavailable)
			require.True(t, after.Stale)
			require.False(t, after.IsFallback)
			require.Equal(t, stigg.SourceMemory, after.Source)
			after.Stale = false
			for i := range after.Entitlements {
				require.True(t, after.Entitlements[i].Stale)
				after.Entitlements[i].Stale = false
			}
			require.Equal(t, before, after)
		})
	}
}

// TestOwnUsageIsRevalidated: after a report of this process the usage is read
// again, at once, but not the customer value.
func TestOwnUsageIsRevalidated(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	fill(t, api, server, "acme")
	client := newClient(t, api, server, withLRU(1000))
	calls := stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"}
	tokens := stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"}
	ai := stigg.MeteredQuery{CustomerID: "acme", FeatureID: "ai"}
	eventually(t, func() bool {
		a, errA := client.GetMeteredEntitlement(background(), calls)
		b, errB := client.GetCreditEntitlement(background(), tokens)
		d, errD := client.GetMeteredEntitlement(background(), ai)
		require.NoError(t, errA)
		require.NoError(t, errB)
		require.NoError(t, errD)
		return a.Source == stigg.SourceMemory && b.Source == stigg.SourceMemory && d.Source == stigg.SourceMemory
	}, "memory hits")
	recorder := server.Monitor()
	lengths, values := 0, 0
	count := func() {
		for _, call := range recorder.Calls() {
			switch {
			case call.Name() == "STRLEN":
				lengths++
			case slices.Contains(call.Args, "lab:c_acme"):
				values++
			}
		}
	}
	for n := range 5 {
		m, err := client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 1})
		require.NoError(t, err)
		require.Equal(t, 41.0+float64(n), *m.CurrentUsage)
		a, err := client.GetMeteredEntitlement(background(), calls)
		require.NoError(t, err)
		require.Equal(t, *m.CurrentUsage, a.CurrentUsage)

		consumed, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 10})
		require.NoError(t, err)
		b, err := client.GetCreditEntitlement(background(), tokens)
		require.NoError(t, err)
		require.Equal(t, consumed.Balance.Remaining, b.Remaining)
		for more, granted := range map[float64]bool{0: true, 1: false} {
			ai.RequestedUsage = consumed.Balance.Remaining/2.5 + more
			d, err := client.GetMeteredEntitlement(background(), ai)
			require.NoError(t, err)
			require.Equal(t, granted, d.HasAccess, more)
		}
	}
	count()
	require.GreaterOrEqual(t, lengths, 15)
	require.Zero(t, values, "the customer value was read")
}
