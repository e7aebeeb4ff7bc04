package apply_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func balance(remaining, granted float64, at time.Time) string {
	return fmt.Sprintf(`{"creditBalanceUpdated":{"customerId":"c","currencyId":"u","currentBalance":%v,"totalGranted":%v,"timestamp":%q}}`,
		remaining, granted, at.Format(time.RFC3339Nano))
}

// Credits were granted, and the customer spent some of them before the message
// about the grant arrived: an SDK has written the newer balance, which says
// nothing of what was granted.
func TestGrantThatArrivesAfterANewerBalance(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
	f.api.SetEntitlements("c", stiggtest.Credit("u", 100, 40).EntitlementUpdatedAt(t0).UsageUpdatedAt(t0))
	require.Equal(t, apply.Refetched, f.do(changed("c")).Outcome)
	f.api.SetEntitlements("c", stiggtest.Credit("u", 200, 45).EntitlementUpdatedAt(t0.Add(time.Second)).UsageUpdatedAt(t0.Add(2*time.Second)))

	k, wallet := cache.Key{CustomerID: "c"}, cache.Ref{ID: "u", IsCredit: true}
	_, err := f.store.UpdateUsage(t.Context(), k, wallet, entitlements.Usage{Current: 45}, t0.Add(2*time.Second))
	require.NoError(t, err)
	f.do(balance(160, 200, t0.Add(time.Second)))

	var r cache.Reading
	require.NoError(t, f.store.Read(t.Context(), k, wallet, true, &r))
	require.NotNil(t, r.Facts.Definition)
	require.EqualValues(t, 200, *r.Facts.Definition.UsageLimit, "granted")
	require.EqualValues(t, 45, r.Facts.Usage.Current, "consumed")
}

// A balance from before the value that Redis holds asks for nothing.
func TestBalanceFromBeforeTheValue(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
	f.api.SetEntitlements("c", stiggtest.Credit("u", 200, 45).EntitlementUpdatedAt(t0).UsageUpdatedAt(t0))
	require.Equal(t, apply.Refetched, f.do(changed("c")).Outcome)
	require.Equal(t, apply.SkippedOlder, f.do(balance(60, 100, t0.Add(-time.Second))).Outcome)
	require.Equal(t, 1, f.api.Count(stiggtest.Customer("c")))
}
