package cache_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// renamed is a client of one name, behind which the server becomes another, as
// where DNS names the primary: connections that stand stay where they are.
func renamed(t *testing.T, primary *redistest.Server, lifetime time.Duration) (client *redis.Client, rename func(*redistest.Server)) {
	t.Helper()
	var addr atomic.Value
	addr.Store(primary.Addr())
	options := primary.Options()
	options.Addr, options.ConnMaxLifetime = "redis.internal:6379", lifetime
	options.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr.Load().(string))
	}
	client = redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client, func(s *redistest.Server) { addr.Store(s.Addr()) }
}

func info(t *testing.T, s *redistest.Server) string {
	t.Helper()
	text, err := s.Client().Info(t.Context(), "replication").Result()
	require.NoError(t, err)
	return text
}

// setReason writes a customer without entitlements, with the reason for that.
func setReason(t *testing.T, s *redistest.Server, reason string) {
	t.Helper()
	require.NoError(t, s.Client().MSet(t.Context(), "lab:c_acme", "{}", "lab:c_acme#timestamp", "1",
		"lab:c_acme:metadata", fmt.Sprintf(`{"accessDeniedReason":%q}`, reason)).Err())
}

// checker does what a check does. It tells the reason that is known for the
// customer, and whether that is trusted memory.
func checker(t *testing.T, store *cache.Store, tr *tracking) func() (reason string, trusted bool) {
	return func() (string, bool) {
		t.Helper()
		if e, trusted := tr.memory.Get(trackedKey, trackedRef, time.Now()); trusted {
			return string(e.Facts.StateDeniedReason), true
		}
		var r cache.Reading
		token := tr.memory.Begin(trackedKey)
		require.NoError(t, store.Read(t.Context(), trackedKey, trackedRef, true, &r))
		tr.memory.Put(token, trackedRef, cache.NewEntry(&r, true, time.Now()))
		return string(r.Facts.StateDeniedReason), false
	}
}

// TestTrackerAfterThePrimaryMoved: the primary becomes a replica of another
// server, 300 ms behind it, which has its name from then on. Connections of the
// client's pool are still to the former primary. That the changes are heard of
// from the new one is no reason to trust what is read from the former one after
// a change: it is from before it.
func TestTrackerAfterThePrimaryMoved(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{"connections live on": 0, "connections end": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			former := redistest.Start(t, redistest.Args("--repl-diskless-sync-delay", "0"))
			next := redistest.Start(t, redistest.Args("--repl-diskless-sync-delay", "0", "--replicaof", fmt.Sprintf("%s %d", former.Host(), former.Port())))
			client, rename := renamed(t, former, lifetime)
			store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
			tr := track(t, client)
			ctx := t.Context()
			check := checker(t, store, tr)
			setReason(t, former, "Before")
			tr.soon(func() bool { reason, trusted := check(); return reason == "Before" && trusted }, "what was written, from memory")
			tr.soon(func() bool { return strings.Contains(info(t, next), "master_link_status:up") }, "the replica follows")

			behind := faultproxy.New(t, next.Addr())
			host, port, _ := net.SplitHostPort(behind.Addr())
			require.NoError(t, next.Client().Do(ctx, "REPLICAOF", "NO", "ONE").Err())
			rename(next)
			require.NoError(t, former.Client().Do(ctx, "REPLICAOF", host, port).Err())
			tr.soon(func() bool { return strings.Contains(info(t, former), "master_link_status:up") }, "the former primary follows")
			behind.Latency(faultproxy.Both, 300*time.Millisecond)
			time.Sleep(time.Second) // longer than the tracker needs to follow

			setReason(t, next, "After")
			time.Sleep(20 * time.Millisecond) // the change is heard of
			for range 5 {
				check() // reads, maybe from the former primary, and keeps
			}
			tr.soon(func() bool { return strings.Contains(former.Client().Get(ctx, "lab:c_acme:metadata").Val(), "After") }, "the former primary knows as well")
			for range 20 {
				reason, trusted := check()
				require.False(t, trusted && reason == "Before", "what was read before the change was heard of is trusted after it")
				time.Sleep(5 * time.Millisecond)
			}
			if lifetime > 0 {
				tr.soon(func() bool { reason, trusted := check(); return reason == "After" && trusted }, "trusted again")
			}
		})
	}
}

// TestTrackerAfterThePrimaryCameBack: the primary moved to another server, and
// then back. Connections that were made in between are to the one in between.
func TestTrackerAfterThePrimaryCameBack(t *testing.T) {
	first := redistest.Start(t, redistest.Args("--repl-diskless-sync-delay", "0"))
	second := redistest.Start(t, redistest.Args("--repl-diskless-sync-delay", "0", "--replicaof", fmt.Sprintf("%s %d", first.Host(), first.Port())))
	client, rename := renamed(t, first, 0)
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
	tr := track(t, client)
	ctx := context.Background()
	check := checker(t, store, tr)
	follows := func(s *redistest.Server) {
		t.Helper()
		tr.soon(func() bool { return strings.Contains(info(t, s), "master_link_status:up") }, "it follows")
	}
	setReason(t, first, "Before")
	tr.soon(func() bool { reason, trusted := check(); return reason == "Before" && trusted }, "what was written, from memory")
	follows(second)
	require.NoError(t, second.Client().Do(ctx, "REPLICAOF", "NO", "ONE").Err())
	rename(second)
	require.NoError(t, first.Client().Do(ctx, "REPLICAOF", second.Host(), fmt.Sprint(second.Port())).Err())
	follows(first)
	time.Sleep(time.Second) // longer than the tracker needs to follow
	// The connections to the first end; new ones are made to the second.
	require.NoError(t, first.Client().Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
	tr.soon(func() bool {
		var r cache.Reading
		return store.Read(ctx, trackedKey, trackedRef, true, &r) == nil
	}, "read from the second")

	behind := faultproxy.New(t, first.Addr())
	host, port, _ := net.SplitHostPort(behind.Addr())
	require.NoError(t, first.Client().Do(ctx, "REPLICAOF", "NO", "ONE").Err())
	rename(first)
	require.NoError(t, second.Client().Do(ctx, "REPLICAOF", host, port).Err())
	follows(second)
	behind.Latency(faultproxy.Both, 300*time.Millisecond)
	time.Sleep(time.Second)

	setReason(t, first, "After")
	time.Sleep(20 * time.Millisecond) // the change is heard of
	for range 5 {
		check()
	}
	tr.soon(func() bool { return strings.Contains(second.Client().Get(ctx, "lab:c_acme:metadata").Val(), "After") }, "the second knows as well")
	for range 20 {
		reason, trusted := check()
		require.False(t, trusted && reason == "Before", "what was read before the change was heard of is trusted after it")
		time.Sleep(5 * time.Millisecond)
	}
}
