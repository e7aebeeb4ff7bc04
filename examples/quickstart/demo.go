package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

const demoCustomer = "acme"

// demonstrate asks the same few questions while first the API and then Redis
// go away.
func demonstrate(ctx context.Context, w io.Writer) (err error) {
	api, err := stiggtest.Start()
	if err != nil {
		return err
	}
	defer api.Close()
	api.SetEntitlements(demoCustomer,
		stiggtest.Boolean("sso"),
		stiggtest.Metered("exports", 100, 98),
		stiggtest.Credit("tokens", 5000, 4200),
	)
	redis := miniredis.NewMiniRedis()
	if err := redis.Start(); err != nil {
		return err
	}
	defer redis.Close()
	port, err := strconv.Atoi(redis.Port())
	if err != nil {
		return err
	}

	out := newTable(w)
	client, err := stigg.Initialize(stigg.Config{
		APIKey:  "any",
		APIURL:  api.URL(),
		EdgeURL: api.URL(),
		Redis: &stigg.RedisConfig{
			Host: redis.Host(), Port: port, EnvironmentPrefix: "quickstart",
			Timeout: 2 * time.Second, // so that the same is shown on a machine that is busy
		},
		Logger: out.logger(),
		CreditEntitlementsFallback: map[string]stigg.CreditFallback{
			"tokens": {HasAccess: true},
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	sso := func() (row, error) {
		answer, err := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: demoCustomer, FeatureID: "sso"})
		return booleanRow(answer), err
	}
	exports := func(n float64, fallback *stigg.EntitlementFallback) func() (row, error) {
		return func() (row, error) {
			answer, err := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{
				CustomerID: demoCustomer, FeatureID: "exports", RequestedUsage: n, Fallback: fallback,
			})
			return meteredRow(answer), err
		}
	}
	tokens := func(n float64) func() (row, error) {
		return func() (row, error) {
			answer, err := client.GetCreditEntitlement(ctx, stigg.CreditQuery{
				CustomerID: demoCustomer, CurrencyID: "tokens", RequestedUsage: n,
			})
			return creditRow(answer), err
		}
	}

	out.text("A Redis and a Stigg API of their own run in this process. The customer")
	out.text(demoCustomer + " has sso, used 98 of 100 exports, and has 800 of 5000 tokens left.")
	out.heading()
	out.check("sso, nothing is cached", sso)
	if err := waitForWriteBack(ctx, client); err != nil {
		return err
	}
	out.check("sso again", sso)
	out.check("2 more exports", exports(2, nil))
	out.check("5 more exports", exports(5, nil))
	out.check("spend 20 tokens", tokens(20))
	out.check("spend 1000 tokens", tokens(1000))

	out.section("Stigg's API goes away.")
	api.Close()
	out.check("spend 20 tokens", tokens(20))

	out.section("Redis goes away too.")
	redis.Close()
	out.check("sso, no fallback given", sso)
	out.check("20 tokens, fallback in Config", tokens(20))
	out.check("2 exports, fallback in call", exports(2, &stigg.EntitlementFallback{HasAccess: true}))

	out.section("Redis comes back; the client notices by itself.")
	if err := redis.Restart(); err != nil {
		return err
	}
	if err := waitForRedis(ctx, client); err != nil {
		return err
	}
	out.check("spend 20 tokens", tokens(20))

	out.section("Next: README.md; your own customer with STIGG_SERVER_API_KEY and REDIS_HOST.")
	return out.err()
}

// waitForWriteBack waits until the first answer is in Redis: it is written
// beside the caller, who had it at once.
func waitForWriteBack(ctx context.Context, client *stigg.Client) error {
	return poll(ctx, "the write to Redis", func() bool { return client.Stats().Writes > 0 })
}

// waitForRedis waits until Redis is asked again.
func waitForRedis(ctx context.Context, client *stigg.Client) error {
	return poll(ctx, "Redis", func() bool {
		// The error repeats what the answer's source says.
		answer, _ := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: demoCustomer, FeatureID: "sso"})
		return answer.Source == stigg.SourceRedis
	})
}

func poll(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}
