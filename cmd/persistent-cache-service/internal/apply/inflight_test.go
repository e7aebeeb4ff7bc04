package apply_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// slowly passes the API's answer on when it is told to, the next time.
type slowly struct {
	apply.Fetcher

	held              atomic.Bool
	answered, release chan struct{}
}

func (s *slowly) EntitlementsState(ctx context.Context, customerID, resourceID string) (entitlements.State, error) {
	state, err := s.Fetcher.EntitlementsState(ctx, customerID, resourceID)
	if s.held.Swap(false) {
		close(s.answered)
		<-s.release
	}
	return state, err
}

// What was fetched before a purge is not written after it: it is what the
// customer had before.
func TestPurgeWhileACustomerIsFetched(t *testing.T) {
	for name, purge := range map[string]string{
		"customer":    `{"type":"customer.archived","customer":{"id":"c"}}`,
		"environment": `{"packagePublished":{"environmentId":"e","migrationType":"ALL_CUSTOMERS"}}`,
	} {
		for policyName, policy := range map[string]cache.Policy{"upsert": cache.Upsert, "update if exists": cache.UpdateIfExists} {
			t.Run(name+"/"+policyName, func(t *testing.T) {
				slow := &slowly{answered: make(chan struct{}), release: make(chan struct{})}
				f := newFixture(t, func(c *apply.Config) {
					c.Policy = policy
					slow.Fetcher, c.Edge = c.Edge, slow
				})
				f.api.SetEntitlements("c", stiggtest.Metered("before", 10, 1))
				f.cached("c", t0)
				require.Equal(t, apply.Refetched, f.do(changed("c")).Outcome)

				slow.held.Store(true)
				result := f.begin(changed("c"))
				<-slow.answered
				f.api.SetEntitlements("c", stiggtest.Metered("after", 10, 1))
				require.Equal(t, apply.Purged, f.do(purge).Outcome)
				close(slow.release)
				r := <-result
				require.Equal(t, apply.Delete, r.Fate)
				require.NotContains(t, f.get("p:c_c"), "before", r.Outcome)
			})
		}
	}
}
