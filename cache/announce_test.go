package cache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

var (
	acme    = cache.Key{CustomerID: "acme"}
	site    = cache.Key{CustomerID: "acme", ResourceID: "site"}
	errBoom = errors.New("boom")
	prompt  = 10 * time.Second // for what takes a network delay on a machine at rest
)

// newAnnouncements makes a receiver, which ends with the test, and its store.
func newAnnouncements(t *testing.T, client redis.UniversalClient) (*cache.Store, *cache.Announcements) {
	t.Helper()
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: time.Second})
	announcements := store.NewAnnouncements()
	t.Cleanup(announcements.Close)
	return store, announcements
}

func wait(t *testing.T, a *cache.Announcements, k cache.Key) *cache.Wait {
	t.Helper()
	w, err := a.Wait(t.Context(), k)
	require.NoError(t, err)
	return w
}

func requireHeard(t *testing.T, w *cache.Wait, success bool) {
	t.Helper()
	select {
	case got := <-w.C:
		require.Equal(t, success, got)
	case <-time.After(prompt):
		t.Fatal("nothing was heard")
	}
}

func requireNothingHeard(t *testing.T, w *cache.Wait) {
	t.Helper()
	select {
	case got := <-w.C:
		t.Fatalf("heard %v", got)
	default:
	}
}

// listened is how many channels somebody listens to.
func listened(t *testing.T, client redis.UniversalClient) int {
	t.Helper()
	channels, err := client.PubSubChannels(t.Context(), "*").Result()
	require.NoError(t, err)
	return len(channels)
}

// listeners describes the connections that listen to anything.
func listeners(t *testing.T, client redis.UniversalClient) []string {
	t.Helper()
	list, err := client.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	require.NoError(t, err)
	return strings.FieldsFunc(list, func(r rune) bool { return r == '\n' })
}

func TestAnnouncementsReachEveryWait(t *testing.T) {
	client := redistest.Start(t).Client()
	store, announcements := newAnnouncements(t, client)
	customer, again, resource := wait(t, announcements, acme), wait(t, announcements, acme), wait(t, announcements, site)

	require.NoError(t, store.Announce(t.Context(), acme, nil))
	requireHeard(t, customer, true)
	requireHeard(t, again, true)
	require.NoError(t, store.Announce(t.Context(), site, errBoom))
	requireHeard(t, resource, false)
	requireNothingHeard(t, customer)
	customer.Close()
	again.Close()
	resource.Close()
}

func TestAnnouncementsForm(t *testing.T) {
	client := redistest.Start(t).Client()
	store, announcements := newAnnouncements(t, client)
	pubsub := client.Subscribe(t.Context(), "lab:refetchEntityEntitlementsAfterCacheMiss:acme:site")
	defer func() { require.NoError(t, pubsub.Close()) }()
	_, err := pubsub.Receive(t.Context())
	require.NoError(t, err)
	for want, failure := range map[string]error{`{}`: nil, `{"error":"boom"}`: errBoom} {
		require.NoError(t, store.Announce(t.Context(), site, failure))
		message, err := pubsub.ReceiveMessage(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, message.Payload)
	}

	// What others may say: success is what says nothing of an error.
	w := wait(t, announcements, site)
	defer w.Close()
	for said, success := range map[string]bool{
		`{}`: true, `{"error":null}`: true, `{"more":1}`: true,
		`{"error":"a \"b\""}`: false, `{"error":{}}`: false, `[]`: false, ``: false, `{`: false,
	} {
		require.NoError(t, client.Publish(t.Context(), cache.RefetchChannel("lab", site), said).Err())
		requireHeard(t, w, success)
	}
}

// All waits share one connection, which lasts, and which listens only to what
// somebody waits for.
func TestAnnouncementsShareAConnection(t *testing.T) {
	client := redistest.Start(t).Client()
	_, announcements := newAnnouncements(t, client)
	require.Empty(t, listeners(t, client), "not before it is needed")
	var id string
	for range 3 {
		waits := make([]*cache.Wait, 60)
		var group sync.WaitGroup
		for i := range waits {
			group.Go(func() {
				waits[i], _ = announcements.Wait(t.Context(), cache.Key{CustomerID: string(rune('a' + i%30))})
			})
		}
		group.Wait()
		require.Equal(t, 30, listened(t, client), "a wait begins when the server listens")
		connections := listeners(t, client)
		require.Len(t, connections, 1)
		now, _, _ := strings.Cut(connections[0], " ")
		require.True(t, id == "" || id == now, "%s, then %s", id, now)
		id = now
		for _, w := range waits {
			w.Close()
		}
		require.Eventually(t, func() bool { return listened(t, client) == 0 }, prompt, time.Millisecond)
	}
}

func TestAnnouncementsAfterALostConnection(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	store, announcements := newAnnouncements(t, client)
	for name, lose := range map[string]func(){
		"killed":  func() { require.NoError(t, client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err()) },
		"restart": server.Restart,
	} {
		w := wait(t, announcements, acme)
		address := func(connection string) string { return strings.Fields(connection)[1] }
		before := address(listeners(t, client)[0])
		lose()
		require.Eventually(t, func() bool {
			now := listeners(t, client) // the one that was killed may be seen for a moment
			return len(now) == 1 && address(now[0]) != before && listened(t, client) == 1
		}, prompt, time.Millisecond, name)
		// It is announced until it is heard: go-redis has made a connection that
		// does not last.
		for giveUp := time.Now().Add(prompt); len(w.C) == 0 && time.Now().Before(giveUp); time.Sleep(time.Millisecond) {
			require.NoError(t, store.Announce(t.Context(), acme, nil))
		}
		requireHeard(t, w, true)
		w.Close()
	}
}

// A connection that is lost while nobody waits is not made again.
func TestAnnouncementsStayAway(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr = proxy.Addr()
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	_, announcements := newAnnouncements(t, client)
	wait(t, announcements, acme).Close()
	require.Eventually(t, func() bool { return listened(t, server.Client()) == 0 }, prompt, time.Millisecond)
	proxy.Down()
	time.Sleep(200 * time.Millisecond) // go-redis itself tries once
	proxy.Pass()
	accepted := proxy.Stats().Accepted
	time.Sleep(400 * time.Millisecond)
	require.Equal(t, accepted, proxy.Stats().Accepted)

	w := wait(t, announcements, acme)
	defer w.Close()
	require.Equal(t, 1, listened(t, server.Client()))
}

// A Redis that does not answer holds nobody up for longer than one wait for the
// subscription, and Close not even that long.
func TestAnnouncementsOfASilentRedis(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr = proxy.Addr()
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.MaxRetries = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond, -1
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	announcements := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: 200 * time.Millisecond}).NewAnnouncements()
	proxy.Blackhole(faultproxy.Both)

	began := time.Now()
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			w, err := announcements.Wait(t.Context(), cache.Key{CustomerID: string(rune('a' + i))})
			if err == nil {
				w.Close()
			}
		})
	}
	group.Wait()
	require.Less(t, time.Since(began), 3*time.Second, "one after the other they would take ten")
	began = time.Now()
	announcements.Close()
	require.Less(t, time.Since(began), time.Second)
}

// Where the login may not listen, a wait hears nothing, and Redis is not
// pestered.
func TestAnnouncementsNotAllowed(t *testing.T) {
	server := redistest.Start(t, redistest.User("app", "secret", "~*", "+@all", "resetchannels"))
	client := server.Client()
	store, announcements := newAnnouncements(t, client)
	began := time.Now()
	w := wait(t, announcements, acme)
	require.Less(t, time.Since(began), 2*time.Second)
	require.ErrorContains(t, store.Announce(t.Context(), acme, nil), "NOPERM")
	connections := func() int64 {
		info, err := client.Info(t.Context(), "stats").Result()
		require.NoError(t, err)
		_, after, _ := strings.Cut(info, "total_connections_received:")
		var n int64
		for _, digit := range after[:strings.IndexByte(after, '\r')] {
			n = 10*n + int64(digit-'0')
		}
		return n
	}
	before := connections()
	time.Sleep(500 * time.Millisecond)
	require.LessOrEqual(t, connections()-before, int64(6))
	requireNothingHeard(t, w)
	w.Close()
	time.Sleep(200 * time.Millisecond)
	before = connections()
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, before, connections(), "nobody waits, nobody asks")
}

func TestAnnouncementsClosed(t *testing.T) {
	client := redistest.Start(t).Client()
	store, announcements := newAnnouncements(t, client)
	w := wait(t, announcements, acme)
	announcements.Close()
	announcements.Close()
	require.Eventually(t, func() bool { return len(listeners(t, client)) == 0 }, prompt, time.Millisecond)
	require.NoError(t, store.Announce(t.Context(), acme, nil))
	requireNothingHeard(t, w)
	w.Close()
	_, err := announcements.Wait(t.Context(), acme)
	require.Error(t, err)

	store.NewAnnouncements().Close() // one that was never used
}

// A wait begins at the latest when its context ends.
func TestAnnouncementsContext(t *testing.T) {
	server := redistest.Start(t)
	_, announcements := newAnnouncements(t, server.Client())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	server.Pause()
	defer server.Resume()
	began := time.Now()
	w, err := announcements.Wait(ctx, acme)
	require.NoError(t, err)
	require.Less(t, time.Since(began), 900*time.Millisecond)
	w.Close()
}

// A lock that was taken although the answer was lost can be given back.
func TestLockTakenWithoutAnAnswer(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr, options.MaxRetries = proxy.Addr(), -1
	through := redis.NewClient(options)
	defer func() { require.NoError(t, through.Close()) }()
	require.NoError(t, through.Ping(t.Context()).Err())
	const timeout = 600 * time.Millisecond
	store := cache.NewStore(cache.Options{Client: through, Prefix: "lab", Timeout: timeout})

	proxy.Blackhole(faultproxy.Replies)
	lock, err := store.TryRefetchLock(t.Context(), acme)
	require.Error(t, err)
	require.NotNil(t, lock)
	require.EqualValues(t, 1, client.Exists(t.Context(), cache.RefetchLockKey("lab", acme)).Val())
	proxy.Pass()
	require.NoError(t, lock.Release(t.Context()))
	require.Zero(t, client.Exists(t.Context(), cache.RefetchLockKey("lab", acme)).Val())

	// A writer gives its lock back by itself, as soon as Redis answers.
	require.NoError(t, through.Ping(t.Context()).Err())
	proxy.Stall(faultproxy.Replies)
	timer := time.AfterFunc(3*timeout/2, proxy.Pass) // the lock was given up, and not yet its release
	defer timer.Stop()
	_, err = store.WriteState(t.Context(), acme, entitlements.State{}, cache.WriteOptions{})
	require.Error(t, err)
	require.Zero(t, client.Exists(t.Context(), cache.WriteLockKey("lab", acme), cache.ValueKey("lab", acme)).Val())
}

// A client that keeps to no deadline does not hold up who waits for a lock.
func TestLockOfAClientWithoutDeadlines(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: 5 * time.Second})
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.Ping(t.Context()).Err()) // connects
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: 300 * time.Millisecond})
	lock, err := store.TryRefetchLock(t.Context(), acme)
	require.NoError(t, err)

	server.Pause()
	defer server.Resume()
	for name, ask := range map[string]func() error{
		"take":     func() error { _, err := store.TryRefetchLock(t.Context(), site); return err },
		"look":     func() error { _, err := store.RefetchLocked(t.Context(), acme); return err },
		"extend":   func() error { _, err := lock.Extend(t.Context()); return err },
		"release":  func() error { return lock.Release(t.Context()) },
		"announce": func() error { return store.Announce(t.Context(), acme, nil) },
	} {
		began := time.Now()
		err := ask()
		require.ErrorIs(t, err, cache.ErrNoAnswer, name)
		require.Less(t, time.Since(began), 3*time.Second, name)
	}
}
