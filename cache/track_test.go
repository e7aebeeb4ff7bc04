package cache_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// tracking is a Tracker with its Memory, and what it said.
type tracking struct {
	t       *testing.T
	memory  *cache.Memory
	tracker *cache.Tracker

	mu   sync.Mutex
	ons  int
	errs []error
}

// track starts a Tracker of a client's Redis.
func track(t *testing.T, client redis.UniversalClient) *tracking {
	t.Helper()
	tr := &tracking{t: t, memory: cache.NewMemory(100, 0)}
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
	tracker, err := store.NewTracker(tr.memory, tr.log)
	require.NoError(t, err)
	t.Cleanup(tracker.Close)
	tr.tracker = tracker
	return tr
}

func (tr *tracking) log(on bool, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if on {
		tr.ons++
	} else {
		tr.errs = append(tr.errs, err)
	}
}

// said is how often the tracker said that it hears, and its errors.
func (tr *tracking) said() (ons int, errs []error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.ons, append([]error(nil), tr.errs...)
}

// keep puts an entry into the memory.
func (tr *tracking) keep() {
	tr.memory.Put(tr.memory.Begin(trackedKey), trackedRef, cache.NewEntry(&cache.Reading{}, true, time.Now()))
}

var (
	trackedKey = cache.Key{CustomerID: "acme"}
	trackedRef = cache.Ref{ID: "calls"}
)

// trusts reports whether the entry is trusted.
func (tr *tracking) trusts() bool {
	_, trusted := tr.memory.Get(trackedKey, trackedRef, time.Now())
	return trusted
}

func (tr *tracking) soon(condition func() bool, what string) {
	tr.t.Helper()
	require.Eventually(tr.t, condition, 10*time.Second, time.Millisecond, what)
}

// hears keeps an entry, and waits until it is trusted.
func (tr *tracking) hears() {
	tr.t.Helper()
	tr.soon(func() bool { tr.keep(); return tr.trusts() }, "changes are heard of")
}

// hearsChanges requires that a change of the customer is heard of, and one of
// somebody else does not matter.
func (tr *tracking) hearsChanges(writer redis.UniversalClient) {
	tr.t.Helper()
	tr.hears()
	require.NoError(tr.t, writer.Set(tr.t.Context(), "lab:c_bob:f_calls", "1", 0).Err())
	require.NoError(tr.t, writer.Set(tr.t.Context(), "else:c_acme:f_calls", "1", 0).Err())
	require.NoError(tr.t, writer.Set(tr.t.Context(), "lab:c_acme:f_calls", "1", 0).Err())
	tr.soon(func() bool { return !tr.trusts() }, "the change")
	e, _ := tr.memory.Get(trackedKey, trackedRef, time.Now())
	require.NotNil(tr.t, e, "a usage's change takes the trust alone; losing the connection does too")
	require.NoError(tr.t, writer.Set(tr.t.Context(), "lab:c_acme", "{}", 0).Err())
	tr.soon(func() bool {
		e, _ := tr.memory.Get(trackedKey, trackedRef, time.Now())
		return e == nil
	}, "the value's change")
}

func TestTracker(t *testing.T) {
	for name, options := range map[string][]redistest.Option{
		"plain":    nil,
		"password": {redistest.RequirePass(`p" w`)},
		"tls":      {redistest.TLS()},
		// No more than what is needed: neither PING nor SUBSCRIBE.
		"acl": {redistest.User("app", "secret", "~lab:*", "~else:*", "-@all", "+set", "+client|tracking")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, options...)
			tr := track(t, server.Client())
			tr.hearsChanges(server.Client())
			// It is not lost by asking for signs of life, nor by checks that
			// come so thick that they have it listen.
			tr.hears()
			for began := time.Now(); time.Since(began) < time.Second; {
				require.True(t, tr.trusts())
			}
			tr.hearsChanges(server.Client())
			ons, errs := tr.said()
			require.Equal(t, 1, ons)
			require.Empty(t, errs)
			tr.tracker.Close()
			require.False(t, tr.trusts())
		})
	}
	t.Run("another database", func(t *testing.T) {
		server := redistest.Start(t)
		options := server.Options()
		options.DB = 5
		client := redis.NewClient(options)
		defer func() { require.NoError(t, client.Close()) }()
		track(t, client).hearsChanges(client)
	})
}

// Every kind of change of a key is heard of.
func TestTrackerHearsOfEveryKindOfChange(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	tr := track(t, client)
	const key = "lab:c_acme:f_calls"
	for name, change := range map[string]func(context.Context) error{
		"set": func(ctx context.Context) error { return client.Set(ctx, key, "2", time.Hour).Err() },
		"transaction": func(ctx context.Context) error {
			_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, key, "3", time.Hour)
				p.Set(ctx, key+"#timestamp", "3", time.Hour)
				return nil
			})
			return err
		},
		"script": func(ctx context.Context) error {
			return client.Eval(ctx, "return redis.call('SET', KEYS[1], '4')", []string{key}).Err()
		},
		"delete":  func(ctx context.Context) error { return client.Del(ctx, key).Err() },
		"unlink":  func(ctx context.Context) error { return client.Unlink(ctx, key).Err() },
		"expiry":  func(ctx context.Context) error { return client.PExpire(ctx, key, 20*time.Millisecond).Err() },
		"rename":  func(ctx context.Context) error { return client.Rename(ctx, key, "else").Err() },
		"flush":   func(ctx context.Context) error { return client.FlushAll(ctx).Err() },
		"flushdb": func(ctx context.Context) error { return client.FlushDB(ctx).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, client.Set(t.Context(), key, "1", 0).Err())
			time.Sleep(20 * time.Millisecond) // until that is heard of
			tr.hears()
			require.NoError(t, change(t.Context()))
			tr.soon(func() bool { return !tr.trusts() }, "the change")
		})
	}
	ons, errs := tr.said()
	require.Equal(t, 1, ons, "the connection stood all the time: %v", errs)
}

// Where Redis cannot tell of changes, nothing is trusted, and the tracker says
// why, without asking again and again.
func TestTrackerCannotTrack(t *testing.T) {
	for name, options := range map[string][]redistest.Option{
		"no resp3":      {redistest.Args("--rename-command", "HELLO", "")},
		"no permission": {redistest.User("app", "secret", "~*", "+@all", "-client")},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, options...)
			tr := track(t, server.Client())
			tr.soon(func() bool { _, errs := tr.said(); return len(errs) > 0 }, "an error")
			time.Sleep(300 * time.Millisecond)
			ons, errs := tr.said()
			require.Zero(t, ons)
			require.Len(t, errs, 1)
			require.ErrorIs(t, errs[0], cache.ErrCannotTrack)
			tr.keep()
			require.False(t, tr.trusts())
			began := time.Now()
			tr.tracker.Close()
			require.Less(t, time.Since(began), time.Second)
		})
	}
	t.Run("cluster", func(t *testing.T) {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
		defer func() { require.NoError(t, client.Close()) }()
		_, err := cache.NewStore(cache.Options{Client: client, Prefix: "lab"}).NewTracker(cache.NewMemory(1, 0), nil)
		require.ErrorIs(t, err, cache.ErrCannotTrack)
	})
}

// trackers are the ids of the connections that track changes, with their flags.
func trackers(t *testing.T, client redis.UniversalClient) (ids []string) {
	t.Helper()
	list, err := client.Do(t.Context(), "CLIENT", "LIST", "TYPE", "normal").Text()
	require.NoError(t, err)
	for line := range strings.Lines(list) {
		var id, flags string
		for _, field := range strings.Fields(line) {
			name, value, _ := strings.Cut(field, "=")
			switch name {
			case "id":
				id = value
			case "flags":
				flags = value
			}
		}
		if strings.ContainsAny(flags, "tB") {
			ids = append(ids, id)
		}
	}
	return ids
}

// Whatever ends the connection: nothing is trusted from then on, until it
// stands again, and then nothing from before.
func TestTrackerConnectionIsLost(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *redistest.Server, *faultproxy.Proxy) (mend func()){
		"killed by a client": func(t *testing.T, s *redistest.Server, _ *faultproxy.Proxy) func() {
			ids := trackers(t, s.Client())
			require.Len(t, ids, 1)
			require.NoError(t, s.Client().Do(t.Context(), "CLIENT", "KILL", "ID", ids[0]).Err())
			return func() {}
		},
		"server restarted": func(_ *testing.T, s *redistest.Server, _ *faultproxy.Proxy) func() { s.Restart(); return func() {} },
		"server killed":    func(_ *testing.T, s *redistest.Server, _ *faultproxy.Proxy) func() { s.Kill(); return s.Start },
		"server frozen":    func(_ *testing.T, s *redistest.Server, _ *faultproxy.Proxy) func() { s.Pause(); return s.Resume },
		"reset":            func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) func() { p.ResetAll(); return func() {} },
		"half open": func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) func() {
			p.Blackhole(faultproxy.Both)
			return p.Pass
		},
		"no replies": func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) func() {
			p.Stall(faultproxy.Replies)
			return p.Pass
		},
		"no requests": func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) func() {
			p.Stall(faultproxy.Requests)
			return p.Pass
		},
		"corrupt": func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) func() { p.Corrupt(3); return p.Pass },
		"cut in mid-message": func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) func() {
			p.CutAfter(20)
			return p.Pass
		},
		"becomes a replica": func(t *testing.T, s *redistest.Server, _ *faultproxy.Proxy) func() {
			require.NoError(t, s.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
			return func() { require.NoError(t, s.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			options := server.Options()
			options.Addr, options.DialTimeout = proxy.Addr(), 500*time.Millisecond
			client := redis.NewClient(options)
			defer func() { require.NoError(t, client.Close()) }()
			tr := track(t, client)
			tr.hears()
			mend := lose(t, server, proxy)
			began := time.Now()
			tr.soon(func() bool { return !tr.trusts() }, "the loss")
			// The longest silence, and what a busy machine adds to it.
			require.Less(t, time.Since(began), 3*time.Second)
			tr.soon(func() bool { _, errs := tr.said(); return len(errs) > 0 }, "why")
			mend()
			tr.soon(func() bool { ons, _ := tr.said(); return ons > 1 }, "the connection stands again")
			require.False(t, tr.trusts(), "what was kept before is to be revalidated")
			tr.hearsChanges(server.Client())
		})
	}
}

// A tracker outlives a server that is not there yet.
func TestTrackerWaitsForTheServer(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	tr := track(t, server.Client())
	tr.soon(func() bool { _, errs := tr.said(); return len(errs) > 2 }, "tries")
	tr.keep()
	require.False(t, tr.trusts())
	server.Start()
	tr.hearsChanges(server.Client())
}

// Changes are heard of from the primary alone: another replica, from which is
// read, could be behind the one that tells of a change.
func TestTrackerDoesNotTrustAReplica(t *testing.T) {
	primary := redistest.Start(t)
	replica := redistest.Start(t, redistest.Args("--replicaof", fmt.Sprintf("%s %d", primary.Host(), primary.Port())))
	tr := track(t, replica.Client())
	tr.soon(func() bool { _, errs := tr.said(); return len(errs) > 0 }, "an error")
	ons, errs := tr.said()
	require.Zero(t, ons)
	require.ErrorContains(t, errs[0], "replica")
	require.NotErrorIs(t, errs[0], cache.ErrCannotTrack)
	require.NoError(t, replica.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	tr.hearsChanges(replica.Client())
}

func TestTrackerFollowsSentinel(t *testing.T) {
	sentinel := redistest.StartSentinel(t, 1)
	client := sentinel.Client()
	tr := track(t, client)
	tr.hearsChanges(client)
	tr.hears()
	sentinel.KillPrimary()
	tr.soon(func() bool { return !tr.trusts() }, "the loss")
	sentinel.WaitForFailover()
	tr.hears()
	tr.hearsChanges(sentinel.Replica().Client())
}

// A primary that Sentinel has given up can live on, cut off from all but this
// process: its silence is no sign that nothing changes.
func TestTrackerLeavesAPrimaryThatSentinelHasGivenUp(t *testing.T) {
	first, second := redistest.Start(t), redistest.Start(t)
	var primary atomic.Pointer[redistest.Server]
	primary.Store(first)
	client := redis.NewClient(&redis.Options{
		Addr: "FailoverClient", // as redis.NewFailoverClient calls it
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, primary.Load().Addr())
		},
	})
	defer func() { require.NoError(t, client.Close()) }()
	tr := track(t, client)
	tr.hearsChanges(first.Client())
	tr.hears()
	time.Sleep(2500 * time.Millisecond)
	require.True(t, tr.trusts(), "as long as the primary is where it was, nothing happens")

	primary.Store(second)
	tr.soon(func() bool { ons, _ := tr.said(); return ons == 2 }, "the connection to the new primary")
	_, errs := tr.said()
	require.Len(t, errs, 1)
	require.ErrorContains(t, errs[0], "another server")
	tr.hearsChanges(second.Client())
}

// A burst of changes is heard of whole, over the same connection. So many at
// once that hearing them all is not worth it end the connection, and with it
// the trust in everything.
func TestTrackerBursts(t *testing.T) {
	const script = `for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'lab:c_' .. ARGV[2] .. i .. ':f_calls', i) end return 1`
	server := redistest.Start(t)
	client := server.Client()
	tr := track(t, client)
	tr.hears()
	require.NoError(t, client.Eval(t.Context(), script, nil, 10_000, "other").Err())
	time.Sleep(100 * time.Millisecond)
	require.True(t, tr.trusts())
	require.NoError(t, client.Eval(t.Context(), script, nil, 10_000, "other").Err())
	tr.hearsChanges(client)
	ons, errs := tr.said()
	require.Equal(t, 1, ons)
	require.Empty(t, errs)

	tr.hears()
	require.NoError(t, client.Eval(t.Context(), script, nil, 100_000, "many").Err())
	tr.soon(func() bool { return !tr.trusts() }, "the loss")
	tr.hearsChanges(client)
	ons, _ = tr.said()
	require.Equal(t, 2, ons)
}

// A server that answers anything but what it should is not trusted, and does
// not make the tracker spin.
func TestTrackerHostileServer(t *testing.T) {
	const hello, ok = "%1\r\n+role\r\n+master\r\n", "+OK\r\n"
	for name, answers := range map[string][]string{
		"garbage":              {"HTTP/1.1 400 Bad Request\r\n\r\n"},
		"silence":              {""},
		"refuses the password": {"-WRONGPASS invalid username-password pair\r\n"},
		"loads":                {"-LOADING Redis is loading the dataset in memory\r\n"},
		"too many clients":     {"-ERR max number of clients reached\r\n"},
		"a huge reply":         {"*999999999\r\n"},
		"a replica":            {"%1\r\n+role\r\n+replica\r\n"},
		"garbage afterwards":   {hello, ok + "garbage\r\n"},
		"an error afterwards":  {hello, ok + "-ERR no\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			var connections atomic.Int64
			var serving sync.WaitGroup
			serving.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					connections.Add(1)
					serving.Go(func() { serveAnswers(conn, answers) })
				}
			})
			client := redis.NewClient(&redis.Options{Addr: listener.Addr().String()})
			tr := track(t, client)
			tr.soon(func() bool { _, errs := tr.said(); return len(errs) > 0 }, "an error")
			_, errs := tr.said()
			require.NotErrorIs(t, errs[0], cache.ErrCannotTrack, "it is tried again soon")
			time.Sleep(500 * time.Millisecond)
			require.Less(t, connections.Load(), int64(8))
			tr.tracker.Close()
			require.False(t, tr.trusts())
			require.NoError(t, client.Close())
			require.NoError(t, listener.Close())
			serving.Wait()
		})
	}
}

// serveAnswers answers each command with the next text, until there is none.
func serveAnswers(conn net.Conn, answers []string) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for _, answer := range answers {
		if !skipCommand(r) {
			return
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
	_, _ = r.WriteTo(discard{}) // until the tracker hangs up
}

// discard takes everything.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// skipCommand reads one command.
func skipCommand(r *bufio.Reader) bool {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return false
	}
	for range 2 * n {
		if _, err := r.ReadString('\n'); err != nil {
			return false
		}
	}
	return true
}

// Close ends a tracker in whatever it does, at once.
func TestTrackerCloses(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	for name, prepare := range map[string]func(tr *tracking){
		"at once":    func(*tracking) {},
		"hearing":    func(tr *tracking) { tr.hears() },
		"half open":  func(tr *tracking) { tr.hears(); proxy.Blackhole(faultproxy.Both) },
		"connecting": func(tr *tracking) { proxy.Blackhole(faultproxy.Both); time.Sleep(50 * time.Millisecond) },
		"pausing": func(tr *tracking) {
			proxy.Down()
			tr.soon(func() bool { _, errs := tr.said(); return len(errs) > 1 }, "failures")
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxy.Pass()
			options := server.Options()
			options.Addr = proxy.Addr()
			client := redis.NewClient(options)
			tr := track(t, client)
			prepare(tr)
			began := time.Now()
			tr.tracker.Close()
			require.Less(t, time.Since(began), 900*time.Millisecond)
			require.False(t, tr.trusts())
			require.NoError(t, client.Close())
		})
	}
}
