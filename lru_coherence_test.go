package stigg_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// coherenceDelay is how long after a write of another program has returned no
// check sees what was before it.
const coherenceDelay = 50 * time.Millisecond

// settle waits until a change of another program, whose write has returned, was
// heard of: for coherenceDelay, and for longer where the machine has other
// things to do than to let this process hear.
func settle() {
	for range coherenceDelay / time.Millisecond {
		time.Sleep(time.Millisecond)
	}
}

// coherenceRest is after how many writes the writer rests for longer than that:
// a value that was kept too late shows when no later write sweeps it away.
const coherenceRest = 200

// coherenceUnset is a number in what the API says that no write reaches.
const coherenceUnset = 1_000_000_000

// coherent is something that another program writes in numbered steps.
type coherent struct {
	name string
	// write makes step n what Redis holds, in the form and order of the Node
	// SDK: value, then timestamp.
	write func(pipe redis.Pipeliner, n int64, at int64)
	// read tells at which step a client sees it.
	read func(client *stigg.Client) (n float64, source stigg.Source, err error)
}

func setPair(pipe redis.Pipeliner, key, value string, at int64) {
	pipe.Set(context.Background(), key, value, time.Hour)
	pipe.Set(context.Background(), key+"#timestamp", strconv.FormatInt(at, 10), time.Hour)
}

// setUsage writes a usage as the Node SDK does.
func setUsage(pipe redis.Pipeliner, key string, used, at int64) {
	setPair(pipe, key, fmt.Sprintf(`{"currentUsage":%d,"usagePeriodStart":null,"usagePeriodEnd":null}`, used), at)
}

// coherenceAPI has a customer, a resource of it, and a customer without
// entitlements.
func coherenceAPI(t testing.TB) *stiggtest.Server {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Metered("calls", coherenceUnset*2, coherenceUnset),
		stiggtest.Credit("tokens", coherenceUnset*2, coherenceUnset), stiggtest.Numeric("seats", coherenceUnset))
	api.SetResourceEntitlements("acme", "site", stiggtest.Metered("calls", coherenceUnset*2, coherenceUnset))
	api.SetEntitlements("nobody")
	return api
}

// coherents are what changes. The value is one of acme's as it was written.
func coherents(value string) []coherent {
	ctx := context.Background()
	return []coherent{
		{"usage", func(pipe redis.Pipeliner, n, at int64) { setUsage(pipe, "lab:c_acme:f_calls", n, at) },
			func(c *stigg.Client) (float64, stigg.Source, error) {
				a, err := c.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
				return a.CurrentUsage, a.Source, err
			}},
		{"credit", func(pipe redis.Pipeliner, n, at int64) { setUsage(pipe, "lab:c_acme:credit_tokens", n, at) },
			func(c *stigg.Client) (float64, stigg.Source, error) {
				a, err := c.GetCreditEntitlement(ctx, stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
				return a.CurrentUsage, a.Source, err
			}},
		{"value", func(pipe redis.Pipeliner, n, at int64) {
			setPair(pipe, "lab:c_acme", strings.Replace(value, fmt.Sprintf(`"usageLimit":%d,`, coherenceUnset), fmt.Sprintf(`"usageLimit":%d,`, n), 1), at)
			setPair(pipe, "lab:c_acme:metadata", `{"accessDeniedReason":null}`, at)
		}, func(c *stigg.Client) (float64, stigg.Source, error) {
			a, err := c.GetNumericEntitlement(ctx, stigg.NumericQuery{CustomerID: "acme", FeatureID: "seats"})
			return a.Value, a.Source, err
		}},
		{"metadata", func(pipe redis.Pipeliner, n, at int64) {
			setPair(pipe, "lab:c_nobody", `{}`, 0)
			setPair(pipe, "lab:c_nobody:metadata", fmt.Sprintf(`{"accessDeniedReason":"Reason%d"}`, n), at)
		}, func(c *stigg.Client) (float64, stigg.Source, error) {
			a, err := c.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "nobody", FeatureID: "on"})
			n, parseErr := strconv.ParseFloat(strings.TrimPrefix(string(a.AccessDeniedReason), "Reason"), 64)
			if parseErr != nil {
				n = coherenceUnset
			}
			return n, a.Source, err
		}},
		{"usage in the list", func(pipe redis.Pipeliner, n, at int64) { setUsage(pipe, "lab:c_acme:f_calls", n, at) },
			func(c *stigg.Client) (float64, stigg.Source, error) {
				state, err := c.GetEntitlements(ctx, "acme", "")
				i := slices.IndexFunc(state.Entitlements, func(e stigg.Entitlement) bool { return e.Feature.ID == "calls" })
				if i < 0 {
					return coherenceUnset, state.Source, err
				}
				return state.Entitlements[i].CurrentUsage, state.Source, err
			}},
	}
}

// coherence is a writer with the times of its writes, and checks beside it.
type coherence struct {
	*testing.T
	what   coherent
	client *stigg.Client
	writer *redis.Client
	writes int64
	pause  time.Duration // of a checker between two checks

	start   time.Time
	written []atomic.Int64 // when the write of each step returned, since start; 0: not yet
	stalls  stalls
	stop    atomic.Bool
	checks  atomic.Int64
	memory  atomic.Int64 // checks answered from memory
	counted atomic.Int64 // checks of which it is known whether they came too late
	latest  atomic.Int64 // the longest after a write that a check began that did not see it
	failure atomic.Pointer[string]
}

// stalls are the times in which the machine let nobody run: they are not the
// client's.
type stalls struct {
	mu   sync.Mutex
	list [][2]time.Duration
}

// stallFrom is what counts as a stall.
const stallFrom = 5 * time.Millisecond

// watch notes stalls until stop.
func (s *stalls) watch(start time.Time, stop *atomic.Bool) {
	for !stop.Load() {
		began := time.Since(start)
		time.Sleep(time.Millisecond)
		if ended := time.Since(start); ended-began >= stallFrom {
			s.mu.Lock()
			s.list = append(s.list, [2]time.Duration{began, ended})
			s.mu.Unlock()
		}
	}
}

// within is how long nobody ran between two times.
func (s *stalls) within(from, to time.Duration) (total time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stall := range s.list {
		total += max(0, min(to, stall[1])-max(from, stall[0]))
	}
	return total
}

// check checks once.
func (c *coherence) check() {
	began := time.Since(c.start)
	n, source, err := c.what.read(c.client)
	c.checks.Add(1)
	if err != nil {
		c.fails("%v", err)
		return
	}
	if source == stigg.SourceMemory {
		c.memory.Add(1)
	}
	if source != stigg.SourceMemory && source != stigg.SourceRedis || n < 0 || n+1 >= float64(len(c.written)) {
		return
	}
	c.counted.Add(1)
	next := time.Duration(c.written[int64(n)+1].Load())
	if next == 0 || began <= next {
		return
	}
	late := began - next
	if late >= coherenceDelay && c.pause > 0 {
		late -= c.stalls.within(next, began)
	}
	for old := c.latest.Load(); int64(late) > old && !c.latest.CompareAndSwap(old, int64(late)); old = c.latest.Load() {
	}
	if late >= coherenceDelay {
		c.fails("a check from %s saw step %.0f %v after the write of the next one had returned", source, n, late)
	}
}

func (c *coherence) fails(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.failure.CompareAndSwap(nil, &text)
}

// run writes all steps while 64 goroutines check and disturb runs, if any, and
// tells what was wrong.
func (c *coherence) run(disturb func(done <-chan struct{})) (failure string) {
	c.Helper()
	const checkers = 64
	c.start, c.written = time.Now(), make([]atomic.Int64, c.writes+2)
	at := c.start.UnixMilli()
	var checking, writing sync.WaitGroup
	done := make(chan struct{})
	writing.Go(func() {
		defer close(done)
		for n := int64(1); n <= c.writes; n++ {
			for !c.step(n, at+n) {
				time.Sleep(time.Millisecond) // Redis is away
			}
			c.written[n].Store(int64(time.Since(c.start)))
			if n%coherenceRest == 0 {
				time.Sleep(coherenceDelay + 20*time.Millisecond)
			}
		}
	})
	checking.Go(func() { c.stalls.watch(c.start, &c.stop) })
	for range checkers {
		checking.Go(func() {
			for !c.stop.Load() {
				c.check()
				if c.pause > 0 {
					time.Sleep(c.pause)
				}
			}
		})
	}
	if disturb != nil {
		disturb(done)
	}
	writing.Wait()
	time.Sleep(2 * coherenceDelay) // the last step is to be seen as well
	c.stop.Store(true)
	checking.Wait()
	c.Logf("%s: %d writes in %v, %d checks, %d from memory, %d counted, latest %v, %d stalls", c.what.name, c.writes,
		time.Since(c.start).Round(time.Millisecond), c.checks.Load(), c.memory.Load(), c.counted.Load(),
		time.Duration(c.latest.Load()).Round(time.Microsecond), len(c.stalls.list))
	require.Positive(c, c.memory.Load())
	require.Positive(c, c.counted.Load())
	if failure := c.failure.Load(); failure != nil {
		return *failure
	}
	return ""
}

func (c *coherence) step(n, at int64) bool {
	_, err := c.writer.TxPipelined(c.Context(), func(pipe redis.Pipeliner) error {
		c.what.write(pipe, n, at)
		return nil
	})
	return err == nil
}

// newCoherence fills Redis and makes a client with a memory.
func newCoherence(t *testing.T, name string, writes int64, options ...redistest.Option) (*coherence, *redistest.Server) {
	t.Helper()
	server, api := redistest.Start(t, options...), coherenceAPI(t)
	fill(t, api, server, "acme", "nobody")
	value, err := server.Client().Get(t.Context(), "lab:c_acme").Result()
	require.NoError(t, err)
	require.Contains(t, value, fmt.Sprintf(`"usageLimit":%d,`, coherenceUnset))
	all := coherents(value)
	i := slices.IndexFunc(all, func(c coherent) bool { return c.name == name })
	return &coherence{
		T: t, what: all[i], writer: server.Client(), writes: writes,
		client: newClient(t, api, server, withLRU(1000)), pause: time.Millisecond,
	}, server
}

// TestCoherence: another program changes something again and again while 64
// goroutines check; no check that begins 50 ms after a write has returned sees
// what was before it.
func TestCoherence(t *testing.T) {
	for name, writes := range map[string]int64{
		"usage": 10_000, "credit": 2000, "value": 2000, "metadata": 2000, "usage in the list": 2000,
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCoherence(t, name, writes)
			require.Empty(t, c.run(nil))
		})
	}
}

// TestCoherenceOfBusyProcessors: the same, where the checks leave no processor
// idle. What the machine does besides can make one run fail, but hardly three.
func TestCoherenceOfBusyProcessors(t *testing.T) {
	const runs = 3
	var failure string
	for range runs {
		c, _ := newCoherence(t, "usage", 3000)
		c.pause = 0
		if failure = c.run(nil); failure == "" {
			return
		}
	}
	t.Fatal(failure)
}

// TestCoherenceThroughDisturbances: the same while the connection that tells
// of changes is cut again and again, the server restarts, or loses everything.
// What the API answers meanwhile is its own word.
func TestCoherenceThroughDisturbances(t *testing.T) {
	every := func(pause time.Duration, what func()) func(<-chan struct{}) {
		return func(done <-chan struct{}) {
			for {
				select {
				case <-done:
					return
				case <-time.After(pause):
					what()
				}
			}
		}
	}
	t.Run("connection killed", func(t *testing.T) {
		c, server := newCoherence(t, "usage", 5000)
		killer, killed := server.Client(), 0
		require.Empty(t, c.run(every(100*time.Millisecond, func() { killed += killTrackers(t, killer) })))
		require.Positive(t, killed)
	})
	t.Run("server restarted", func(t *testing.T) {
		c, server := newCoherence(t, "usage", 1000, redistest.AOF())
		restarts := 0
		require.Empty(t, c.run(func(<-chan struct{}) {
			for ; restarts < 2; restarts++ {
				time.Sleep(500 * time.Millisecond)
				server.Restart()
			}
		}))
		require.Equal(t, 2, restarts)
	})
	t.Run("everything flushed", func(t *testing.T) {
		c, server := newCoherence(t, "usage", 5000)
		flusher, flushes := server.Client(), 0
		require.Empty(t, c.run(every(50*time.Millisecond, func() {
			require.NoError(t, flusher.FlushAll(t.Context()).Err())
			flushes++
		})))
		require.Positive(t, flushes)
	})
}

// killTrackers ends the connections that hear of changes, and tells how many
// they were.
func killTrackers(t *testing.T, client *redis.Client) (killed int) {
	t.Helper()
	list, err := client.Do(t.Context(), "CLIENT", "LIST").Text()
	require.NoError(t, err)
	for line := range strings.Lines(list) {
		fields := make(map[string]string)
		for _, field := range strings.Fields(line) {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		if strings.Contains(fields["flags"], "t") {
			killed += int(client.ClientKillByFilter(t.Context(), "ID", fields["id"]).Val())
		}
	}
	return killed
}

// TestFlushedIsGone: after FLUSHALL nothing is answered from memory.
func TestFlushedIsGone(t *testing.T) {
	c, server := newCoherence(t, "usage", 1)
	for _, what := range coherents("") {
		eventually(t, func() bool { _, source, err := what.read(c.client); return err == nil && source == stigg.SourceMemory }, what.name)
	}
	server.FlushAll()
	settle()
	for _, what := range coherents("") {
		_, source, err := what.read(c.client)
		require.NoError(t, err)
		require.NotEqual(t, stigg.SourceMemory, source, what.name)
	}
}

// TestResourceFollowsItsCustomer: a resource is not answered from memory after
// its global customer has changed, be it just its timestamp.
func TestResourceFollowsItsCustomer(t *testing.T) {
	api, server := coherenceAPI(t), redistest.Start(t)
	client, writer := newClient(t, api, server, withLRU(1000)), server.Client()
	check := func() (stigg.Source, float64) {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "calls"})
		require.NoError(t, err)
		return a.Source, a.CurrentUsage
	}
	list := func() stigg.Source {
		state, err := client.GetEntitlements(background(), "acme", "site")
		require.NoError(t, err)
		return state.Source
	}
	remembered := func() bool { source, _ := check(); return source == stigg.SourceMemory && list() == stigg.SourceMemory }
	at := time.Now().Add(time.Hour).UnixMilli()
	for n := range int64(20) {
		eventually(t, remembered, "a memory hit")
		api.ResetRequests()
		require.NoError(t, writer.Set(background(), "lab:c_acme#timestamp", at+n, time.Hour).Err())
		settle()
		eventually(t, func() bool { // at once, unless the last fetch of the customer is not over
			source, _ := check()
			require.NotEqual(t, stigg.SourceMemory, source, n)
			return api.Count(isFetch) > 0
		}, "a resource that is older than its customer is fetched")
	}
	eventually(t, remembered, "a memory hit")
	setUsageNow(t, writer, "lab:c_acme:r_site:f_calls", 7)
	settle()
	_, used := check()
	require.Equal(t, 7.0, used)
}

// setUsageNow writes a usage of now, as another program does.
func setUsageNow(t *testing.T, writer *redis.Client, key string, used int64) {
	t.Helper()
	_, err := writer.TxPipelined(background(), func(pipe redis.Pipeliner) error {
		setUsage(pipe, key, used, time.Now().UnixMilli())
		return nil
	})
	require.NoError(t, err)
}
