package main

import (
	"context"
	"errors"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/stiggio/server-sdk-go/cache"
)

// errAbsent says that a key which every customer has did not come back.
var errAbsent = errors.New("a value is missing")

// pooled reads with a go-redis client like the SDK's own, and nothing else.
func pooled(which func(*customers) []string, keys keysOf) way {
	return way{name: "go-redis", open: func(b *bed, c *customers) (read, error) {
		return mget(b.pool, c, which(c), keys), nil
	}}
}

// autoPipelined lets go-redis send what several goroutines ask for together.
func autoPipelined(which func(*customers) []string, keys keysOf) way {
	return way{name: "go-redis AutoPipeline", open: func(b *bed, c *customers) (read, error) {
		return mget(b.pipeliner, c, which(c), keys), nil
	}}
}

func mget(client redis.Cmdable, c *customers, ids []string, keys keysOf) read {
	trips := allTrips(c, ids, keys)
	return func(ctx context.Context, i int) error {
		for _, keys := range trips[i%len(trips)] {
			values, err := client.MGet(ctx, keys...).Result()
			if err != nil {
				return err
			}
			if values[0] == nil {
				return errAbsent
			}
		}
		return nil
	}
}

// throughRueidis reads with rueidis, which sends everything over a few
// connections that all goroutines share.
func throughRueidis(which func(*customers) []string, keys keysOf) way {
	return way{name: "rueidis", open: func(b *bed, c *customers) (read, error) {
		trips := allTrips(c, which(c), keys)
		return func(ctx context.Context, i int) error {
			for _, keys := range trips[i%len(trips)] {
				values, err := b.rueidis.Do(ctx, mgetCommand(b.rueidis, keys)).AsStrSlice()
				if err != nil {
					return err
				}
				if values[0] == "" {
					return errAbsent
				}
			}
			return nil
		}, nil
	}}
}

func mgetCommand(client rueidis.Client, keys []string) rueidis.Completed {
	return client.B().Mget().Key(keys...).Build()
}

// lookedUp gets entitlements from a golang-lru cache by a key that is a struct.
func lookedUp(which func(*customers) []string) way {
	type key struct {
		customer cache.Key
		ref      cache.Ref
	}
	return way{name: "golang-lru", open: func(_ *bed, c *customers) (read, error) {
		var keys []key
		for _, id := range which(c) {
			keys = append(keys, key{cache.Key{CustomerID: id}, cache.Ref{ID: c.metered}})
		}
		entries, err := lru.New[key, *customers](memoryEntries)
		if err != nil {
			return nil, fmt.Errorf("make an LRU: %w", err)
		}
		for _, k := range keys {
			entries.Add(k, c)
		}
		return func(_ context.Context, i int) error {
			if _, ok := entries.Get(keys[i%len(keys)]); !ok {
				return errAbsent
			}
			return nil
		}, nil
	}}
}
