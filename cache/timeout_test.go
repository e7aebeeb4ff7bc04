package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// A Redis that accepts and does not answer costs a read its timeout, whatever
// the client makes of deadlines, and is an error: never a miss.
func TestReadsEndWhenRedisIsSilent(t *testing.T) {
	const timeout = 100 * time.Millisecond
	server := redistest.Start(t)
	k := cache.Key{CustomerID: "customer", ResourceID: "resource"}
	for name, contextTimeout := range map[string]bool{"client with deadlines": true, "client without": false} {
		t.Run(name, func(t *testing.T) {
			options := server.Options()
			options.ContextTimeoutEnabled = contextTimeout
			client := redis.NewClient(options)
			defer func() { require.NoError(t, client.Close()) }()
			store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: timeout})
			patient := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: 5 * time.Second})
			require.NoError(t, client.Ping(t.Context()).Err()) // connects
			server.Pause()
			defer server.Resume()

			for what, read := range map[string]func(context.Context, *cache.Store) error{
				"one": func(ctx context.Context, s *cache.Store) error {
					return s.Read(ctx, k, meter, true, new(cache.Reading))
				},
				"all":   func(ctx context.Context, s *cache.Store) error { _, err := s.ReadState(ctx, k); return err },
				"times": func(ctx context.Context, s *cache.Store) error { _, err := s.ReadTimes(ctx, k); return err },
			} {
				start := time.Now()
				require.Error(t, read(t.Context(), store), what)
				elapsed := time.Since(start)
				require.GreaterOrEqual(t, elapsed, timeout-5*time.Millisecond, what)
				require.Less(t, elapsed, 2*time.Second, what) // the client's own is three

				// The caller's deadline counts if it is sooner.
				for _, s := range []*cache.Store{store, patient} {
					ctx, cancel := context.WithTimeout(t.Context(), timeout/4)
					start = time.Now()
					require.ErrorIs(t, read(ctx, s), context.DeadlineExceeded, what)
					require.Less(t, time.Since(start), 2*time.Second, what)
					cancel()
				}
			}
		})
	}
}
