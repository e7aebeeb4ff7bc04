package stigg_test

import (
	"context"
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

// TestFleetAnnouncedSettles: an announced success counts as a fetch of one's
// own: what the API does not give, or gives although it has ended, is not asked
// for once more by everybody who waited.
func TestFleetAnnouncedSettles(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for name, e := range map[string]stiggtest.Entitlement{
		"no usage":     stiggtest.Metered("calls", 100, 40).NoUsage(),
		"no longer so": stiggtest.Metered("calls", 100, 40).ValidUntil(past),
		"all is there": stiggtest.Metered("calls", 100, 40),
	} {
		t.Run(name, func(t *testing.T) {
			server, api := redistest.Start(t), stiggtest.New(t)
			// The customer is newer than its resource in any case.
			api.SetResourceEntitlements("acme", "site", e.EntitlementUpdatedAt(past))
			api.SetEntitlements("acme", e.EntitlementUpdatedAt(past.Add(time.Minute)))
			release := make(chan struct{})
			api.Fault(onEdge(stiggtest.Hold(release)))
			ask := func(c *stigg.Client) func() {
				var group sync.WaitGroup
				for range 5 {
					group.Go(func() {
						answer, err := c.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "calls"})
						require.NoError(t, err)
						require.True(t, answer.HasAccess)
						require.False(t, answer.Stale)
					})
				}
				return group.Wait
			}
			owner, other := newClient(t, api, server), newClient(t, api, server)
			waits := []func(){ask(owner)}
			eventually(t, func() bool { return api.Count(isFetch) == 2 }, "the owner asks")
			waits = append(waits, ask(other))
			eventually(t, func() bool {
				return subscribers(t, server.Client(), "acme") == 1 && subscribers(t, server.Client(), "acme:site") == 1
			}, "the other one waits")
			close(release)
			for _, wait := range waits {
				wait()
			}
			for range 20 {
				ask(owner)()
				ask(other)()
				time.Sleep(time.Millisecond)
			}
			require.Equal(t, 2, api.Count(isFetch))
		})
	}
}

// TestFleetLateReader: a check that read Redis before somebody else had fetched,
// and comes to ask only after that, finds what was fetched.
func TestFleetLateReader(t *testing.T) {
	for name, change := range map[string]func(*stigg.Config){
		"in this process":           func(*stigg.Config) {},
		"in this process, no fleet": func(c *stigg.Config) { c.Redis.DisableDistributedFetch = true },
		"in another process":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			server, api := redistest.Start(t), acmeAPI(t)
			missed, proceed := make(chan struct{}), make(chan struct{})
			var first atomic.Bool
			late := newClient(t, api, server, func(c *stigg.Config) {
				c.Observer = func(e stigg.Event) {
					if e.Type == stigg.EventCacheMiss && first.CompareAndSwap(false, true) {
						close(missed)
						<-proceed
					}
				}
				if change != nil {
					change(c)
				}
			})
			quick := late
			if change == nil {
				quick = newClient(t, api, server)
			}
			wait := check(1, late, "acme", "on")
			<-missed
			requireGranted(t, check(1, quick, "acme", "on")(), stigg.SourceEdge)
			eventually(t, func() bool {
				return quick.Stats().Writes == 1 && server.Client().Exists(background(), fleetLock("acme")).Val() == 0
			}, "the quick one is done")
			time.Sleep(20 * time.Millisecond) // its flight as well
			close(proceed)
			requireGranted(t, wait(), stigg.SourceRedis)
			require.Equal(t, 1, api.Count(isFetch))
		})
	}
}

// TestFleetGlobalCustomer: what the global customer's refetch changes is no
// reason to fetch the resource again that it accompanies, whichever of the two
// is over first; but it is no fetch of the resource either.
func TestFleetGlobalCustomer(t *testing.T) {
	isCustomer := func(r stiggtest.Request) bool { return isFetch(r) && r.ResourceID == "" }
	isSite := func(r stiggtest.Request) bool { return r.ResourceID == "site" }
	// changed makes the customer newer than its resource, which changes too.
	changed := func(api *stiggtest.Server, seats float64) {
		api.SetResourceEntitlements("acme", "site", stiggtest.Numeric("seats", seats))
		api.SetEntitlements("acme", stiggtest.Numeric("seats", seats))
	}
	query := stigg.NumericQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "seats"}
	begin := func(t *testing.T, observe func(stigg.Event)) (*stiggtest.Server, *redistest.Server, *stigg.Client, func() stigg.NumericEntitlement) {
		server, api := redistest.Start(t), stiggtest.New(t)
		changed(api, 5)
		client := newClient(t, api, server, func(c *stigg.Config) { c.Observer = observe })
		return api, server, client, func() stigg.NumericEntitlement {
			answer, err := client.GetNumericEntitlement(background(), query)
			require.NoError(t, err)
			return answer
		}
	}
	// requireSettled wants answers from Redis, and no further request.
	requireSettled := func(t *testing.T, api *stiggtest.Server, seats func() stigg.NumericEntitlement, value float64) {
		t.Helper()
		eventually(t, func() bool { return seats().Source == stigg.SourceRedis }, "the resource is written")
		for range 20 {
			answer := seats()
			require.Equal(t, stigg.SourceRedis, answer.Source)
			require.Equal(t, value, answer.Value)
			time.Sleep(2 * time.Millisecond)
		}
		require.Equal(t, 1, api.Count(isSite))
		require.Equal(t, 1, api.Count(isCustomer))
	}
	t.Run("written, but not over", func(t *testing.T) {
		written, proceed := make(chan struct{}), make(chan struct{})
		goOn := sync.OnceFunc(func() { close(proceed) })
		defer goOn()
		api, _, _, seats := begin(t, func(e stigg.Event) {
			if e.Type == stigg.EventWritten && e.ResourceID == "" {
				close(written)
				<-proceed
			}
		})
		require.Equal(t, stigg.SourceEdge, seats().Source)
		<-written
		requireSettled(t, api, seats, 5)
		goOn()
		requireSettled(t, api, seats, 5)
	})
	t.Run("over first", func(t *testing.T) {
		over := make(chan struct{})
		api, _, _, seats := begin(t, func(e stigg.Event) {
			if e.Type == stigg.EventWritten && e.ResourceID == "" {
				time.AfterFunc(50*time.Millisecond, func() { close(over) })
			}
		})
		api.Fault(stiggtest.Hold(over).On(isSite))
		require.Equal(t, stigg.SourceEdge, seats().Source)
		requireSettled(t, api, seats, 5)
	})
	t.Run("a later change", func(t *testing.T) {
		api, server, _, seats := begin(t, nil)
		seats()
		requireSettled(t, api, seats, 5)
		changed(api, 6)
		fill(t, api, server, "acme") // as the daemon does
		require.Equal(t, 6.0, seats().Value)
		requireSettled(t, api, seats, 6)
	})
	t.Run("a later change, and the resource cannot be fetched", func(t *testing.T) {
		api, server, client, seats := begin(t, nil)
		seats()
		requireSettled(t, api, seats, 5)
		changed(api, 6)
		fill(t, api, server, "acme")
		remove := api.Fault(stiggtest.Status(404).On(isSite))
		answer, err := client.GetNumericEntitlement(background(), query)
		require.ErrorIs(t, err, stigg.ErrNotFound)
		require.True(t, answer.Stale)
		remove()
		time.Sleep(1100 * time.Millisecond)
		answer, err = client.GetNumericEntitlement(background(), query)
		require.NoError(t, err)
		require.Equal(t, 6.0, answer.Value, "the customer's fetch did not settle it")
	})
}

// TestGlobalCustomerChangesDuringItsFetch: what others write while the global
// customer is fetched beside its resource is settled by neither fetch, and
// nothing is answered from memory before it is.
func TestGlobalCustomerChangesDuringItsFetch(t *testing.T) {
	isCustomer := func(r stiggtest.Request) bool { return isFetch(r) && r.ResourceID == "" }
	isSite := func(r stiggtest.Request) bool { return r.ResourceID == "site" }
	for name, options := range map[string][]func(*stigg.Config){
		"redis":         nil,
		"memory":        {withLRU(1000)},
		"revalidations": {withLRU(1000), func(c *stigg.Config) { c.LRU.Revalidate = true }},
	} {
		t.Run(name, func(t *testing.T) {
			server, api := redistest.Start(t), stiggtest.New(t)
			api.SetEntitlements("acme", stiggtest.Numeric("seats", 5))
			api.SetResourceEntitlements("acme", "site", stiggtest.Numeric("seats", 5))
			release := make(chan struct{})
			goOn := sync.OnceFunc(func() { close(release) })
			defer goOn()
			api.Fault(stiggtest.Hold(release).On(isCustomer))
			client := newClient(t, api, server, options...)
			one := func() stigg.Source {
				answer, err := client.GetNumericEntitlement(background(), stigg.NumericQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "seats"})
				require.NoError(t, err)
				return answer.Source
			}
			all := func() stigg.Source {
				state, err := client.GetEntitlements(background(), "acme", "site")
				require.NoError(t, err)
				return state.Source
			}
			require.Equal(t, stigg.SourceEdge, one())
			eventually(t, func() bool { return one() != stigg.SourceEdge }, "the resource is written")

			writer := server.Client()
			_, err := writer.TxPipelined(background(), func(pipe redis.Pipeliner) error {
				pipe.Set(background(), "lab:c_acme", "{}", time.Hour)
				pipe.Set(background(), "lab:c_acme#timestamp", time.Now().Add(time.Hour).UnixMilli(), time.Hour)
				return nil
			})
			require.NoError(t, err)
			settle()
			for range 20 {
				require.Equal(t, stigg.SourceRedis, one())
				require.Equal(t, stigg.SourceRedis, all())
			}
			goOn()
			eventually(t, func() bool {
				require.NotEqual(t, stigg.SourceMemory, one())
				return api.Count(isSite) == 2
			}, "the resource is fetched once more")
			eventually(t, func() bool { return one() == all() && one() != stigg.SourceEdge }, "and that settles it")
			for range 20 {
				require.NotEqual(t, stigg.SourceEdge, one())
				require.NotEqual(t, stigg.SourceEdge, all())
			}
			require.Equal(t, 2, api.Count(isSite))
		})
	}
}

// holdRelease holds the first script that is run once it is armed: after an
// answer was written, the release of the refetch lock.
type holdRelease struct {
	armed   atomic.Bool
	proceed chan struct{}
}

func (*holdRelease) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*holdRelease) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *holdRelease) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		if c.Name() == "evalsha" && h.armed.CompareAndSwap(true, false) {
			<-h.proceed
		}
		return next(ctx, c)
	}
}

// TestFleetOwnEcho: what goes missing after this process has written an answer
// is fetched again, although the end of that fetch is announced only then.
func TestFleetOwnEcho(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	hold := &holdRelease{proceed: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(hold.proceed) })
	defer goOn()
	options := server.Options()
	options.ContextTimeoutEnabled = true
	own := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, own.Close()) })
	own.AddHook(hold)
	client := newClient(t, api, nil, func(c *stigg.Config) {
		c.Redis = &stigg.RedisConfig{Client: own, EnvironmentPrefix: prefix, Timeout: 2 * time.Second}
		c.Observer = func(e stigg.Event) {
			switch e.Type {
			case stigg.EventWritten:
				hold.armed.Store(true)
			case stigg.EventRefetchWaited:
				time.AfterFunc(50*time.Millisecond, goOn) // it listens
			}
		}
	})
	ask := func() stigg.Source {
		answer, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		require.NoError(t, err)
		require.Equal(t, 40.0, answer.CurrentUsage)
		return answer.Source
	}
	require.Equal(t, stigg.SourceEdge, ask())
	eventually(t, func() bool { return client.Stats().Writes == 1 && ask() == stigg.SourceRedis }, "the answer is written")
	require.NoError(t, server.Client().Set(background(), "lab:c_acme:f_calls#timestamp", "damaged", time.Hour).Err())
	require.Equal(t, stigg.SourceEdge, ask())
	eventually(t, func() bool { return ask() == stigg.SourceRedis }, "it is healed")
	require.Equal(t, 2, api.Count(isFetch))
}

// TestFleetAnswerNotYetWritten: between an answer and its arrival in Redis
// nobody is given again what it replaces.
func TestFleetAnswerNotYetWritten(t *testing.T) {
	for name, before := range map[string]stiggtest.Entitlement{
		"ended": stiggtest.Numeric("seats", 5).ValidUntil(time.Now().Add(-time.Minute)),
		"older": stiggtest.Numeric("seats", 5),
	} {
		t.Run(name, func(t *testing.T) {
			server, api := redistest.Start(t), stiggtest.New(t)
			client := server.Client()
			checking := newClient(t, api, server)
			seats := func() float64 {
				answer, err := checking.GetNumericEntitlement(background(), stigg.NumericQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "seats"})
				require.NoError(t, err)
				require.False(t, answer.Stale)
				return answer.Value
			}
			api.SetEntitlements("acme", stiggtest.Numeric("seats", 1))
			api.SetResourceEntitlements("acme", "site", before)
			require.NoError(t, checking.ReloadEntitlements(background(), "acme", ""))
			require.NoError(t, newClient(t, api, server).ReloadEntitlements(background(), "acme", "site"))

			api.SetResourceEntitlements("acme", "site", stiggtest.Numeric("seats", 6))
			if name == "older" {
				api.SetEntitlements("acme", stiggtest.Numeric("seats", 2))
				require.NoError(t, checking.ReloadEntitlements(background(), "acme", ""))
			}
			lock := prefix + "-acme:site" // another writer is at work
			require.NoError(t, client.Set(background(), lock, foreignToken, time.Minute).Err())
			for range 20 {
				require.Equal(t, 6.0, seats())
				time.Sleep(2 * time.Millisecond)
			}
			require.NoError(t, client.Del(background(), lock).Err())
			eventually(t, func() bool {
				return checking.Stats().WriteFailures == 0 && client.Exists(background(), fleetLock("acme:site")).Val() == 0
			}, "written")
			for range 20 {
				require.Equal(t, 6.0, seats())
			}
			require.Equal(t, 1, api.Count(stiggtest.Edge, stiggtest.Resource("acme", "site")))
		})
	}
}
