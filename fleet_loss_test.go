package stigg_test

import (
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

// TestFleetLockLost: an owner that has lost its lock leaves the new one alone,
// writes what it fetched and announces it.
func TestFleetLockLost(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	release := make(chan struct{})
	api.Fault(onEdge(stiggtest.Hold(release)))
	owner := newClient(t, api, server)
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
		var joined atomic.Int32
		waiting := newClient(t, api, server, countJoins(&joined))
		lockAsOther(t, client, "acme")
		recorder := server.Monitor()
		wait := check(10, waiting, "acme", "on")
		eventually(t, func() bool { return recorder.Count("SET") >= 2 && joined.Load() == 9 }, "it has listened, looked, and tried again")
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
		require.Less(t, time.Since(freed), 3*time.Second, "it looks four times a second")
		require.Zero(t, api.Count(isFetch))
	})
	t.Run("it is announced after the reconnect", func(t *testing.T) {
		client, api, wait := begin(t)
		outcomes := make(chan []checked, 1)
		go func() { outcomes <- wait() }()
		// It is announced until it is heard: which connection is one that lasts
		// cannot be told.
		eventually(t, func() bool {
			client.Publish(background(), fleetChannel("acme"), "{}")
			return len(outcomes) == 1
		}, "it listens again")
		requireGranted(t, <-outcomes, stigg.SourceRedis)
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
	waiting := newClient(t, api, server, func(c *stigg.Config) { c.EntitlementsTimeout = time.Second })
	lockAsOther(t, server.Client(), "acme")
	began := time.Now()
	requireGranted(t, check(10, waiting, "acme", "on")(), stigg.SourceEdge)
	require.GreaterOrEqual(t, time.Since(began), 1500*time.Millisecond)
	require.Less(t, time.Since(began), 4*time.Second)
	require.Equal(t, 1, api.Count(isFetch))
}

// TestFleetRedisDies: who waits when Redis dies asks the API, once for all who
// ask for the same in this process.
func TestFleetRedisDies(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(300 * time.Millisecond)))
	waiting, another := newClient(t, api, server), newClient(t, api, server)
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
	require.Less(t, time.Since(died), 4*time.Second)
	require.Equal(t, 2, api.Count(isFetch))
}

// TestFleetOwnerRedisDies: those who come when Redis has died under the owner's
// fetch join it.
func TestFleetOwnerRedisDies(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	release := make(chan struct{})
	api.Fault(onEdge(stiggtest.Hold(release)))
	var joined atomic.Int32
	owner := newClient(t, api, server, countJoins(&joined))
	first := check(5, owner, "acme", "on")
	eventually(t, func() bool { return api.Count(isFetch) == 1 && joined.Load() == 4 }, "the owner asks")
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
	waiting := newClient(t, api, server)
	client := server.Client()
	lockAsOther(t, client, "acme")
	wait := check(20, waiting, "acme", "on")
	eventually(t, func() bool { return subscribers(t, client, "acme") == 1 }, "it waits")
	began := time.Now()
	require.NoError(t, waiting.Close())
	require.Less(t, time.Since(began), 900*time.Millisecond, "not the second that a fetch may go on for")
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
		owner, client = newClient(t, api, server), server.Client()
		announced = announcements(t, client, "acme")
		wait = check(1, owner, "acme", "on")
		eventually(t, func() bool { return api.Count(isFetch) == 1 }, "the owner asks")
		return owner, client, release, wait, announced
	}
	t.Run("the API answers", func(t *testing.T) {
		owner, client, release, wait, announced := begin(t)
		timer := time.AfterFunc(100*time.Millisecond, func() { close(release) })
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
		require.Less(t, time.Since(began), 3*time.Second)
		for _, o := range wait() {
			require.ErrorIs(t, o.err, stigg.ErrClosed)
		}
		requireAnnounced(t, announced, `{"error":"client is closed"}`)
		require.Zero(t, client.Exists(background(), fleetLock("acme"), prefix+"-acme", prefix+":c_acme").Val())
	})
}

// TestFleetLockReplyLost: a lock that was taken although Redis's answer was
// lost is given back.
func TestFleetLockReplyLost(t *testing.T) {
	server, api := redistest.Start(t), acmeAPI(t)
	proxy := faultproxy.New(t, server.Addr())
	client := server.Client()
	taken := make(chan bool, 1)
	checking := newClient(t, api, server, viaProxy(proxy), func(c *stigg.Config) {
		c.Redis.Timeout = time.Second
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
