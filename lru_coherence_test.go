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

	start     time.Time
	written   []atomic.Int64 // when the write of each step returned, since start; 0: not yet
	stop      atomic.Bool
	checks    atomic.Int64
	counted   atomic.Int64 // from memory or Redis
	memory    atomic.Int64
	latest    atomic.Int64 // the longest after a write that a check began that did not see it
	violation atomic.Pointer[string]
}

// check checks once.
func (c *coherence) check() {
	began := time.Since(c.start)
	n, source, err := c.what.read(c.client)
	c.checks.Add(1)
	if err != nil {
		c.violate("%v", err)
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
	for old := c.latest.Load(); int64(late) > old && !c.latest.CompareAndSwap(old, int64(late)); old = c.latest.Load() {
	}
	if late >= coherenceDelay {
		c.violate("a check from %s saw step %.0f %v after the write of the next one had returned", source, n, late)
	}
}

func (c *coherence) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.violation.CompareAndSwap(nil, &text)
}

// run writes all steps while 64 goroutines check and disturb runs, if any.
func (c *coherence) run(disturb func(done <-chan struct{})) {
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
		}
	})
	for range checkers {
		checking.Go(func() {
			for !c.stop.Load() {
				c.check()
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
	c.Logf("%s: %d writes in %v, %d checks, %d from memory, %d counted, latest %v", c.what.name, c.writes,
		time.Since(c.start).Round(time.Millisecond), c.checks.Load(), c.memory.Load(), c.counted.Load(), time.Duration(c.latest.Load()).Round(time.Microsecond))
	if violation := c.violation.Load(); violation != nil {
		c.Fatal(*violation)
	}
	require.Positive(c, c.memory.Load())
	require.Positive(c, c.counted.Load())
}

func (c *coherence) step(n, at int64) bool {
	_, err := c.writer.TxPipelined(c.Context(), func(pipe redis.Pipeliner) error {
		c.what.write(pipe, n, at)
		return nil
	})
	return err == nil
}

// patient gives Redis time on a busy machine.
func patient(c *stigg.Config) { c.Redis.Timeout = 2 * time.Second }

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
		client: newClient(t, api, server, withLRU(1000), patient),
	}, server
}

func TestCoherence(t *testing.T) {
	for name, writes := range map[string]int64{
		"usage": 10_000, "credit": 2000, "value": 2000, "metadata": 2000, "usage in the list": 2000,
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCoherence(t, name, writes)
			c.run(nil)
		})
	}
}
