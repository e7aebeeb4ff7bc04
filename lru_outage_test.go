package stigg_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// soak is how long an outage lasts: STIGG_SOAK, else long enough for every
// stage of one.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("STIGG_SOAK")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

// load is 64 goroutines that check, with what they saw.
type load struct {
	client    *stigg.Client
	customers int
	stop      atomic.Bool
	running   sync.WaitGroup

	mu        sync.Mutex
	latencies []time.Duration
	outcomes  map[string]int
}

// startLoad starts checks of customers by a client.
func startLoad(client *stigg.Client, customers int) *load {
	l := &load{client: client, customers: customers, outcomes: make(map[string]int)}
	for i := range 64 {
		l.running.Go(func() {
			for n := i; !l.stop.Load(); n++ {
				l.check(n)
				time.Sleep(time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) check(n int) {
	began := time.Now()
	a, err := l.client.GetMeteredEntitlement(background(), stigg.MeteredQuery{
		CustomerID: fmt.Sprint("customer-", n%l.customers), FeatureID: "calls", RequestedUsage: 1,
	})
	took := time.Since(began)
	outcome := fmt.Sprintf("%s, granted %t, stale %t, fallback %t", a.Source, a.HasAccess, a.Stale, a.IsFallback)
	switch {
	case errors.Is(err, stigg.ErrUnavailable):
		outcome += ", unavailable"
	case err != nil:
		outcome += ", " + err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latencies = append(l.latencies, took)
	l.outcomes[outcome]++
}

// reset begins a new stage and gives what was seen in the last one.
func (l *load) reset() (latencies []time.Duration, outcomes map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	latencies, outcomes = l.latencies, l.outcomes
	l.latencies, l.outcomes = nil, make(map[string]int)
	slices.Sort(latencies)
	return latencies, outcomes
}

// checked is how many checks this stage has seen.
func (l *load) checked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.latencies)
}

func (l *load) end() {
	l.stop.Store(true)
	l.running.Wait()
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))].Round(time.Microsecond)
}

// TestRedisAwayUnderLoad kills Redis under 64 goroutines: no check fails, the
// API is not flooded, Redis is used again within 2 s of its return, little is
// logged, and nothing is left of it all.
func TestRedisAwayUnderLoad(t *testing.T) {
	const customers = 20
	server, api := redistest.Start(t, redistest.AOF()), stiggtest.New(t)
	var names []string
	for n := range customers {
		names = append(names, fmt.Sprint("customer-", n))
		api.SetEntitlements(names[n], stiggtest.Metered("calls", 100, 40))
	}
	fill(t, api, server, names...)
	lines, goroutines := &logLines{}, runtime.NumGoroutine()
	client := newClient(t, api, server, defaultTimeout, withLRU(1000), lines.to)
	l := startLoad(client, customers)
	defer l.end()
	eventually(t, func() bool { return client.Stats().MemoryHits > 1000 }, "memory hits")
	api.ResetRequests()
	l.reset()
	before := len(lines.with(""))

	outage := soak(t)
	server.Kill()
	time.Sleep(outage)
	away, outcomes := l.reset()
	requests := api.Count(isFetch)
	server.Start()
	back := time.Now()
	setUsageNow(t, server.Client(), "lab:c_customer-0:f_calls", 77)
	eventually(t, func() bool {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "customer-0", FeatureID: "calls"})
		return err == nil && a.CurrentUsage == 77 && a.Source == stigg.SourceMemory
	}, "what Redis tells is remembered")
	recovery := time.Since(back)
	logged := len(lines.with("")) - before
	_, after := l.reset()
	l.end()
	require.NoError(t, client.Close())
	for giveUp := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(giveUp), "goroutines as before") // eventually would be one more
	}

	t.Logf("away for %v: %d checks, p50 %v, p99 %v, p99.9 %v, longest %v; %d requests to the api; back in %v; %d lines logged",
		outage, len(away), percentile(away, 0.5), percentile(away, 0.99), percentile(away, 0.999), percentile(away, 1), requests, recovery.Round(time.Millisecond), logged)
	for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
		t.Logf("%8d %s", outcomes[outcome], outcome)
	}
	for _, seen := range []map[string]int{outcomes, after} {
		for outcome := range seen {
			require.Contains(t, []string{
				"memory, granted true, stale false, fallback false",
				"redis, granted true, stale false, fallback false",
				"edge, granted true, stale false, fallback false",
			}, outcome)
		}
	}
	// Each customer is asked for once in RedisConfig.OutageTTL, and a few times
	// until it is known that Redis is away.
	require.LessOrEqual(t, requests, customers*(int(outage/(5*time.Second))+4))
	require.Less(t, recovery, 4*time.Second, "2 s, and what a busy machine adds to it")
	require.LessOrEqual(t, logged, 6, lines.with(""))
}

// TestRedisAndAPIAwayUnderLoad ends both: what is in memory is answered from,
// marked as stale, with an error that says why, until MaxStale is over; then
// the fallback. Nobody waits.
func TestRedisAndAPIAwayUnderLoad(t *testing.T) {
	const customers, maxStale = 20, 2 * time.Second
	server, api := redistest.Start(t), stiggtest.New(t)
	var names []string
	for n := range customers {
		names = append(names, fmt.Sprint("customer-", n))
		api.SetEntitlements(names[n], stiggtest.Metered("calls", 100, 40))
	}
	fill(t, api, server, names...)
	lines := &logLines{}
	client := newClient(t, api, server, defaultTimeout, lines.to, func(c *stigg.Config) {
		c.LRU = &stigg.LRUConfig{MaxEntries: 1000, MaxStale: maxStale}
	})
	l := startLoad(client, customers)
	defer l.end()
	eventually(t, func() bool { return client.Stats().MemoryHits > 1000 }, "memory hits")
	api.Close()
	time.Sleep(3 * maxStale / 2) // the last confirmation is that of Redis, which goes on
	l.reset()
	server.Kill()
	killed := time.Now()
	time.Sleep(maxStale / 2)
	latencies, outcomes := l.reset()
	t.Logf("%d checks, p50 %v, p99 %v, longest %v: %v", len(latencies), percentile(latencies, 0.5), percentile(latencies, 0.99), percentile(latencies, 1), outcomes)
	for outcome := range outcomes {
		require.Contains(t, []string{
			"memory, granted true, stale false, fallback false",
			"redis, granted true, stale false, fallback false",
			"memory, granted true, stale true, fallback false, unavailable",
		}, outcome)
	}
	require.Positive(t, outcomes["memory, granted true, stale true, fallback false, unavailable"])

	time.Sleep(time.Until(killed.Add(maxStale + time.Second))) // the checks that began before it are over
	l.reset()
	// A check can be trying the API again, for which the others wait.
	eventually(t, func() bool { return l.checked() >= 1000 }, "checks")
	_, outcomes = l.reset()
	require.Equal(t, []string{"fallback, granted false, stale false, fallback true, unavailable"}, slices.Collect(maps.Keys(outcomes)),
		"being asked for has not renewed anything")
	require.LessOrEqual(t, len(lines.with("")), 6, lines.with(""))
}
