package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	stigg "github.com/stiggio/server-sdk-go"
)

const (
	// memoryEntries is more than all that is ever asked for.
	memoryEntries = 10_000
	// memoryTimeout bounds the wait for the SDK to answer from memory: first
	// it has to be told of changes by Redis.
	memoryTimeout = 10 * time.Second
)

// revalidating reads what the SDK needs to know whether what it remembers
// still holds: all but the value, and how long the value is.
func revalidating(which func(*customers) []string, keys keysOf) way {
	return way{name: "go-redis", open: func(b *bed, c *customers) (read, error) {
		trips := allTrips(c, which(c), keys)
		return func(ctx context.Context, i int) error {
			keys := trips[i%len(trips)][0]
			pipe := b.pool.Pipeline()
			size := pipe.StrLen(ctx, keys[0])
			values := pipe.MGet(ctx, keys[1:]...)
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
			if size.Val() == 0 || values.Val()[0] == nil {
				return errAbsent
			}
			return nil
		}, nil
	}}
}

// revalidatingAutoPipelined sends the same commands together with those of
// other goroutines.
func revalidatingAutoPipelined(which func(*customers) []string, keys keysOf) way {
	return way{name: "go-redis AutoPipeline", open: func(b *bed, c *customers) (read, error) {
		trips := allTrips(c, which(c), keys)
		return func(ctx context.Context, i int) error {
			keys := trips[i%len(trips)][0]
			args := make([]any, 0, len(keys))
			args = append(args, "mget")
			for _, key := range keys[1:] {
				args = append(args, key)
			}
			size, values := redis.NewIntCmd(ctx, "strlen", keys[0]), redis.NewSliceCmd(ctx, args...)
			sizeSent, valuesSent := b.deferred.Submit(ctx, size), b.deferred.Submit(ctx, values)
			if err := sizeSent.Wait(); err != nil {
				return err
			}
			if err := valuesSent.Wait(); err != nil {
				return err
			}
			if size.Val() == 0 || values.Val()[0] == nil {
				return errAbsent
			}
			return nil
		}, nil
	}}
}

// sdkRevalidating asks an SDK that remembers, and asks Redis whether it still holds.
func sdkRevalidating(which func(*customers) []string, question ask) way {
	return sdkRemembering(which, question, stigg.LRUConfig{MaxEntries: memoryEntries, Revalidate: true}, stigg.SourceRedis)
}

// sdkInMemory asks an SDK that remembers, and is told of changes.
func sdkInMemory(which func(*customers) []string, question ask) way {
	return sdkRemembering(which, question, stigg.LRUConfig{MaxEntries: memoryEntries}, stigg.SourceMemory)
}

// sdkAlone asks an SDK that has no Redis, and remembers what the API said.
func sdkAlone(which func(*customers) []string, question ask) way {
	return remembering(which, question, func(*bed) *stigg.RedisConfig { return nil }, stigg.LRUConfig{MaxEntries: memoryEntries}, stigg.SourceMemory)
}

func sdkRemembering(which func(*customers) []string, question ask, lru stigg.LRUConfig, from stigg.Source) way {
	inRedis := func(b *bed) *stigg.RedisConfig { return &stigg.RedisConfig{Host: redisHost, Port: b.redis.port} }
	return remembering(which, question, inRedis, lru, from)
}

func remembering(which func(*customers) []string, question ask, where func(*bed) *stigg.RedisConfig, lru stigg.LRUConfig, from stigg.Source) way {
	return way{name: sdkName, open: func(b *bed, c *customers) (read, error) {
		client, err := b.newSDK(where(b), &lru)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), memoryTimeout)
		defer cancel()
		for _, id := range which(c) {
			if err := remember(ctx, client, question, c, id, from); err != nil {
				return nil, fmt.Errorf("remember customers: %w", err)
			}
		}
		return check(client, from, c, which(c), question), nil
	}}
}

// remember asks until the answer comes from where it is to come from.
func remember(ctx context.Context, client *stigg.Client, question ask, c *customers, id string, from stigg.Source) error {
	for asked := false; ; asked = true {
		source, err := question(ctx, client, c, id)
		if err != nil || asked && source == from {
			return err
		}
		if asked {
			time.Sleep(time.Millisecond)
		}
	}
}
