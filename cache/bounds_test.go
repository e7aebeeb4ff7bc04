package cache_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// A client whose own bounds are wider than the store's does not widen these: a
// connection that cannot be made, or had, is waited for as long as a reply.
func TestReadsEndWhenThereIsNoConnection(t *testing.T) {
	const timeout = 100 * time.Millisecond
	hanging := &redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: time.Second, DialerRetries: 1}
	hanging.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done() // a host that swallows what is sent to it
		return nil, ctx.Err()
	}
	busy := redistest.Start(t).Options()
	busy.ContextTimeoutEnabled, busy.MaxRetries, busy.PoolSize, busy.PoolTimeout = true, -1, 1, 2*time.Second
	for name, options := range map[string]*redis.Options{"cannot be made": hanging, "in use": busy} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(options)
			defer func() { _ = client.Close() }()
			if options == busy {
				only := client.Conn()
				defer func() { require.NoError(t, only.Close()) }()
				require.NoError(t, only.Ping(t.Context()).Err())
			}
			store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: timeout})
			began := time.Now()
			require.Error(t, store.Read(context.Background(), numberedKey, meter, true, new(cache.Reading)))
			require.Less(t, time.Since(began), 900*time.Millisecond)
		})
	}
}

// What a silent Redis is still asked, when all who wanted to know have gone, is
// what was under way, not the thousands that waited.
func TestNothingIsReadForThoseThatHaveGone(t *testing.T) {
	const timeout, callers = 100 * time.Millisecond, 2000
	server := redistest.Start(t)
	options := server.Options()
	options.ContextTimeoutEnabled, options.MaxRetries = true, -1
	options.DialTimeout, options.PoolTimeout = timeout, timeout
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: timeout})
	require.NoError(t, client.Ping(t.Context()).Err()) // connects
	server.Pause()
	defer server.Resume()
	var group sync.WaitGroup
	for range callers {
		group.Go(func() { _, _ = store.ReadTimes(context.Background(), numberedKey) })
	}
	group.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*timeout) // of 16 timeouts, one for each 128 callers
	defer cancel()
	store.Drain(ctx)
	require.NoError(t, ctx.Err())
}
