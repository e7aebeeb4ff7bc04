package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// bed is what one test works on: a store, and a look past it at the keys.
type bed struct {
	*testing.T
	client redis.UniversalClient
	prefix string
	store  *cache.Store
}

func newBed(t *testing.T, newClient func(testing.TB) redis.UniversalClient) *bed {
	t.Helper()
	b := &bed{T: t, client: newClient(t), prefix: "storetest-" + rand.Text()}
	b.store = b.newStore(cache.Options{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, key := range b.keys(ctx) {
			require.NoError(t, b.client.Del(ctx, key).Err())
		}
		if err := b.client.Close(); !errors.Is(err, redis.ErrClosed) {
			require.NoError(t, err)
		}
	})
	return b
}

// newStore makes another store over the same keys, as another process would.
func (b *bed) newStore(o cache.Options) *cache.Store {
	o.Client, o.Prefix = b.client, b.prefix
	return cache.NewStore(o)
}

// keys lists the keys of the test.
func (b *bed) keys(ctx context.Context) []string {
	b.Helper()
	var mu sync.Mutex
	var keys []string
	list := func(ctx context.Context, c redis.Cmdable) error {
		found := c.Scan(ctx, 0, b.prefix+"*", 1000).Iterator()
		for found.Next(ctx) {
			mu.Lock()
			keys = append(keys, found.Val())
			mu.Unlock()
		}
		return found.Err()
	}
	var err error
	if cluster, ok := b.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return list(ctx, c) })
	} else {
		err = list(ctx, b.client)
	}
	require.NoError(b, err)
	return keys
}

func (b *bed) set(key, value string) {
	b.Helper()
	require.NoError(b, b.client.Set(b.Context(), key, value, 0).Err())
}

func (b *bed) delete(key string) {
	b.Helper()
	require.NoError(b, b.client.Del(b.Context(), key).Err())
}

func (b *bed) get(key string) string {
	b.Helper()
	value, err := b.client.Get(b.Context(), key).Result()
	require.NoError(b, err, key)
	return value
}

func (b *bed) requireKey(want, key string) {
	b.Helper()
	require.Equal(b, want, b.get(key), key)
}

func (b *bed) requireNoKey(key string) {
	b.Helper()
	require.ErrorIs(b, b.client.Get(b.Context(), key).Err(), redis.Nil, key)
}

// The names of the keys of a customer or resource.

func (b *bed) value(k cache.Key) string     { return cache.ValueKey(b.prefix, k) }
func (b *bed) valueTime(k cache.Key) string { return cache.TimestampKey(b.value(k)) }
func (b *bed) metadata(k cache.Key) string  { return cache.MetadataKey(b.prefix, k) }
func (b *bed) metadataTime(k cache.Key) string {
	return cache.TimestampKey(b.metadata(k))
}
func (b *bed) usage(k cache.Key, r cache.Ref) string { return cache.UsageKey(b.prefix, k, r) }
func (b *bed) usageTime(k cache.Key, r cache.Ref) string {
	return cache.TimestampKey(b.usage(k, r))
}

// read reads one entitlement with its usage.
func (b *bed) read(k cache.Key, ref cache.Ref) cache.Reading {
	b.Helper()
	var r cache.Reading
	require.NoError(b, b.store.Read(b.Context(), k, ref, true, &r))
	return r
}

// requireFaults checks that a read has just these faults; it names them when
// it has others.
func (b *bed) requireFaults(want, got cache.Faults) {
	b.Helper()
	require.Equal(b, want.String(), got.String())
}

func (b *bed) requireHit(k cache.Key, ref cache.Ref) cache.Reading {
	b.Helper()
	r := b.read(k, ref)
	b.requireFaults(0, r.Faults)
	require.NotNil(b, r.Facts.Definition)
	return r
}

func (b *bed) readState(k cache.Key) *cache.StateReading {
	b.Helper()
	r, err := b.store.ReadState(b.Context(), k)
	require.NoError(b, err)
	return r
}

// write writes a state with the options that a refetch of it would have.
func (b *bed) write(k cache.Key, state entitlements.State, o cache.WriteOptions) cache.WriteResult {
	b.Helper()
	if o.FetchBegan.IsZero() {
		o.FetchBegan = at(fetchBegan)
	}
	r, err := b.store.WriteState(b.Context(), k, state, o)
	require.NoError(b, err)
	return r
}

// requireApplied checks how much of a write went through.
func (b *bed) requireApplied(applied, skipped int, r cache.WriteResult) {
	b.Helper()
	require.Equal(b, applied, r.Applied, "values applied")
	require.Equal(b, skipped, r.Skipped, "values skipped")
}

// updateUsage writes one usage.
func (b *bed) updateUsage(k cache.Key, ref cache.Ref, current float64, ms int64) cache.WriteResult {
	b.Helper()
	r, err := b.store.UpdateUsage(b.Context(), k, ref, entitlements.Usage{Current: current}, at(ms))
	require.NoError(b, err)
	return r
}
