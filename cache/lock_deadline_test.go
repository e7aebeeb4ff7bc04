package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// slowTimer is a context whose deadline everybody sees before its timer fires,
// as happens on a busy machine.
type slowTimer struct {
	context.Context

	deadline time.Time
}

func (c slowTimer) Deadline() (time.Time, bool) { return c.deadline, true }

// TestLockedUntilTheDeadline: who has waited for another writer's lock all the
// time is told so, also where the connection tells first that the time is over.
func TestLockedUntilTheDeadline(t *testing.T) {
	for name, contextTimeout := range map[string]bool{"of the connection": true, "of the store": false} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			options := server.Options()
			options.ContextTimeoutEnabled, options.MaxRetries = contextTimeout, -1
			client := redis.NewClient(options)
			defer func() { require.NoError(t, client.Close()) }()
			store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
			k := cache.Key{CustomerID: "acme"}
			require.NoError(t, client.Set(t.Context(), cache.WriteLockKey("lab", k), "another writer's", time.Minute).Err())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := store.WriteState(slowTimer{ctx, time.Now().Add(500 * time.Millisecond)}, k, entitlements.State{}, cache.WriteOptions{})
			require.ErrorIs(t, err, cache.ErrLocked)
		})
	}
}
