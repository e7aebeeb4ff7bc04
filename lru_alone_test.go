package stigg_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// The tests of a memory without Redis behind it.

// alone is a client with a memory and without Redis.
func alone(t testing.TB, api *stiggtest.Server, lru stigg.LRUConfig, change ...func(*stigg.Config)) *stigg.Client {
	t.Helper()
	return newClient(t, api, nil, append(change, func(c *stigg.Config) { c.LRU = &lru })...)
}

func callsOf(t testing.TB, client *stigg.Client, customer string) stigg.MeteredEntitlement {
	t.Helper()
	a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: customer, FeatureID: "calls"})
	require.NoError(t, err)
	return a
}

// TestAloneABusyCustomerNeverWaits: a customer who is asked for all the time is
// fetched beside the checks before what is known of it ends, once each time.
func TestAloneABusyCustomerNeverWaits(t *testing.T) {
	const ttl, rounds = 2 * time.Second, 2
	api := acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(50 * time.Millisecond)))
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100, TTL: ttl})
	require.Equal(t, stigg.SourceEdge, callsOf(t, client, "acme").Source)
	first := time.Now()
	var checking sync.WaitGroup
	var checks atomic.Int64
	for range 16 {
		checking.Go(func() {
			for time.Since(first) < rounds*ttl {
				a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
				state, stateErr := client.GetEntitlements(background(), "acme", "")
				if err != nil || stateErr != nil || a.Source != stigg.SourceMemory || state.Source != stigg.SourceMemory || a.Stale {
					t.Errorf("after %v: %s, %s, %v, %v", time.Since(first), a.Source, state.Source, err, stateErr)
					return
				}
				checks.Add(1)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	checking.Wait()
	require.Greater(t, checks.Load(), int64(1000))
	// Fetched at three quarters of the TTL, that is every 1.5 s.
	require.GreaterOrEqual(t, api.Count(isFetch), rounds)
	require.LessOrEqual(t, api.Count(isFetch), 1+rounds*5/4)
}

// TestAloneChangesAreSeenWithinTheTTL, and who is not asked for is not fetched.
func TestAloneChangesAreSeenWithinTheTTL(t *testing.T) {
	const ttl = time.Second
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100, TTL: ttl})
	callsOf(t, client, "acme")
	require.NoError(t, api.SetUsage("acme", "calls", 77))
	changed := time.Now()
	require.Equal(t, 40.0, callsOf(t, client, "acme").CurrentUsage)
	eventually(t, func() bool { return callsOf(t, client, "acme").CurrentUsage == 77 }, "the change")
	require.Less(t, time.Since(changed), 2*ttl)

	time.Sleep(50 * time.Millisecond)
	api.ResetRequests()
	time.Sleep(ttl + 50*time.Millisecond)
	require.Zero(t, api.Count(isFetch))
	require.Equal(t, stigg.SourceEdge, callsOf(t, client, "acme").Source)
}

// TestAloneIsBounded: the customers who were asked for last are kept.
func TestAloneIsBounded(t *testing.T) {
	api := stiggtest.New(t)
	for n := range 100 {
		api.SetEntitlements(fmt.Sprint("customer-", n), acmeEntitlements()...)
	}
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 70, TTL: time.Minute}) // of some ten customers
	for n := range 100 {
		require.Equal(t, stigg.SourceEdge, callsOf(t, client, fmt.Sprint("customer-", n)).Source)
	}
	for n := 99; n >= 92; n-- {
		require.Equal(t, stigg.SourceMemory, callsOf(t, client, fmt.Sprint("customer-", n)).Source, n)
	}
	for n := range 80 {
		require.Equal(t, stigg.SourceEdge, callsOf(t, client, fmt.Sprint("customer-", n)).Source, n)
	}
}

// TestAloneStale: without the API, what is known is answered until it is as old
// as MaxStale, marked as stale, with an error that says why; then the fallback.
func TestAloneStale(t *testing.T) {
	const ttl, maxStale = 500 * time.Millisecond, 3 * time.Second
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100, TTL: ttl, MaxStale: maxStale})
	fresh := callsOf(t, client, "acme")
	fetched := time.Now()
	api.Close()
	require.Equal(t, stigg.SourceMemory, callsOf(t, client, "acme").Source)
	time.Sleep(time.Until(fetched.Add(ttl + 20*time.Millisecond)))
	stale := 0
	for time.Since(fetched) < maxStale-time.Second {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		require.ErrorIs(t, err, stigg.ErrUnavailable)
		require.True(t, a.Stale)
		require.Equal(t, stigg.SourceMemory, a.Source)
		require.Equal(t, fresh.CurrentUsage, a.CurrentUsage)
		state, err := client.GetEntitlements(background(), "acme", "")
		require.ErrorIs(t, err, stigg.ErrUnavailable)
		require.True(t, state.Stale)
		require.Len(t, state.Entitlements, len(acmeEntitlements()))
		stale++
		time.Sleep(10 * time.Millisecond)
	}
	require.Greater(t, stale, 10)
	time.Sleep(time.Until(fetched.Add(maxStale + 50*time.Millisecond)))
	a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
	require.ErrorIs(t, err, stigg.ErrUnavailable)
	require.True(t, a.IsFallback)
	require.False(t, a.Stale)
	state, err := client.GetEntitlements(background(), "acme", "")
	require.ErrorIs(t, err, stigg.ErrUnavailable)
	require.True(t, state.IsFallback)
}

// TestAloneNothingStale: a negative MaxStale means not at all.
func TestAloneNothingStale(t *testing.T) {
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100, TTL: 100 * time.Millisecond, MaxStale: -1})
	callsOf(t, client, "acme")
	api.Close()
	time.Sleep(120 * time.Millisecond)
	a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
	require.ErrorIs(t, err, stigg.ErrUnavailable)
	require.True(t, a.IsFallback)
}

// TestAloneOwnChangesAreSeenAtOnce: what this client has just changed is not
// answered from what it knew before.
func TestAloneOwnChangesAreSeenAtOnce(t *testing.T) {
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100})
	tokens := func() stigg.CreditEntitlement {
		a, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
		require.NoError(t, err)
		return a
	}
	for range 5 {
		before := tokens()
		require.Equal(t, stigg.SourceMemory, tokens().Source)
		consumed, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 10})
		require.NoError(t, err)
		after := tokens()
		require.Equal(t, consumed.Balance.CurrentUsage, after.CurrentUsage)
		require.Equal(t, before.Remaining-10, after.Remaining)
	}
}

// TestAloneHitCostsNoAllocation, as in front of Redis.
func TestAloneHitCostsNoAllocation(t *testing.T) {
	client := alone(t, acmeAPI(t), stigg.LRUConfig{MaxEntries: 100})
	ctx := background()
	for _, g := range getters {
		q := ask{customer: "acme", id: g.id}
		_, err := g.get(ctx, client, q)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = g.get(ctx, client, q) }), g.name)
	}
}

// TestAloneLargeCustomer: a customer of more entitlements than are kept is kept
// all the same, alone; to ask the API for each of its checks would be worse.
func TestAloneLargeCustomer(t *testing.T) {
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 2})
	require.Greater(t, len(acmeEntitlements()), 2)
	callsOf(t, client, "acme")
	api.ResetRequests()
	for range 10 {
		require.Equal(t, stigg.SourceMemory, callsOf(t, client, "acme").Source)
	}
	require.Zero(t, api.Count(isFetch))
}

// TestAloneStaleAfterOwnChanges: a report is no reason to know nothing of a
// customer any more when the API goes away after it. What is answered then has
// the usage that the API told of.
func TestAloneStaleAfterOwnChanges(t *testing.T) {
	const maxStale = 3 * time.Second
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100, MaxStale: maxStale})
	callsOf(t, client, "acme")
	fetched := time.Now()
	for range 2 {
		_, err := client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 5})
		require.NoError(t, err)
	}
	_, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 10})
	require.NoError(t, err)
	api.Close()
	for range 2 {
		calls, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		require.ErrorIs(t, err, stigg.ErrUnavailable)
		require.True(t, calls.Stale)
		require.Equal(t, stigg.SourceMemory, calls.Source)
		require.Equal(t, 50.0, calls.CurrentUsage)
		tokens, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
		require.ErrorIs(t, err, stigg.ErrUnavailable)
		require.True(t, tokens.Stale)
		require.Equal(t, 360.0, tokens.Remaining)
		state, err := client.GetEntitlements(background(), "acme", "")
		require.ErrorIs(t, err, stigg.ErrUnavailable)
		require.True(t, state.Stale)
		require.Len(t, state.Entitlements, len(acmeEntitlements()))
	}
	time.Sleep(time.Until(fetched.Add(maxStale + 50*time.Millisecond)))
	calls, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
	require.ErrorIs(t, err, stigg.ErrUnavailable)
	require.True(t, calls.IsFallback, "the change has renewed nothing")
}

// TestAloneReloadDuringACheck: a check that asks the Edge API while a reload is
// under way does not keep the reload's answer, which is newer, from being seen.
func TestAloneReloadDuringACheck(t *testing.T) {
	api := acmeAPI(t)
	client := alone(t, api, stigg.LRUConfig{MaxEntries: 100, TTL: time.Minute})
	release := make(chan struct{})
	api.Fault(onGraphQL(stiggtest.Hold(release)))
	reloaded := make(chan error)
	go func() { reloaded <- client.ReloadEntitlements(background(), "acme", "") }()
	require.NoError(t, api.WaitForRequests(background(), 1, stiggtest.GraphQL, isFetch))
	require.Equal(t, 40.0, callsOf(t, client, "acme").CurrentUsage)

	require.NoError(t, api.SetUsage("acme", "calls", 77)) // the change that the reload is for
	close(release)
	require.NoError(t, <-reloaded)
	require.Equal(t, 77.0, callsOf(t, client, "acme").CurrentUsage)
}
