package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/rueidis"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

const (
	prefix = "bench"
	// waitForRedis is somewhat more than the SDK's default, for the SDK and the
	// floors alike, so that a machine that is busy with something else for a
	// moment does not turn a read into a timeout, and short enough that the SDK
	// reads in its caller's goroutine, as it does by default.
	waitForRedis = 150 * time.Millisecond
)

// bed is what everything is measured on: a Redis full of customers, and the
// clients that read it.
type bed struct {
	redis     *redisServer
	api       *stiggtest.Server
	customers map[int]*customers // by entitlements per customer

	pool      *redis.Client
	pipeliner *redis.AutoPipeliner
	deferred  *redis.AutoPipeliner // the same, for several commands of one goroutine
	rueidis   rueidis.Client
	sdk       *stigg.Client

	closers []func() error
}

// newBed starts a Redis and fills it with customers of these sizes.
func newBed(ctx context.Context, sizes []int) (b *bed, err error) {
	b = &bed{customers: make(map[int]*customers)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.redis, err = startRedis(ctx); err != nil {
		return b, err
	}
	b.onClose(b.redis.stop)
	if b.api, err = stiggtest.Start(); err != nil { //nolint:contextcheck // it lives until Close
		return b, err
	}
	b.onClose(func() error { b.api.Close(); return nil })

	b.pool = b.newPool()
	// A client of its own: closing the pipeliner's client closes it as well.
	if b.pipeliner, err = b.newPool().AutoPipeline(); err != nil {
		return b, fmt.Errorf("make an AutoPipeline: %w", err)
	}
	if b.deferred, err = b.newPool().AsyncAutoPipeline(); err != nil {
		return b, fmt.Errorf("make an AutoPipeline: %w", err)
	}
	b.rueidis, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{b.redis.addr()}, ConnWriteTimeout: waitForRedis, DisableCache: true, DisableRetry: true,
	})
	if err != nil {
		return b, fmt.Errorf("connect rueidis: %w", err)
	}
	b.onClose(func() error { b.rueidis.Close(); return nil })
	b.sdk, err = b.newSDK(&stigg.RedisConfig{Host: redisHost, Port: b.redis.port}, nil) //nolint:contextcheck // it lives until Close
	if err != nil {
		return b, err
	}
	for _, size := range sizes {
		if b.customers[size], err = fill(ctx, b, size); err != nil {
			return b, fmt.Errorf("fill Redis with customers of %d entitlements: %w", size, err)
		}
	}
	return b, nil
}

// newPool makes a go-redis client with the settings of the SDK's own.
func (b *bed) newPool() *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr:        b.redis.addr(),
		DialTimeout: waitForRedis, ReadTimeout: waitForRedis, WriteTimeout: waitForRedis, PoolTimeout: waitForRedis,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	b.onClose(client.Close)
	return client
}

// newSDK makes a client of the SDK that is about to be measured; r, which it
// completes, and lru may be nil.
func (b *bed) newSDK(r *stigg.RedisConfig, lru *stigg.LRUConfig) (*stigg.Client, error) {
	if r != nil {
		r.EnvironmentPrefix, r.Timeout = prefix, waitForRedis
	}
	client, err := stigg.Initialize(stigg.Config{
		APIKey: "bench", APIURL: b.api.URL(), EdgeURL: b.api.URL(), Redis: r, LRU: lru, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	b.onClose(client.Close)
	return client, nil
}

func (b *bed) onClose(f func() error) { b.closers = append(b.closers, f) }

// close ends everything, what was made last first.
func (b *bed) close() error {
	var errs []error
	for i := len(b.closers) - 1; i >= 0; i-- {
		errs = append(errs, b.closers[i]())
	}
	b.closers = nil
	return errors.Join(errs...)
}
