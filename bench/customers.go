package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

const (
	// fewCustomers are read over and over: what the SDK remembers of them
	// stays in memory.
	fewCustomers = 64
	// memoBytes is more than the SDK keeps of the texts of values.
	memoBytes = 48 << 20
	// fillTimeout bounds the wait for the SDK to have written one customer.
	fillTimeout = 10 * time.Second
)

// customers are all the customers of one size. They are entitled to the same.
type customers struct {
	few  []string // ids that are read over and over
	many []string // so many that reading them in turn finds none in memory

	value  string   // the text of the customer value
	usages []string // the usage keys of the first, in the order of the value

	boolean, metered, credit, creditBacked string // ids to ask for
}

// mixture gives n entitlements as a large account has them: a third of them
// booleans, most of the others metered, some enums and configuration values,
// a few wallets and features that draw on them.
func mixture(n int) []stiggtest.Entitlement {
	wallets, some := max(1, n/25), max(1, n/10)
	anchor := time.Now().UTC().AddDate(0, 0, -3).Truncate(time.Hour)
	end := anchor.AddDate(0, 1, 0)
	var list []stiggtest.Entitlement
	add := func(count int, make func(i int) stiggtest.Entitlement) {
		for i := range count {
			list = append(list, make(i))
		}
	}
	add(n/3, func(i int) stiggtest.Entitlement {
		return stiggtest.Boolean(fmt.Sprintf("feature-boolean-%03d", i)).
			Named(fmt.Sprintf("Single sign-on %d", i)).Described("Lets members of the team log in with the company's identity provider")
	})
	add(some, func(i int) stiggtest.Entitlement {
		return stiggtest.Enum(fmt.Sprintf("feature-enum-%03d", i), "eu-west-1", "eu-central-1", "us-east-1").Named(fmt.Sprintf("Regions %d", i))
	})
	add(some, func(i int) stiggtest.Entitlement {
		return stiggtest.Numeric(fmt.Sprintf("feature-numeric-%03d", i), float64(30+i)).
			Named(fmt.Sprintf("Log retention %d", i)).Units("day", "days")
	})
	add(wallets, func(i int) stiggtest.Entitlement {
		return stiggtest.Credit(fmt.Sprintf("currency-%03d", i), 50_000, 1234.5).
			Named(fmt.Sprintf("AI tokens %d", i)).Units("token", "tokens").RenewsAt(end)
	})
	add(some, func(i int) stiggtest.Entitlement {
		return stiggtest.CreditBacked(fmt.Sprintf("feature-credit-backed-%03d", i), 2.5, fmt.Sprintf("currency-%03d", i%wallets)).
			Named(fmt.Sprintf("AI answers %d", i)).Units("answer", "answers")
	})
	add(n-len(list), func(i int) stiggtest.Entitlement {
		return stiggtest.Metered(fmt.Sprintf("feature-metered-%03d", i), 100_000, float64(100+i)).
			Named(fmt.Sprintf("API calls %d", i)).Described("Calls of the public API, of all members together").
			Units("call", "calls").Resets(entitlements.ResetMonth, anchor, anchor, end)
	})
	return list
}

// fill puts customers with n entitlements into Redis: one by way of the SDK,
// which fetches it from the API and writes it, the others as copies of it.
func fill(ctx context.Context, b *bed, n int) (*customers, error) {
	first := fmt.Sprintf("customer-%d-%05d", n, 0)
	b.api.SetEntitlements(first, mixture(n)...)
	if err := waitForWrite(ctx, b.sdk, first, n); err != nil {
		return nil, err
	}
	key := cache.Key{CustomerID: first}
	value, err := b.pool.Get(ctx, cache.ValueKey(prefix, key)).Result()
	if err != nil {
		return nil, err
	}
	c := &customers{
		value:   value,
		boolean: "feature-boolean-000", metered: "feature-metered-001",
		credit: "currency-000", creditBacked: "feature-credit-backed-000",
	}
	for i := range max(fewCustomers, memoBytes/len(value)) {
		c.many = append(c.many, fmt.Sprintf("customer-%d-%05d", n, i))
	}
	c.few = c.many[:fewCustomers]
	if c.usages, err = usageKeys(ctx, b.sdk, first); err != nil {
		return nil, err
	}
	return c, copyCustomer(ctx, b.pool, first, c.many[1:])
}

// waitForWrite asks for a customer until Redis answers: the SDK writes beside
// the check that made it fetch.
func waitForWrite(ctx context.Context, sdk *stigg.Client, customerID string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	for {
		state, err := sdk.GetEntitlements(ctx, customerID, "")
		if err != nil {
			return err
		}
		if len(state.Entitlements) != n {
			return fmt.Errorf("%d entitlements instead of %d", len(state.Entitlements), n)
		}
		if state.Source == stigg.SourceRedis {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the SDK did not write what it fetched")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// usageKeys names the usage keys of a customer as a read of all entitlements
// asks for them.
func usageKeys(ctx context.Context, sdk *stigg.Client, customerID string) ([]string, error) {
	state, err := sdk.GetEntitlements(ctx, customerID, "")
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range state.Entitlements {
		ref := cache.Ref{ID: e.Feature.ID}
		switch e.Kind {
		case stigg.KindCredit:
			ref = cache.Ref{IsCredit: true, ID: e.Currency.ID}
		case stigg.KindMetered:
		default:
			continue
		}
		key := cache.UsageKey(prefix, cache.Key{CustomerID: customerID}, ref)
		keys = append(keys, key, cache.TimestampKey(key))
	}
	return keys, nil
}

// copyCustomer gives other customers the keys of the first.
func copyCustomer(ctx context.Context, client *redis.Client, first string, others []string) error {
	own := cache.ValueKey(prefix, cache.Key{CustomerID: first})
	names, err := client.Keys(ctx, own+"*").Result()
	if err != nil {
		return err
	}
	for _, other := range others {
		pipe := client.Pipeline()
		for _, name := range names {
			pipe.Copy(ctx, name, strings.Replace(name, first, other, 1), 0, false)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
