package cache_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cache/storetest"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func TestConformanceMiniredis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	storetest.Run(t, func(testing.TB) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	})
}

func TestConformanceServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	storetest.Run(t, func(testing.TB) redis.UniversalClient { return redis.NewClient(server.Options()) })
}

// A program may hand over a client that ignores the deadlines of contexts.
func TestConformanceWithoutContextTimeout(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	storetest.Run(t, func(testing.TB) redis.UniversalClient {
		o := server.Options()
		o.ContextTimeoutEnabled = false
		return redis.NewClient(o)
	})
}

func TestConformanceCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	storetest.Run(t, func(testing.TB) redis.UniversalClient { return cluster.Client() })
}

// The suite holds before a failover and after it, and in between nobody reads
// a pair that does not belong together.
func TestConformanceSentinel(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, 1)
	client := func(testing.TB) redis.UniversalClient { return sentinel.Client() }
	t.Run("before", func(t *testing.T) { storetest.Run(t, client) })

	traffic := startTraffic(t, cache.NewStore(cache.Options{Client: sentinel.Client(), Prefix: "lab", Timeout: time.Second}))
	traffic.waitForWrites(50)
	sentinel.KillPrimary()
	sentinel.WaitForFailover()
	traffic.waitForWrites(50)
	traffic.end()
	t.Logf("%d writes done, %d failed; %d reads answered, %d failed",
		traffic.written.Load(), traffic.writeErrors.Load(), traffic.reads.Load(), traffic.readErrors.Load())
	require.Positive(t, traffic.writeErrors.Load()+traffic.readErrors.Load(), "the failover was not noticed")

	t.Run("after", func(t *testing.T) { storetest.Run(t, client) })
}

// traffic is one writer and one reader of a numbered customer.
type traffic struct {
	t     *testing.T
	store *cache.Store
	stop  context.CancelFunc
	done  sync.WaitGroup

	written, writeErrors atomic.Int64
	reads, readErrors    atomic.Int64
	last                 atomic.Int64 // the last change whose write was acknowledged
	torn                 atomic.Pointer[numbers]
}

func startTraffic(t *testing.T, store *cache.Store) *traffic {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	tr := &traffic{t: t, store: store, stop: stop}
	tr.done.Go(func() { tr.write(ctx) })
	tr.done.Go(func() { tr.read(ctx) })
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) write(ctx context.Context) {
	for n := int64(1); ctx.Err() == nil; n++ {
		// Not cut short at the end: what is written last has to be known.
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
		_, err := tr.store.WriteState(one, numberedKey, numberedState(n, n), cache.WriteOptions{})
		cancel()
		if err != nil {
			tr.writeErrors.Add(1)
			time.Sleep(5 * time.Millisecond)
			continue
		}
		tr.last.Store(n)
		tr.written.Add(1)
	}
}

func (tr *traffic) read(ctx context.Context) {
	for ctx.Err() == nil {
		switch n, ok, err := readNumbers(ctx, tr.store, numberedKey); {
		case err != nil:
			tr.readErrors.Add(1)
			time.Sleep(time.Millisecond)
		case ok && !n.whole():
			tr.torn.Store(&n)
			return
		case ok:
			tr.reads.Add(1)
		}
	}
}

// waitForWrites waits until as many more writes have been acknowledged.
func (tr *traffic) waitForWrites(more int64) {
	tr.t.Helper()
	want := tr.written.Load() + more
	// A lock that the old primary took to its grave holds for 5 s.
	require.Eventually(tr.t, func() bool { return tr.written.Load() >= want }, 20*time.Second, 5*time.Millisecond)
}

// end stops the traffic and checks what is left of it.
func (tr *traffic) end() {
	tr.t.Helper()
	tr.stop()
	tr.done.Wait()
	if torn := tr.torn.Load(); torn != nil {
		require.Fail(tr.t, "a reader saw half of a write", "%+v", *torn)
	}
	if !tr.t.Failed() {
		requireNumbers(tr.t, tr.store, numberedKey, tr.last.Load(), tr.last.Load())
	}
}
