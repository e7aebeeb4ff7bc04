package apply_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/metrics"
)

// waitedUpTo is how many refetches waited for their turn no longer than so
// many seconds, which have to be a bound of the figure's, and how many there
// were.
func waitedUpTo(t *testing.T, m *metrics.Metrics, seconds float64) (n, all uint64) {
	families, err := m.Registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "persistent_cache_refetch_wait_seconds" {
			continue
		}
		h := family.GetMetric()[0].GetHistogram()
		for _, b := range h.GetBucket() {
			if b.GetUpperBound() == seconds {
				return b.GetCumulativeCount(), h.GetSampleCount()
			}
		}
	}
	t.Fatal("no such figure")
	return 0, 0
}

// When more has to be fetched than the rate allows, the figure that the alert
// PersistentCacheRefetchLimit watches tells how long refetches wait, also those
// that wait behind the few that may be under way.
func TestWaitForATurnIsMeasured(t *testing.T) {
	m := metrics.New("test")
	f := newFixture(t, func(c *apply.Config) { c.RefetchesPerMinute, c.Policy, c.Metrics = 1200, cache.Upsert, m })
	const customers = 120 // of which 20 go at once, and then 20 each second
	var wg sync.WaitGroup
	for i := range customers {
		wg.Add(1)
		changed, err := message.Decode(changed(fmt.Sprint("c", i)))
		require.NoError(t, err)
		f.engine.Submit(apply.Job{Message: changed, At: t0, Done: func(apply.Result) { wg.Done() }})
	}
	wg.Wait()
	soon, all := waitedUpTo(t, m, 2.5)
	require.EqualValues(t, customers, all)
	require.Less(t, soon, uint64(customers*3/4))
}
