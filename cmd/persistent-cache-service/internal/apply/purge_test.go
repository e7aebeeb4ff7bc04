package apply_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
)

func published(at time.Time) string {
	return fmt.Sprintf(`{"type":"package.published","timestamp":%q,"migrationType":"ALL_CUSTOMERS"}`, at.Format(time.RFC3339))
}

// A list from before a package was published does not bring back what the
// package changed.
func TestLateListAfterPurgeAll(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
	f.cached("c", t0)
	require.Equal(t, apply.Purged, f.do(published(t0.Add(time.Hour))).Outcome)
	require.Equal(t, apply.Purged, f.do(published(t0)).Outcome, "another, from earlier")
	for _, customer := range []string{"c", "never seen"} {
		require.Equal(t, apply.SkippedOlder, f.do(list(customer, "x", t0.Add(time.Minute))).Outcome)
		require.Empty(t, f.get("p:c_"+customer))
		require.Equal(t, apply.Applied, f.do(list(customer, "x", t0.Add(2*time.Hour))).Outcome)
	}
	ttl, err := f.redis.TTL(t.Context(), apply.ServiceKey("p", "purged")).Result()
	require.NoError(t, err)
	require.Positive(t, ttl, "not kept for ever")
}

// The later of the two purges counts, the customer's own and the environment's.
func TestLateListAfterBothPurges(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
	archived := `{"type":"customer.archived","timestamp":%q,"customer":{"id":"c"}}`
	require.Equal(t, apply.Purged, f.do(fmt.Sprintf(archived, t0.Add(2*time.Hour).Format(time.RFC3339))).Outcome)
	require.Equal(t, apply.Purged, f.do(published(t0.Add(time.Hour))).Outcome)
	require.Equal(t, apply.SkippedOlder, f.do(list("c", "x", t0.Add(90*time.Minute))).Outcome)
	require.Equal(t, apply.Purged, f.do(published(t0.Add(3*time.Hour))).Outcome)
	require.Equal(t, apply.SkippedOlder, f.do(list("c", "x", t0.Add(150*time.Minute))).Outcome)
	require.Equal(t, apply.Applied, f.do(list("c", "x", t0.Add(4*time.Hour))).Outcome)
}

// A purge whose message has no time of its own is of the best known time.
func TestPurgeWithoutItsOwnTime(t *testing.T) {
	for name, body := range map[string]string{
		"customer":    `{"type":"customer.deleted","customer":{"id":"c"}}`,
		"environment": `{"packagePublished":{"migrationType":"ALL_CUSTOMERS"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
			f.cached("c", t0)
			m, err := message.Decode(body)
			require.NoError(t, err)
			out := make(chan apply.Result, 1)
			f.engine.Submit(apply.Job{Message: m, At: t0.Add(time.Hour), Done: func(r apply.Result) { out <- r }})
			require.Equal(t, apply.Purged, (<-out).Outcome)
			require.Equal(t, apply.SkippedOlder, f.do(list("c", "x", t0.Add(time.Minute))).Outcome)
			require.Equal(t, apply.Applied, f.do(list("c", "x", t0.Add(2*time.Hour))).Outcome)
		})
	}
}

// panicOnce panics at the first SCAN.
type panicOnce struct{ scans atomic.Int32 }

func (*panicOnce) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (*panicOnce) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (p *panicOnce) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, c goredis.Cmder) error {
		if c.Name() == "scan" && p.scans.Add(1) == 1 {
			panic("quoting a customer")
		}
		return next(ctx, c)
	}
}

// A panic in the purge of the environment is caught, counted and told; the
// message stays in the queue, and the next purge is carried out.
func TestPanicInPurgeAll(t *testing.T) {
	f := newFixture(t, nil)
	f.redis.AddHook(&panicOnce{})
	f.cached("c", t0)
	r := f.do(published(t0))
	require.Equal(t, apply.Panicked, r.Outcome)
	require.Equal(t, apply.Leave, r.Fate)
	f.mu.Lock()
	require.Equal(t, []string{"package.published id"}, f.panics)
	f.mu.Unlock()
	require.Equal(t, apply.Purged, f.do(published(t0)).Outcome)
	require.Empty(t, f.get("p:c_c"))
}

// afterMGet does something once, when the answer to an MGET is there.
type afterMGet struct {
	do   func()
	done atomic.Bool
}

func (*afterMGet) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (*afterMGet) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (h *afterMGet) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, c goredis.Cmder) error {
		err := next(ctx, c)
		if c.Name() == "mget" && h.done.CompareAndSwap(false, true) {
			h.do()
		}
		return err
	}
}

// A list that was found new before a purge does not outlive the purge, though
// it is written after it: neither where every list is written, nor where those
// of customers that are cached are, of whom a purge leaves the usages.
func TestListThatMeetsAPurge(t *testing.T) {
	const body = `{"type":"entitlements.updated","timestamp":%q,"customer":{"id":"c"},"entitlements":[` +
		`{"feature":{"id":"x","featureType":"NUMBER","meterType":"INCREMENTAL"},"usageLimit":10,"currentUsage":1}]}`
	list := func(at time.Time) string { return fmt.Sprintf(body, at.Format(time.RFC3339)) }
	for name, purge := range map[string]string{
		"environment": published(t0.Add(time.Hour)),
		"customer":    fmt.Sprintf(`{"type":"customer.archived","timestamp":%q,"customer":{"id":"c"}}`, t0.Add(time.Hour).Format(time.RFC3339)),
	} {
		for policyName, policy := range map[string]cache.Policy{"upsert": cache.Upsert, "update if exists": cache.UpdateIfExists} {
			t.Run(name+"/"+policyName, func(t *testing.T) {
				with := func(c *apply.Config) { c.Policy = policy }
				f := newFixture(t, with)
				other := f.another(with)
				f.cached("c", t0.Add(-time.Hour))
				require.Equal(t, apply.Applied, f.do(list(t0.Add(-time.Minute))).Outcome)
				f.redis.AddHook(&afterMGet{do: func() {
					require.Equal(t, apply.Purged, other.do(purge).Outcome)
				}})
				require.Equal(t, apply.SkippedOlder, f.do(list(t0)).Outcome)
				require.Empty(t, f.get("p:c_c"))
				require.Empty(t, f.get("p:c_c#timestamp"))
				if policy == cache.Upsert {
					require.Equal(t, apply.Applied, f.do(list(t0.Add(2*time.Hour))).Outcome)
				} else {
					require.Equal(t, apply.NotCached, f.do(list(t0.Add(2*time.Hour))).Outcome)
				}
			})
		}
	}
}
