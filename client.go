package stigg

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/graphql"
	"github.com/stiggio/server-sdk-go/internal/edge"
	"github.com/stiggio/server-sdk-go/internal/health"
	"github.com/stiggio/server-sdk-go/internal/httpx"
	"github.com/stiggio/server-sdk-go/internal/refetch"
)

// Client answers what customers may use. It is safe for concurrent use; a
// program needs one.
type Client struct {
	config   Config
	counters counters
	report   *reporter

	redis     redis.UniversalClient // nil: no Redis
	ownsRedis bool
	store     *cache.Store    // nil: no Redis
	health    *health.Monitor // of Redis; nil: no Redis

	edge    *edge.Client // nil: not used
	graphql *graphql.Client
	http    *http.Client // nil: the caller's own is used
	refetch *refetch.Group

	memory       *cache.Memory  // in front of Redis; nil: none
	tracker      *cache.Tracker // nil: none
	maxStale     time.Duration  // how long what is remembered may be used when nothing newer can be had
	refreshAhead time.Duration  // age at which a live answer is fetched anew beside its callers; 0: never

	api       apiStatus
	heartbeat heartbeat

	closed    atomic.Bool
	closeOnce sync.Once
	start     startup
}

const (
	// redisThreshold is how many failures in a row make Redis count as away.
	redisThreshold = 3
	// maxOutageRecords bounds how many entitlements are held in process while
	// Redis is away.
	maxOutageRecords = 50_000
	// probeInterval is how often Redis is probed while it is away.
	probeInterval = time.Second
	// edgeShare is the part of EntitlementsTimeout that the Edge API may use,
	// so that GraphQL has a chance after it.
	edgeShare = 0.6
)

// Initialize makes a client. It fails only for a Config that is wrong, and
// then names every field; it does not fail, and waits no more than 250 ms,
// when Redis or the API is away: the client is usable and keeps trying.
func Initialize(config Config) (*Client, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, report: newReporter(config.Logger)}
	if config.Offline {
		c.start.settle(nil)
		return c, nil
	}
	c.connect()
	c.begin()
	return c, nil
}

// connect makes everything that the client talks through, without talking.
func (c *Client) connect() {
	userAgent := "stigg-server-sdk-go/" + Version
	httpClient := c.config.HTTPClient
	if httpClient == nil {
		httpClient = &http.Client{Transport: httpx.NewTransport()}
		c.http = httpClient
	}
	if !c.config.DisableEdge {
		c.edge = edge.New(edge.Config{
			BaseURL: c.config.EdgeURL, APIKey: c.config.APIKey, UserAgent: userAgent, HTTPClient: httpClient,
		})
	}
	c.graphql = graphql.New(graphql.Config{
		Endpoint: strings.TrimSuffix(c.config.APIURL, "/") + "/graphql",
		APIKey:   c.config.APIKey, UserAgent: userAgent, HTTPClient: httpClient,
	})

	var holdFor time.Duration
	holdRecords := maxOutageRecords
	if r := c.config.Redis; r != nil {
		holdFor = r.OutageTTL
		c.redis, c.ownsRedis = r.Client, false
		if c.redis == nil {
			c.redis, c.ownsRedis = newRedisClient(*r), true
		}
		c.store = cache.NewStore(cache.Options{
			Client: c.redis, Prefix: r.EnvironmentPrefix, TTL: r.TTL, Timeout: r.Timeout, Kept: c.config.LRU != nil,
		})
		c.health = health.New(health.Config{
			Probe:        c.store.Probe,
			ProbeTimeout: r.Timeout, Interval: probeInterval, Threshold: redisThreshold,
			OnLost: c.onRedisLost, OnBack: c.onRedisBack,
		})
	}
	if lru := c.config.LRU; lru != nil {
		c.remember(lru)
		if c.store == nil {
			holdFor, holdRecords = lru.TTL, lru.MaxEntries
		}
	}
	c.refetch = refetch.New(refetch.Config{
		Fetch: c.fetch, Store: c.store, StoreUp: c.redisUp,
		Timeout: c.config.EntitlementsTimeout, HoldFor: holdFor, HoldRecords: holdRecords, HoldStale: c.maxStale,
		Alone: c.config.Redis != nil && c.config.Redis.DisableDistributedFetch, OnEvent: c.onRefetch,
	})
}

func (c *Client) redisUp() bool { return c.health != nil && c.health.Up() }

// fetch asks the Edge API, then GraphQL if the Edge API failed in a way that
// says nothing about the question.
func (c *Client) fetch(ctx context.Context, k cache.Key) (entitlements.State, entitlements.Source, error) {
	var edgeErr error
	if c.edge != nil {
		edgeCtx := ctx
		if deadline, ok := ctx.Deadline(); ok {
			share := time.Duration(edgeShare * float64(time.Until(deadline)))
			var cancel context.CancelFunc
			edgeCtx, cancel = context.WithTimeout(ctx, share)
			defer cancel()
		}
		state, err := c.edge.EntitlementsState(edgeCtx, k.CustomerID, k.ResourceID)
		if err == nil {
			return state, SourceEdge, nil
		}
		if final(err) || ctx.Err() != nil {
			return entitlements.State{}, "", err
		}
		edgeErr = err
	}
	state, err := c.graphql.EntitlementsState(ctx, k.CustomerID, k.ResourceID)
	if err == nil {
		return state, SourceGraphQL, nil
	}
	if edgeErr != nil {
		err = fmt.Errorf("%w; %w", edgeErr, err)
	}
	return entitlements.State{}, "", err
}

// final reports whether another API would say the same: the request itself was
// refused (HTTP 400, 401, 403, 404).
func final(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// ReloadEntitlements fetches the customer's or resource's entitlements from
// the GraphQL API, which, unlike the Edge API, knows at once of a change that
// was just made, and writes them to Redis. Later checks see them; but with
// neither Redis nor LRU nothing is kept, and they ask the Edge API as ever.
//
// Errors: ErrInvalidArgument, the API's, that of ctx, or Redis', if it answers
// and does not take what was fetched (it is full or read-only, or another
// program holds the customer's lock). Then what is cached stays: reload later.
func (c *Client) ReloadEntitlements(ctx context.Context, customerID, resourceID string) error {
	if err := checkQuery(customerID, resourceID, "CustomerID", customerID, 0); err != nil {
		c.counters.invalidCalls.Add(1)
		return err
	}
	if err := c.usable(); err != nil {
		return err
	}
	err := c.refetch.Reload(ctx, key(customerID, resourceID), func(ctx context.Context, k cache.Key) (entitlements.State, entitlements.Source, error) {
		state, err := c.graphql.EntitlementsState(ctx, k.CustomerID, k.ResourceID)
		return state, SourceGraphQL, err
	})
	c.forget(key(customerID, resourceID)) // Redis may not have taken it
	if err != nil {
		return prefixed(err)
	}
	return nil
}

// usable reports why the client makes no calls, if it makes none.
func (c *Client) usable() error {
	switch {
	case c.closed.Load():
		return fmt.Errorf("stigg: %w", ErrClosed)
	case c.config.Offline:
		return fmt.Errorf("stigg: %w", ErrOffline)
	}
	return nil
}

// Close ends everything that the client started and closes the connections
// that it made. A refetch that is under way gets up to a second to be finished
// and written to Redis. Later calls are answered with their fallback and
// ErrClosed. Close can be called more than once.
func (c *Client) Close() error {
	var err error
	c.closeOnce.Do(func() {
		c.closed.Store(true)
		c.start.end()
		if c.config.Offline {
			return
		}
		c.refetch.Close()
		if c.tracker != nil {
			c.tracker.Close()
		}
		if c.health != nil {
			c.health.Close()
		}
		if c.store != nil {
			ctx, cancel := context.WithTimeout(context.Background(), c.config.Redis.Timeout)
			c.store.Drain(ctx)
			cancel()
		}
		if c.ownsRedis {
			err = c.redis.Close()
		}
		if c.http != nil {
			c.http.CloseIdleConnections()
		}
	})
	return err
}
