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
	"github.com/stiggio/server-sdk-go/cache"
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

// requireGivenBack waits until the lock of acme is given back, which is before
// it ends by itself.
func requireGivenBack(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	require.Eventually(t, func() bool { return client.Exists(background(), fleetLock("acme")).Val() == 0 },
		cache.LockTTL/2, 2*time.Millisecond, "the lock is given back")
}

func requireAnnounced(t *testing.T, channel <-chan *redis.Message, want string) {
	t.Helper()
	select {
	case m := <-channel:
		require.Equal(t, want, m.Payload)
	case <-time.After(10 * time.Second):
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
	owner, other := newClient(t, api, server, patient), newClient(t, api, server, patient)
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
	require.InDelta(t, 3, extended, 1, "every 1.7 s or so")

	requireGranted(t, first(), stigg.SourceEdge)
	requireGranted(t, rest(), stigg.SourceRedis)
	require.Equal(t, 1, api.Count(isFetch))
	requireGivenBack(t, client)
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
	owner, other := newClient(t, api, server), newClient(t, api, server)
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
	time.Sleep(time.Until(failed.Add(1400 * time.Millisecond)))
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
	checking := newClient(t, api, server)
	for range 5 { // within a second
		for _, o := range check(5, checking, "acme", "on")() {
			require.ErrorIs(t, o.err, stigg.ErrNotFound)
			require.True(t, o.answer.HasAccess)
			require.True(t, o.answer.Stale)
		}
	}
	require.Equal(t, 1, api.Count(isFetch))
}

// TestFleetSwitchedOff: every process fetches for itself, and asks nobody.
func TestFleetSwitchedOff(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(200 * time.Millisecond)))
	client := server.Client()
	lockAsOther(t, client, "acme")
	alone := func(c *stigg.Config) { c.Redis.DisableDistributedFetch = true }
	one, two := newClient(t, api, server, alone), newClient(t, api, server, alone)
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
	waiting, client := newClient(t, api, server), server.Client()
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
			config.Timeout = 2 * time.Second
			with := func(c *stigg.Config) { r := *config; c.Redis = &r }
			var ownerJoined, otherJoined atomic.Int32
			owner, other := newClient(t, api, nil, with, countJoins(&ownerJoined)), newClient(t, api, nil, with, countJoins(&otherJoined))

			first := check(10, owner, "acme", "on")
			eventually(t, func() bool { return api.Count(isFetch) == 1 && ownerJoined.Load() == 9 }, "the owner asks")
			second := check(10, other, "acme", "on")
			eventually(t, func() bool { return other.Stats().FleetWaits == 1 }, "the other one waits")
			time.Sleep(100 * time.Millisecond)
			require.EqualValues(t, 1, client.Exists(background(), fleetLock("acme")).Val())
			close(release)
			requireGranted(t, first(), stigg.SourceEdge)
			requireGranted(t, second(), stigg.SourceRedis)
			require.Equal(t, 1, api.Count(isFetch))
			requireGivenBack(t, client)

			// A foreign announcement arrives here as well.
			require.NoError(t, client.Del(background(), prefix+":c_acme").Err())
			lockAsOther(t, client, "acme")
			otherJoined.Store(0)
			third := check(5, other, "acme", "on")
			eventually(t, func() bool { return other.Stats().FleetWaits == 2 && otherJoined.Load() == 4 }, "it waits again")
			eventually(t, func() bool {
				return client.Publish(background(), fleetChannel("acme"), "{}").Err() == nil && api.Count(isFetch) == 2
			}, "it is woken, and asks")
			requireGranted(t, third(), stigg.SourceEdge)
		})
	}
}
