package apply_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/logging"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/metrics"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/edge"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(logging.Redis{Log: slog.New(slog.DiscardHandler)})
	goleak.VerifyTestMain(m)
}

var t0 = time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)

type fixture struct {
	t      *testing.T
	server *redistest.Server
	redis  *goredis.Client
	store  *cache.Store
	api    *stiggtest.Server
	engine *apply.Engine
	gate   *watch.Gate

	mu     sync.Mutex
	panics []string
}

func newFixture(t *testing.T, change func(*apply.Config)) *fixture {
	f := &fixture{t: t, server: redistest.Start(t), api: stiggtest.New(t)}
	f.run(change)
	return f
}

// another is a second instance, with the same Redis and API.
func (f *fixture) another(change func(*apply.Config)) *fixture {
	g := &fixture{t: f.t, server: f.server, api: f.api}
	g.run(change)
	return g
}

func (f *fixture) run(change func(*apply.Config)) {
	f.redis = f.server.Client()
	f.store = cache.NewStore(cache.Options{Client: f.redis, Prefix: "p"})
	f.gate = watch.NewGate(func(ctx context.Context) error { return f.redis.Ping(ctx).Err() }, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var gate sync.WaitGroup
	gate.Go(func() { f.gate.Run(ctx) })
	client := edge.New(edge.Config{BaseURL: f.api.URL(), APIKey: "key", MaxRetries: -1})
	config := apply.Config{
		Store: f.store, Redis: f.redis, Prefix: "p", Policy: cache.UpdateIfExists, Gate: f.gate,
		Edge: client, API: watch.NewDependency(nil), RefetchesPerMinute: 6000,
		Metrics: metrics.New("test"), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnPanic: func(value any, messageType, messageID string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.panics = append(f.panics, messageType+" "+messageID)
		},
	}
	if change != nil {
		change(&config)
	}
	f.engine = apply.New(config)
	f.t.Cleanup(func() {
		f.engine.Stop()
		f.engine.Wait()
		cancel()
		gate.Wait()
		client.CloseIdle()
	})
}

// do carries out a message and returns what became of it.
func (f *fixture) do(body string) apply.Result {
	f.t.Helper()
	select {
	case r := <-f.begin(body):
		return r
	case <-time.After(20 * time.Second):
		f.t.Fatal("no result")
		return apply.Result{}
	}
}

func (f *fixture) begin(body string) <-chan apply.Result {
	f.t.Helper()
	m, err := message.Decode(body)
	require.NoError(f.t, err)
	out := make(chan apply.Result, 1)
	at := m.Time
	if at.IsZero() {
		at = time.Now()
	}
	f.engine.Submit(apply.Job{ID: "id", Message: m, At: at, Done: func(r apply.Result) { out <- r }})
	return out
}

func (f *fixture) cached(customerID string, at time.Time) {
	f.t.Helper()
	value := cache.ValueKey("p", cache.Key{CustomerID: customerID})
	for key, v := range map[string]string{value: "{}", value + "#timestamp": fmt.Sprint(at.UnixMilli())} {
		require.NoError(f.t, f.redis.Set(f.t.Context(), key, v, time.Hour).Err())
	}
}

func (f *fixture) get(key string) string {
	f.t.Helper()
	v, err := f.redis.Get(f.t.Context(), key).Result()
	if errors.Is(err, goredis.Nil) {
		return ""
	}
	require.NoError(f.t, err)
	return v
}

func list(customerID, feature string, at time.Time) string {
	return fmt.Sprintf(`{"type":"entitlements.updated","timestamp":%q,"customer":{"id":%q},"entitlements":[{"feature":{"id":%q,"featureType":"BOOLEAN"}}]}`,
		at.Format(time.RFC3339Nano), customerID, feature)
}

func changed(customerID string) string {
	return fmt.Sprintf(`{"type":"customer.updated","customer":{"id":%q}}`, customerID)
}

// Whatever the order in which lists arrive, the newest stays.
func TestOrderDoesNotMatter(t *testing.T) {
	f := newFixture(t, nil)
	for round := range 20 {
		customer := fmt.Sprint("c", round)
		f.cached(customer, t0)
		var results []<-chan apply.Result
		for _, n := range rand.Perm(10) {
			results = append(results, f.begin(list(customer, fmt.Sprint("f", n), t0.Add(time.Duration(n+1)*time.Second))))
		}
		for _, r := range results {
			require.Contains(t, []string{apply.Applied, apply.SkippedOlder}, (<-r).Outcome)
		}
		require.Contains(t, f.get("p:c_"+customer), `"f9"`)
	}
}

// An empty list is kept without a time, so that a list that meets one is
// settled by asking.
func TestListAfterEmptyIsFetched(t *testing.T) {
	f := newFixture(t, nil)
	f.api.SetEntitlements("c", stiggtest.Boolean("now"))
	f.cached("c", time.UnixMilli(0))
	require.Equal(t, apply.Refetched, f.do(list("c", "then", t0)).Outcome)
	require.Contains(t, f.get("p:c_c"), "now")
	require.NotContains(t, f.get("p:c_c"), "then")
}

// The customer lost everything: the API says why, and that is kept.
func TestEmptyListIsFetched(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	f.api.SetEntitlements("c", stiggtest.Boolean("x"))
	f.api.SetAccessDeniedReason("c", entitlements.NoActiveSubscription)
	require.Equal(t, apply.Refetched, f.do(`{"type":"entitlements.updated","customer":{"id":"c"},"entitlements":[]}`).Outcome)
	require.Equal(t, "{}", f.get("p:c_c"))
	require.Contains(t, f.get("p:c_c:metadata"), "NoActiveSubscription")
}

// What was fetched as empty must not overwrite what was written meanwhile.
func TestEmptyFetchDoesNotOverwrite(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	release := make(chan struct{})
	remove := f.api.Fault(stiggtest.Hold(release).On(stiggtest.Customer("c")))
	result := f.begin(changed("c"))
	require.NoError(t, f.api.WaitForRequests(t.Context(), 1, stiggtest.Customer("c")))
	remove()
	require.Equal(t, apply.Applied, f.do(list("c", "newer", t0.Add(time.Hour))).Outcome)
	f.api.SetEntitlements("c", stiggtest.Boolean("newest"))
	close(release)
	require.Equal(t, apply.Refetched, (<-result).Outcome)
	require.NotEqual(t, "{}", f.get("p:c_c"))
}

// Many messages about a customer are one request; one that comes after the
// request began needs another.
func TestCoalescing(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	f.api.SetEntitlements("c", stiggtest.Boolean("x"))
	release := make(chan struct{})
	remove := f.api.Fault(stiggtest.Hold(release).On(stiggtest.Customer("c")))
	var results []<-chan apply.Result
	for range 50 {
		results = append(results, f.begin(changed("c")))
	}
	require.NoError(t, f.api.WaitForRequests(t.Context(), 1, stiggtest.Customer("c")))
	remove()
	for range 50 {
		results = append(results, f.begin(changed("c")))
	}
	require.Eventually(t, func() bool { return f.engine.Waiting() == 100 }, 5*time.Second, time.Millisecond)
	close(release)
	for _, r := range results {
		require.Contains(t, []string{apply.Refetched, apply.Applied}, (<-r).Outcome)
	}
	require.Equal(t, 2, f.api.Count(stiggtest.Customer("c")))
	require.Zero(t, f.engine.Waiting())
}

// While the API fails, messages gather, and one request serves them all.
func TestCoalescingWhileTheAPIFails(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	f.api.SetEntitlements("c", stiggtest.Boolean("x"))
	f.api.Fault(stiggtest.Status(503).On(stiggtest.Customer("c")).Times(1))
	results := []<-chan apply.Result{f.begin(changed("c"))}
	require.NoError(t, f.api.WaitForRequests(t.Context(), 1, stiggtest.Customer("c")))
	for range 10 {
		results = append(results, f.begin(changed("c")))
	}
	for _, r := range results {
		require.Equal(t, apply.Refetched, (<-r).Outcome)
	}
	require.Equal(t, 2, f.api.Count(stiggtest.Customer("c")))
}

// A list from before the customer was archived does not bring it back.
func TestLateListAfterPurge(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
	archived := func(at time.Time) string {
		return fmt.Sprintf(`{"type":"customer.archived","timestamp":%q,"customer":{"id":"c"}}`, at.Format(time.RFC3339))
	}
	f.cached("c", t0)
	require.Equal(t, apply.Purged, f.do(archived(t0.Add(time.Hour))).Outcome)
	require.Equal(t, apply.Purged, f.do(archived(t0)).Outcome, "the same, from earlier")
	require.Equal(t, apply.SkippedOlder, f.do(list("c", "x", t0.Add(time.Minute))).Outcome)
	require.Empty(t, f.get("p:c_c"))
	require.Equal(t, apply.Applied, f.do(list("c", "x", t0.Add(2*time.Hour))).Outcome, "unarchived")
}

// A reader that fetched before a change, and writes after it, must not leave
// the older state behind.
func TestReaderIsWaitedFor(t *testing.T) {
	for name, body := range map[string]string{
		"list":    list("c", "x", t0.Add(time.Hour)),
		"refetch": changed("c"),
		"usage":   `{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"f","type":"FEATURE"},"usage":{"currentUsage":5,"usageUpdatedAt":"2026-06-01T11:00:00Z"}}}`,
		"balance": `{"creditBalanceUpdated":{"customerId":"c","currencyId":"u","currentBalance":1,"totalGranted":6},"timestamp":"2026-06-01T11:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.api.SetEntitlements("c", stiggtest.Boolean("x"))
			lock := cache.RefetchLockKey("p", cache.Key{CustomerID: "c"})
			require.NoError(t, f.redis.Set(t.Context(), lock, "a reader", 5*time.Second).Err())
			result := f.begin(body)
			select {
			case r := <-result:
				t.Fatalf("did not wait: %s", r.Outcome)
			case <-time.After(400 * time.Millisecond):
			}
			f.cached("c", t0)
			require.NoError(t, f.redis.Del(t.Context(), lock).Err())
			require.Contains(t, []string{apply.Applied, apply.Refetched}, (<-result).Outcome)
		})
	}
}

func TestNotCachedIsNotFetched(t *testing.T) {
	f := newFixture(t, nil)
	require.Equal(t, apply.NotCached, f.do(changed("c")).Outcome)
	require.Equal(t, apply.NotCached, f.do(list("c", "x", t0)).Outcome)
	require.Zero(t, f.api.Count())
}

// All instances together keep to the rate.
func TestRateIsShared(t *testing.T) {
	const perMinute = 600 // ten a second, and ten at once
	f := newFixture(t, func(c *apply.Config) { c.RefetchesPerMinute, c.Policy = perMinute, cache.Upsert })
	client := edge.New(edge.Config{BaseURL: f.api.URL(), APIKey: "key", MaxRetries: -1})
	defer client.CloseIdle()
	other := apply.New(apply.Config{
		Store: f.store, Redis: f.redis, Prefix: "p", Policy: cache.Upsert, Gate: f.gate, Edge: client,
		API: watch.NewDependency(nil), RefetchesPerMinute: perMinute, Metrics: metrics.New("test"), Log: slog.New(slog.DiscardHandler),
	})
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		engine := []*apply.Engine{f.engine, other}[i%2]
		m, err := message.Decode(changed(fmt.Sprint("c", i)))
		require.NoError(t, err)
		engine.Submit(apply.Job{Message: m, At: t0, Done: func(apply.Result) { wg.Done() }})
	}
	wg.Wait()
	other.Wait()
	require.Equal(t, 40, f.api.Count())
	require.GreaterOrEqual(t, time.Since(began), 2900*time.Millisecond)
	require.Less(t, time.Since(began), 15*time.Second)
}

// The API's wish to wait holds for all instances.
func TestRateLimited(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("a", t0)
	f.cached("b", t0)
	f.api.SetEntitlements("a", stiggtest.Boolean("x"))
	f.api.SetEntitlements("b", stiggtest.Boolean("x"))
	f.api.Fault(stiggtest.Status(429).RetryAfter(2 * time.Second).On(stiggtest.Customer("a")).Times(1))
	a := f.begin(changed("a"))
	require.NoError(t, f.api.WaitForRequests(t.Context(), 1, stiggtest.Customer("a")))
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	require.Equal(t, apply.Refetched, f.do(changed("b")).Outcome)
	require.Greater(t, time.Since(began), 1500*time.Millisecond)
	require.Equal(t, apply.Refetched, (<-a).Outcome)
}

// When too many wait for the API, more are given back to the queue, and what
// needs no API goes on.
func TestTooManyWait(t *testing.T) {
	f := newFixture(t, nil)
	f.api.Fault(stiggtest.Status(503))
	for i := range apply.MaxWaiting {
		f.begin(changed(fmt.Sprint("c", i)))
	}
	require.Eventually(t, func() bool { return f.engine.Waiting() == apply.MaxWaiting || f.engine.Waiting() == 0 }, 5*time.Second, time.Millisecond)
	for i := range apply.MaxWaiting {
		f.cached(fmt.Sprint("d", i), t0)
	}
	// Those that are not cached make room, and none of it later.
	require.Eventually(t, func() bool { return f.engine.Waiting() == 0 }, 5*time.Second, time.Millisecond)
	for i := range apply.MaxWaiting {
		f.begin(changed(fmt.Sprint("d", i)))
	}
	require.Eventually(t, func() bool { return f.engine.Waiting() == apply.MaxWaiting }, 5*time.Second, time.Millisecond)
	f.cached("e", t0)
	r := f.do(changed("e"))
	require.Equal(t, apply.Return, r.Fate)
	require.GreaterOrEqual(t, r.Delay, time.Minute)
	require.LessOrEqual(t, r.Delay, 2*time.Minute)
	m, err := message.Decode(changed("e"))
	require.NoError(t, err)
	out := make(chan apply.Result, 1)
	f.engine.Submit(apply.Job{Message: m, At: t0, ReceiveCount: 5, Done: func(r apply.Result) { out <- r }})
	require.GreaterOrEqual(t, (<-out).Delay, 16*time.Minute, "received often before")
	require.Equal(t, apply.Applied, f.do(list("e", "x", t0.Add(time.Hour))).Outcome)
}

// A customer for which the API's answer is no answer stays in the queue for
// its redrive policy.
func TestRejectedByTheAPI(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	f.api.Fault(stiggtest.Malformed().On(stiggtest.Customer("c")))
	r := f.do(changed("c"))
	require.Equal(t, apply.Failed, r.Outcome)
	require.Equal(t, apply.Leave, r.Fate)
	require.Error(t, r.Err)
	require.Equal(t, 3, f.api.Count(stiggtest.Customer("c")))
	require.Equal(t, strconv.FormatInt(t0.UnixMilli(), 10), f.get("p:c_c#timestamp"))
}

// Another writer that holds the customer's lock is waited for.
func TestLockIsRespected(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.LockRetryCount = 2 })
	f.cached("c", t0)
	lock := cache.WriteLockKey("p", cache.Key{CustomerID: "c"})
	require.NoError(t, f.redis.Set(t.Context(), lock, "another", 1500*time.Millisecond).Err())
	began := time.Now()
	require.Equal(t, apply.Applied, f.do(list("c", "x", t0.Add(time.Hour))).Outcome)
	require.Greater(t, time.Since(began), time.Second)
}

type panicking struct{}

func (panicking) EntitlementsState(context.Context, string, string) (entitlements.State, error) {
	panic("quoting a customer")
}

// A panic is caught, counted and told; the message stays in the queue, and the
// customer's next message is carried out.
func TestPanic(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Edge = panicking{} })
	f.cached("c", t0)
	r := f.do(changed("c"))
	require.Equal(t, apply.Panicked, r.Outcome)
	require.Equal(t, apply.Leave, r.Fate)
	f.mu.Lock()
	require.Equal(t, []string{"customer.updated id"}, f.panics)
	f.mu.Unlock()
	require.Equal(t, apply.Applied, f.do(list("c", "x", t0.Add(time.Hour))).Outcome)
}

// A stop does not wait for what may take long.
func TestStop(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	f.api.Fault(stiggtest.Status(503))
	waiting := f.begin(changed("c"))
	require.NoError(t, f.api.WaitForRequests(t.Context(), 1))
	f.server.Stop()
	require.Eventually(t, func() bool { return !f.gate.Up() }, 5*time.Second, 10*time.Millisecond)
	held := f.begin(list("d", "x", t0))
	f.engine.Stop()
	for _, r := range []<-chan apply.Result{waiting, held} {
		select {
		case r := <-r:
			require.Equal(t, apply.Return, r.Fate)
			require.Zero(t, r.Delay)
		case <-time.After(10 * time.Second):
			t.Fatal("waits")
		}
	}
	f.server.Start()
}

// A purge goes through an environment of any size, and leaves others alone.
func TestPurgeAll(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Prefix = "p*[x]" })
	pipe := f.redis.Pipeline()
	const customers = 3000
	for i := range customers {
		for _, suffix := range []string{"", "#timestamp", ":metadata", ":metadata#timestamp", ":r_1", ":f_x", ":f_x#timestamp", ":credit_u"} {
			pipe.Set(t.Context(), fmt.Sprintf("p*[x]:c_%d%s", i, suffix), "{}", 0)
		}
		pipe.Set(t.Context(), fmt.Sprintf("pxx:c_%d", i), "{}", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	require.Equal(t, apply.Purged, f.do(`{"packagePublished":{"migrationType":"ALL_CUSTOMERS"}}`).Outcome)
	keys, err := f.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Equal(t, customers*4+1, len(keys))
	for _, key := range keys {
		require.True(t, key == apply.ServiceKey("p*[x]", "purged") || strings.Contains(key, ":f_x") || strings.Contains(key, ":credit_u") || strings.HasPrefix(key, "pxx:"), key)
	}
}

// A list that Redis refuses, however often it is tried, is not tried for ever.
func TestListThatRedisRefuses(t *testing.T) {
	f := newFixture(t, func(c *apply.Config) { c.Policy = cache.Upsert })
	var entries []string
	for i := range 9000 {
		entries = append(entries, fmt.Sprintf(`{"creditBalance":{"creditCurrency":{"id":"u%d"},"totalGranted":1,"remainingBalance":1}}`, i))
	}
	r := f.do(`{"type":"entitlements.updated","timestamp":1780308000000,"customer":{"id":"c"},"entitlements":[` + strings.Join(entries, ",") + `]}`)
	require.Contains(t, []string{apply.Applied, apply.Failed}, r.Outcome)
	t.Log(r.Outcome, r.Err)
	require.Equal(t, apply.Applied, f.do(list("c2", "x", t0)).Outcome)
}
