package stigg_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// fleetLock and fleetChannel are the lock and the channel of a customer's
// refetch, as every program that shares the cache names them.
func fleetLock(customer string) string {
	return prefix + ":refetchEntityEntitlementsAfterCacheMiss-" + customer
}

func fleetChannel(customer string) string {
	return prefix + ":refetchEntityEntitlementsAfterCacheMiss:" + customer
}

// fleetClient is newClient with more patience for Redis than a check should
// have: a machine that is busy with other tests is not what is tested here.
func fleetClient(t *testing.T, api *stiggtest.Server, server *redistest.Server, change ...func(*stigg.Config)) *stigg.Client {
	t.Helper()
	return newClient(t, api, server, append(change, func(c *stigg.Config) { c.Redis.Timeout = 2 * time.Second })...)
}

// subscribers counts who listens for the end of a customer's refetch.
func subscribers(t *testing.T, client redis.UniversalClient, customer string) int64 {
	t.Helper()
	counts, err := client.PubSubNumSub(background(), fleetChannel(customer)).Result()
	require.NoError(t, err)
	return counts[fleetChannel(customer)]
}

// foreignToken is what another program keeps in a lock: 16 random bytes in hex.
const foreignToken = "61817a1a1a27f69f7034e44afeaedba7"

// lockAsOther takes a customer's refetch lock for another program, for longer
// than a test takes.
func lockAsOther(t *testing.T, client redis.UniversalClient, customer string) {
	t.Helper()
	ok, err := client.SetNX(background(), fleetLock(customer), foreignToken, time.Minute).Result()
	require.NoError(t, err)
	require.True(t, ok)
}

// checked is the outcome of one check.
type checked struct {
	answer stigg.BooleanEntitlement
	err    error
	at     time.Time
}

// check makes n checks of a customer's boolean feature beside the test.
func check(n int, client *stigg.Client, customer, feature string) (wait func() []checked) {
	outcomes := make([]checked, n)
	var group sync.WaitGroup
	for i := range outcomes {
		group.Go(func() {
			answer, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: customer, FeatureID: feature})
			outcomes[i] = checked{answer, err, time.Now()}
		})
	}
	return func() []checked {
		group.Wait()
		return outcomes
	}
}

// requireGranted wants every check answered by one of the sources.
func requireGranted(t *testing.T, outcomes []checked, sources ...stigg.Source) {
	t.Helper()
	for _, o := range outcomes {
		require.NoError(t, o.err)
		require.True(t, o.answer.HasAccess)
		require.False(t, o.answer.Stale)
		require.Contains(t, sources, o.answer.Source)
	}
}

// announcements listens to what is announced of a customer.
func announcements(t *testing.T, client redis.UniversalClient, customer string) <-chan *redis.Message {
	t.Helper()
	pubsub := client.Subscribe(background(), fleetChannel(customer))
	t.Cleanup(func() { require.NoError(t, pubsub.Close()) })
	_, err := pubsub.Receive(background())
	require.NoError(t, err)
	return pubsub.Channel()
}

func requireAnnounced(t *testing.T, channel <-chan *redis.Message, want string) {
	t.Helper()
	select {
	case m := <-channel:
		require.Equal(t, want, m.Payload)
	case <-time.After(2 * time.Second):
		t.Fatal("nothing was announced")
	}
}

// TestFleetSlowAPI: the lock is extended as long as the fetch takes.
func TestFleetSlowAPI(t *testing.T) {
	t.Parallel()
	const latency = 5600 * time.Millisecond
	server, api := redistest.Start(t), acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(latency)))
	// One attempt at the API may take as long as this one does.
	patient := func(c *stigg.Config) { c.EntitlementsTimeout = 30 * time.Second }
	owner, other := fleetClient(t, api, server, patient), fleetClient(t, api, server, patient)
	client := server.Client()

	began := time.Now()
	first := check(1, owner, "acme", "on")
	eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
	token := client.Get(background(), fleetLock("acme")).Val()
	require.Len(t, token, 32)
	rest := check(10, other, "acme", "on")
	extended := 0
	last := client.PTTL(background(), fleetLock("acme")).Val()
	for time.Since(began) < latency-200*time.Millisecond {
		ttl := client.PTTL(background(), fleetLock("acme")).Val()
		require.Greater(t, ttl, 2*time.Second, "it is extended in good time")
		require.LessOrEqual(t, ttl, 5*time.Second)
		require.Equal(t, token, client.Get(background(), fleetLock("acme")).Val())
		if ttl > last {
			extended++
		}
		last = ttl
		time.Sleep(20 * time.Millisecond)
	}
	require.Equal(t, 3, extended)

	requireGranted(t, first(), stigg.SourceEdge)
	requireGranted(t, rest(), stigg.SourceRedis)
	require.Equal(t, 1, api.Count(isFetch))
	eventually(t, func() bool { return client.Exists(background(), fleetLock("acme")).Val() == 0 }, "the lock is given back")
}

// TestFleetLockLost: an owner that has lost its lock leaves the new one alone,
// writes what it fetched and announces it.
func TestFleetLockLost(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	release := make(chan struct{})
	api.Fault(onEdge(stiggtest.Hold(release)))
	owner := fleetClient(t, api, server)
	client := server.Client()
	announced := announcements(t, client, "acme")

	wait := check(1, owner, "acme", "on")
	eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
	require.NoError(t, client.Del(background(), fleetLock("acme")).Err())
	lockAsOther(t, client, "acme")
	close(release)

	requireGranted(t, wait(), stigg.SourceEdge)
	requireAnnounced(t, announced, "{}")
	require.Equal(t, foreignToken, client.Get(background(), fleetLock("acme")).Val())
	require.Greater(t, client.PTTL(background(), fleetLock("acme")).Val(), 50*time.Second, "nor is it extended or cut short")
	require.NotEmpty(t, client.Get(background(), prefix+":c_acme").Val())
}

// TestFleetAnnouncementsLost: a wait whose connection for announcements is
// killed ends all the same: it sees that the lock is gone, or hears of the end
// on a new connection.
func TestFleetAnnouncementsLost(t *testing.T) {
	begin := func(t *testing.T) (*redis.Client, *stiggtest.Server, func() []checked) {
		server, api := redistest.Start(t), acmeAPI(t)
		fill(t, api, server, "acme")
		client := server.Client()
		values := dump(t, client)
		server.FlushAll()
		waiting := fleetClient(t, api, server)
		lockAsOther(t, client, "acme")
		recorder := server.Monitor()
		wait := check(10, waiting, "acme", "on")
		eventually(t, func() bool { return recorder.Count("SET") == 2 }, "it has listened, looked, and tried again")
		require.EqualValues(t, 1, subscribers(t, client, "acme"))
		restore(t, client, values)
		n, err := client.ClientKillByFilter(background(), "TYPE", "pubsub").Result()
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		return client, api, wait
	}
	t.Run("the lock is gone", func(t *testing.T) {
		client, api, wait := begin(t)
		freed := time.Now()
		require.NoError(t, client.Del(background(), fleetLock("acme")).Err())
		outcomes := wait()
		requireGranted(t, outcomes, stigg.SourceRedis)
		require.Less(t, time.Since(freed), 500*time.Millisecond)
		require.Zero(t, api.Count(isFetch))
	})
	t.Run("it is announced after the reconnect", func(t *testing.T) {
		client, api, wait := begin(t)
		eventually(t, func() bool { return subscribers(t, client, "acme") == 1 }, "it listens again")
		require.EqualValues(t, 1, client.Publish(background(), fleetChannel("acme"), "{}").Val())
		requireGranted(t, wait(), stigg.SourceRedis)
		require.Zero(t, api.Count(isFetch))
	})
	t.Run("nobody has written anything", func(t *testing.T) {
		client, api, wait := begin(t)
		require.NoError(t, client.Del(background(), prefix+":c_acme", fleetLock("acme")).Err())
		requireGranted(t, wait(), stigg.SourceEdge)
		require.Equal(t, 1, api.Count(isFetch))
	})
}

// dump and restore keep what is in Redis.
func dump(t *testing.T, client redis.UniversalClient) map[string]string {
	t.Helper()
	names, err := client.Keys(background(), "*").Result()
	require.NoError(t, err)
	values := make(map[string]string)
	for _, name := range names {
		values[name] = client.Get(background(), name).Val()
	}
	require.NotEmpty(t, values)
	return values
}

func restore(t *testing.T, client redis.UniversalClient, values map[string]string) {
	t.Helper()
	for name, value := range values {
		require.NoError(t, client.Set(background(), name, value, 0).Err())
	}
}

// TestFleetNobodyAnswers: a waiter gives up after the entitlements timeout and
// half a second, and asks the API itself.
func TestFleetNobodyAnswers(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	waiting := fleetClient(t, api, server, func(c *stigg.Config) { c.EntitlementsTimeout = 500 * time.Millisecond })
	lockAsOther(t, server.Client(), "acme")
	began := time.Now()
	requireGranted(t, check(10, waiting, "acme", "on")(), stigg.SourceEdge)
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	require.Less(t, time.Since(began), 1500*time.Millisecond)
	require.Equal(t, 1, api.Count(isFetch))
}

// TestFleetAPIFails: a failure is announced once. Whoever waited asks the API
// once; then nobody does, for a time that grows with repeated failures.
func TestFleetAPIFails(t *testing.T) {
	t.Parallel()
	server, api := redistest.Start(t), acmeAPI(t)
	api.SetEntitlements("other", stiggtest.Boolean("on"))
	release := make(chan struct{})
	remove := api.Fault(onEdge(stiggtest.Custom(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
				w.WriteHeader(http.StatusNotFound)
			case <-r.Context().Done():
			}
		})
	})).On(stiggtest.Customer("acme")))
	owner, other := fleetClient(t, api, server), fleetClient(t, api, server)
	client := server.Client()
	announced := announcements(t, client, "acme")

	first := check(10, owner, "acme", "on")
	eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
	second := check(10, other, "acme", "on")
	eventually(t, func() bool { return subscribers(t, client, "acme") == 2 }, "the other one waits")
	close(release)
	requireRefused(t, first())
	requireRefused(t, second())
	failed := time.Now()
	requireAnnounced(t, announced, `{"error":"not found"}`)
	require.Equal(t, 2, api.Count(isFetch), "the owner and one that waited")

	for _, c := range []*stigg.Client{owner, other} {
		for time.Since(failed) < 400*time.Millisecond {
			requireRefused(t, check(10, c, "acme", "on")())
		}
	}
	require.Equal(t, 2, api.Count(isFetch), "nobody asks again at once")
	requireGranted(t, check(1, owner, "other", "on")(), stigg.SourceEdge)
	require.Equal(t, 3, api.Count(isFetch), "another customer has nothing to do with it")

	// After a second it is tried once more, and then not for two.
	time.Sleep(time.Until(failed.Add(1100 * time.Millisecond)))
	requireRefused(t, check(10, owner, "acme", "on")())
	failed = time.Now()
	require.Equal(t, 4, api.Count(isFetch))
	remove()
	time.Sleep(time.Until(failed.Add(1800 * time.Millisecond)))
	requireRefused(t, check(10, owner, "acme", "on")())
	require.Equal(t, 4, api.Count(isFetch))
	time.Sleep(time.Until(failed.Add(2100 * time.Millisecond)))
	requireGranted(t, check(10, owner, "acme", "on")(), stigg.SourceEdge, stigg.SourceRedis)
	require.Equal(t, 5, api.Count(isFetch), "and then it is well again")
	requireGranted(t, check(10, other, "acme", "on")(), stigg.SourceRedis)
}

// requireRefused wants the fallback, and the reason, for every check.
func requireRefused(t *testing.T, outcomes []checked) {
	t.Helper()
	for _, o := range outcomes {
		require.ErrorIs(t, o.err, stigg.ErrNotFound)
		require.True(t, o.answer.IsFallback)
	}
}

// TestFleetStale: while the API fails, what is known although it is out of date
// is answered at once, without a request each.
func TestFleetStale(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	fill(t, api, server, "acme")
	client := server.Client()
	require.NoError(t, client.Del(background(), prefix+":c_acme#timestamp").Err())
	api.Fault(onEdge(stiggtest.Status(404)))
	checking := fleetClient(t, api, server)
	for range 20 {
		for _, o := range check(5, checking, "acme", "on")() {
			require.ErrorIs(t, o.err, stigg.ErrNotFound)
			require.True(t, o.answer.HasAccess)
			require.True(t, o.answer.Stale)
		}
	}
	require.Equal(t, 1, api.Count(isFetch))
}

// TestFleetRedisDies: who waits when Redis dies asks the API, once for all who
// ask for the same in this process.
func TestFleetRedisDies(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(300 * time.Millisecond)))
	waiting, another := fleetClient(t, api, server), fleetClient(t, api, server)
	client := server.Client()
	lockAsOther(t, client, "acme")
	waits := []func() []checked{check(20, waiting, "acme", "on"), check(20, another, "acme", "on")}
	eventually(t, func() bool { return subscribers(t, client, "acme") == 2 }, "they wait")
	server.Kill()
	died := time.Now()
	for range 5 { // some who come later
		waits = append(waits, check(5, waiting, "acme", "on"), check(5, another, "acme", "on"))
		time.Sleep(50 * time.Millisecond)
	}
	for _, wait := range waits {
		requireGranted(t, wait(), stigg.SourceEdge, stigg.SourceMemory)
	}
	require.Less(t, time.Since(died), 1500*time.Millisecond)
	require.Equal(t, 2, api.Count(isFetch))
}

// TestFleetOwnerRedisDies: those who come when Redis has died under the owner's
// fetch join it.
func TestFleetOwnerRedisDies(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	release := make(chan struct{})
	api.Fault(onEdge(stiggtest.Hold(release)))
	owner := fleetClient(t, api, server)
	first := check(5, owner, "acme", "on")
	eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
	server.Kill()
	rest := check(20, owner, "acme", "on")
	eventually(t, func() bool { return owner.Stats().RedisErrors >= 3 }, "they notice")
	time.Sleep(50 * time.Millisecond)
	close(release)
	requireGranted(t, first(), stigg.SourceEdge)
	requireGranted(t, rest(), stigg.SourceEdge, stigg.SourceMemory)
	require.Equal(t, 1, api.Count(isFetch))
}

// TestFleetCloseWhileWaiting: a client that waits for another process is closed
// at once.
func TestFleetCloseWhileWaiting(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	waiting := fleetClient(t, api, server)
	client := server.Client()
	lockAsOther(t, client, "acme")
	wait := check(20, waiting, "acme", "on")
	eventually(t, func() bool { return subscribers(t, client, "acme") == 1 }, "it waits")
	began := time.Now()
	require.NoError(t, waiting.Close())
	require.Less(t, time.Since(began), 300*time.Millisecond)
	for _, o := range wait() {
		require.ErrorIs(t, o.err, stigg.ErrClosed)
		require.True(t, o.answer.IsFallback)
	}
	require.Zero(t, api.Count(isFetch))
	require.Equal(t, foreignToken, client.Get(background(), fleetLock("acme")).Val())
}

// TestFleetCloseWhileOwning: others wait for what a closed client fetches: it
// gets a second to come to its end, whatever that is.
func TestFleetCloseWhileOwning(t *testing.T) {
	begin := func(t *testing.T) (owner *stigg.Client, client *redis.Client, release chan struct{}, wait func() []checked, announced <-chan *redis.Message) {
		server, api := redistest.Start(t), acmeAPI(t)
		release = make(chan struct{})
		api.Fault(onEdge(stiggtest.Hold(release)))
		owner, client = fleetClient(t, api, server), server.Client()
		announced = announcements(t, client, "acme")
		wait = check(1, owner, "acme", "on")
		eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
		return owner, client, release, wait, announced
	}
	t.Run("the API answers", func(t *testing.T) {
		owner, client, release, wait, announced := begin(t)
		timer := time.AfterFunc(300*time.Millisecond, func() { close(release) })
		defer timer.Stop()
		began := time.Now()
		require.NoError(t, owner.Close())
		require.Less(t, time.Since(began), time.Second)
		requireGranted(t, wait(), stigg.SourceEdge)
		requireAnnounced(t, announced, "{}")
		require.NotEmpty(t, client.Get(background(), prefix+":c_acme").Val())
		require.Zero(t, client.Exists(background(), fleetLock("acme"), prefix+"-acme").Val())
	})
	t.Run("the API does not answer", func(t *testing.T) {
		owner, client, _, wait, announced := begin(t)
		began := time.Now()
		require.NoError(t, owner.Close())
		require.Less(t, time.Since(began), 1300*time.Millisecond)
		for _, o := range wait() {
			require.ErrorIs(t, o.err, stigg.ErrClosed)
		}
		requireAnnounced(t, announced, `{"error":"client is closed"}`)
		require.Zero(t, client.Exists(background(), fleetLock("acme"), prefix+"-acme", prefix+":c_acme").Val())
	})
}

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
			owner, other := fleetClient(t, api, server), fleetClient(t, api, server)
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
			late := fleetClient(t, api, server, func(c *stigg.Config) {
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
				quick = fleetClient(t, api, server)
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
		client := fleetClient(t, api, server, func(c *stigg.Config) { c.Observer = observe })
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
			checking := fleetClient(t, api, server)
			seats := func() float64 {
				answer, err := checking.GetNumericEntitlement(background(), stigg.NumericQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "seats"})
				require.NoError(t, err)
				require.False(t, answer.Stale)
				return answer.Value
			}
			api.SetEntitlements("acme", stiggtest.Numeric("seats", 1))
			api.SetResourceEntitlements("acme", "site", before)
			require.NoError(t, checking.ReloadEntitlements(background(), "acme", ""))
			require.NoError(t, fleetClient(t, api, server).ReloadEntitlements(background(), "acme", "site"))

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

// TestFleetLockReplyLost: a lock that was taken although Redis's answer was
// lost is given back.
func TestFleetLockReplyLost(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	proxy := faultproxy.New(t, server.Addr())
	client := server.Client()
	taken := make(chan bool, 1)
	checking := newClient(t, api, server, viaProxy(proxy), func(c *stigg.Config) {
		c.Observer = func(e stigg.Event) {
			switch e.Type {
			case stigg.EventCacheMiss:
				proxy.Blackhole(faultproxy.Replies)
			case stigg.EventRefetchFinished:
				taken <- client.Exists(background(), fleetLock("acme")).Val() == 1
				proxy.Pass()
			}
		}
	})
	requireGranted(t, check(1, checking, "acme", "on")(), stigg.SourceEdge)
	require.True(t, <-taken, "it was taken")
	require.Eventually(t, func() bool { return client.Exists(background(), fleetLock("acme")).Val() == 0 },
		2*time.Second, time.Millisecond, "it is given back before it ends")
	require.Equal(t, 1, api.Count(isFetch))
}

// TestFleetSwitchedOff: every process fetches for itself, and asks nobody.
func TestFleetSwitchedOff(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(200 * time.Millisecond)))
	client := server.Client()
	lockAsOther(t, client, "acme")
	alone := func(c *stigg.Config) { c.Redis.DisableDistributedFetch = true }
	one, two := fleetClient(t, api, server, alone), fleetClient(t, api, server, alone)
	recorder := server.Monitor()
	first, second := check(20, one, "acme", "on"), check(20, two, "acme", "on")
	requireGranted(t, first(), stigg.SourceEdge, stigg.SourceRedis)
	requireGranted(t, second(), stigg.SourceEdge, stigg.SourceRedis)
	require.Equal(t, 2, api.Count(isFetch))
	eventually(t, func() bool { return one.Stats().Writes+two.Stats().Writes == 2 }, "both write")
	for _, command := range recorder.Calls() {
		require.NotContains(t, command.String(), "refetchEntity", "neither lock nor announcement")
	}
}

// TestFleetManyWaits: all waits of a client share one connection, which listens
// to nothing when nobody waits.
func TestFleetManyWaits(t *testing.T) {
	const customers = 50
	server, api := redistest.Start(t), stiggtest.New(t)
	waiting, client := fleetClient(t, api, server), server.Client()
	connections := func() []string {
		list, err := client.Do(background(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
		require.NoError(t, err)
		return strings.Fields(list)
	}
	channels := func() int {
		names, err := client.PubSubChannels(background(), prefix+":*").Result()
		require.NoError(t, err)
		return len(names)
	}
	var id string
	for round := range 2 {
		var waits []func() []checked
		for i := range customers {
			customer := fmt.Sprintf("customer-%d", i)
			api.SetEntitlements(customer, stiggtest.Boolean("on"))
			lockAsOther(t, client, customer)
			waits = append(waits, check(2, waiting, customer, "on"))
		}
		eventually(t, func() bool { return channels() == customers }, "all wait")
		var ids []string
		for _, field := range connections() {
			if strings.HasPrefix(field, "id=") {
				ids = append(ids, field)
			}
		}
		require.Len(t, ids, 1, "one connection")
		if id != "" {
			require.Equal(t, id, ids[0], "the same as before")
		}
		id = ids[0]
		for i := range customers {
			customer := fmt.Sprintf("customer-%d", i)
			require.NoError(t, client.Del(background(), fleetLock(customer)).Err())
			require.EqualValues(t, 1, client.Publish(background(), fleetChannel(customer), "{}").Val())
		}
		for _, wait := range waits {
			requireGranted(t, wait(), stigg.SourceEdge, stigg.SourceRedis)
		}
		eventually(t, func() bool { return channels() == 0 }, "nobody listens any more")
		require.Empty(t, connections())
		require.Equal(t, customers, api.Count(isFetch))
		api.ResetRequests()
		eventually(t, func() bool { return waiting.Stats().Writes == uint64((round+1)*customers) }, "all is written")
		server.FlushAll()
	}
}

// TestFleetElsewhere: the fleet works on every kind of Redis.
func TestFleetElsewhere(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (*stigg.RedisConfig, redis.UniversalClient){
		"cluster": func(t *testing.T) (*stigg.RedisConfig, redis.UniversalClient) {
			c := redistest.StartCluster(t, 3)
			return &stigg.RedisConfig{Addrs: c.Addrs()}, c.Client()
		},
		"sentinel": func(t *testing.T) (*stigg.RedisConfig, redis.UniversalClient) {
			s := redistest.StartSentinel(t, 1)
			return &stigg.RedisConfig{Addrs: s.SentinelAddrs(), MasterName: s.MasterName()}, s.Client()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, client := start(t)
			config.EnvironmentPrefix = prefix
			api := acmeAPI(t)
			release := make(chan struct{})
			api.Fault(onEdge(stiggtest.Hold(release)))
			with := func(c *stigg.Config) { r := *config; c.Redis = &r }
			owner, other := fleetClient(t, api, nil, with), fleetClient(t, api, nil, with)

			first := check(10, owner, "acme", "on")
			eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
			second := check(10, other, "acme", "on")
			eventually(t, func() bool { return other.Stats().FleetWaits == 1 }, "the other one waits")
			time.Sleep(100 * time.Millisecond)
			require.EqualValues(t, 1, client.Exists(background(), fleetLock("acme")).Val())
			close(release)
			requireGranted(t, first(), stigg.SourceEdge)
			requireGranted(t, second(), stigg.SourceRedis)
			require.Equal(t, 1, api.Count(isFetch))
			eventually(t, func() bool { return client.Exists(background(), fleetLock("acme")).Val() == 0 }, "the lock is given back")

			// A foreign announcement arrives here as well.
			require.NoError(t, client.Del(background(), prefix+":c_acme").Err())
			lockAsOther(t, client, "acme")
			third := check(5, other, "acme", "on")
			eventually(t, func() bool { return other.Stats().FleetWaits == 2 }, "it waits again")
			eventually(t, func() bool {
				return client.Publish(background(), fleetChannel("acme"), "{}").Err() == nil && api.Count(isFetch) == 2
			}, "it is woken, and asks")
			requireGranted(t, third(), stigg.SourceEdge)
		})
	}
}
