package stigg_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func usageAPI(t *testing.T) *stiggtest.Server {
	api := stiggtest.New(t)
	api.SetEntitlements("acme",
		stiggtest.Metered("calls", 100, 40),
		stiggtest.CreditBacked("ai", 2.5, "tokens"),
		stiggtest.Credit("tokens", 1000, 100))
	return api
}

func TestConsumeCreditsIsSeenAtOnce(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	writer, reader := newClient(t, api, server), newClient(t, api, server)
	q := stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 1}
	before, err := writer.GetCreditEntitlement(background(), q)
	require.NoError(t, err)
	require.Equal(t, 900.0, before.Remaining)
	eventually(t, func() bool { return writer.Stats().PairsWritten > 0 }, "write-back")

	consumed, err := writer.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 250})
	require.NoError(t, err)
	require.Equal(t, 650.0, consumed.Balance.Remaining)
	require.NotEmpty(t, consumed.IdempotencyKey)
	api.ResetRequests()
	after, err := reader.GetCreditEntitlement(background(), q)
	require.NoError(t, err)
	require.Equal(t, stigg.SourceRedis, after.Source)
	require.Equal(t, 650.0, after.Remaining)
	require.True(t, after.DataTime.After(before.DataTime))
	require.Zero(t, api.Count(isFetch))
}

func TestReportUsageIsSeenAtOnce(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	client := newClient(t, api, server)
	_, err := client.GetEntitlements(background(), "acme", "")
	require.NoError(t, err)
	eventually(t, func() bool { return client.Stats().PairsWritten > 0 }, "write-back")

	m, err := client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 55})
	require.NoError(t, err)
	require.Equal(t, 95.0, *m.CurrentUsage)
	calls, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls", RequestedUsage: 6})
	require.NoError(t, err)
	require.Equal(t, stigg.SourceRedis, calls.Source)
	require.False(t, calls.HasAccess)
	require.Equal(t, 95.0, calls.CurrentUsage)

	m, err = client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "ai", Value: 100})
	require.NoError(t, err)
	require.Equal(t, 250.0, m.Credit.Consumed)
	tokens, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
	require.NoError(t, err)
	require.Equal(t, stigg.SourceRedis, tokens.Source)
	require.Equal(t, 650.0, tokens.Remaining, "the report consumed from the wallet")
}

func TestUsageOfACustomerThatIsNotCachedWritesNothing(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	client := newClient(t, api, server)
	_, err := client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 1})
	require.NoError(t, err)
	require.Zero(t, server.Client().DBSize(background()).Val())
}

func TestUsageIsReportedThoughRedisIsAway(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	client := newClient(t, api, server)
	server.Stop()
	for range 5 {
		_, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 1})
		require.NoError(t, err)
	}
	require.EqualValues(t, 5, client.Stats().WriteFailures)
	tokens, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
	require.NoError(t, err)
	require.Equal(t, 895.0, tokens.Remaining)
	// What is held in process for the outage does not outlive a change.
	_, err = client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 5})
	require.NoError(t, err)
	tokens, err = client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
	require.NoError(t, err)
	require.Equal(t, 890.0, tokens.Remaining)
}

func TestBulkTellsWhichPartsWentThrough(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	client := newClient(t, api, server)
	reports := make([]stigg.UsageReport, 1000)
	for i := range reports {
		reports[i] = stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 1, IdempotencyKey: fmt.Sprint("key-", i)}
	}
	calls := 0
	api.Fault(stiggtest.Errors("InternalError", "trace-4").On(stiggtest.Operation("ReportUsageBulk"), func(stiggtest.Request) bool {
		calls++
		return calls == 4
	}))
	result, err := client.ReportUsageBulk(background(), reports)
	var apiErr *stigg.Error
	require.ErrorAs(t, err, &apiErr)
	require.Equal(t, "trace-4", apiErr.TraceID)
	require.Equal(t, 300, result.Acknowledged())
	require.Len(t, result.Measurements, 300)
	require.Len(t, result.Parts, 10)
	for i, part := range result.Parts {
		require.Equal(t, 100*i, part.From)
		require.Equal(t, 100*(i+1), part.To)
		switch {
		case i < 3:
			require.NoError(t, part.Err)
		case i == 3:
			require.ErrorIs(t, part.Err, err)
		default:
			require.ErrorIs(t, part.Err, stigg.ErrNotSent)
		}
	}
	require.Equal(t, "key-999", result.IdempotencyKeys[999])
	require.Equal(t, 4, api.Count(stiggtest.Operation("ReportUsageBulk")))

	// The rest again, from the first that did not go through.
	rest, err := client.ReportUsageBulk(background(), reports[result.Acknowledged():])
	require.NoError(t, err)
	require.Equal(t, 700, rest.Acknowledged())
	require.Equal(t, 1040.0, *rest.Measurements[699].CurrentUsage)
}

func TestAsyncConsumptionIsSplit(t *testing.T) {
	api := usageAPI(t)
	client := newClient(t, api, nil)
	result, err := client.ConsumeCreditsAsync(background(), make2500())
	require.NoError(t, err)
	require.Equal(t, 2500, result.Acknowledged())
	require.Len(t, result.Parts, 3)
	require.Equal(t, stigg.BulkPart{From: 2000, To: 2500}, result.Parts[2])
	seen := map[string]bool{}
	for _, key := range result.IdempotencyKeys {
		require.NotEmpty(t, key)
		require.False(t, seen[key], "every consumption has a key of its own")
		seen[key] = true
	}
}

func make2500() []stigg.CreditConsumption {
	all := make([]stigg.CreditConsumption, 2500)
	for i := range all {
		all[i] = stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 0.01}
	}
	return all
}

func TestEventsAreSplit(t *testing.T) {
	api := usageAPI(t)
	client := newClient(t, api, nil)
	events := make([]stigg.UsageEvent, 2001)
	for i := range events {
		events[i] = stigg.UsageEvent{CustomerID: "acme", EventName: "called", Dimensions: map[string]any{"n": i}}
	}
	result, err := client.ReportEvents(background(), events)
	require.NoError(t, err)
	require.Len(t, result.Parts, 3)
	require.Len(t, api.Events(), 2001)
	require.Equal(t, result.IdempotencyKeys[2000], api.Events()[2000].IdempotencyKey)

	// Twelve events of 0.9 MB are not one request.
	large := make([]stigg.UsageEvent, 12)
	for i := range large {
		large[i] = stigg.UsageEvent{CustomerID: "acme", EventName: "called", Dimensions: map[string]any{"text": strings.Repeat("x", 900_000)}}
	}
	result, err = client.ReportEvents(background(), large)
	require.NoError(t, err)
	require.Len(t, result.Parts, 2)
	require.Equal(t, 12, result.Acknowledged())
}

func TestInvalidUsageIsNotSent(t *testing.T) {
	api := usageAPI(t)
	client := newClient(t, api, nil)
	eventually(t, func() bool { return client.WaitForInitialization(background()) == nil }, "start")
	api.ResetRequests()
	ctx := background()
	fails := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, stigg.ErrInvalidArgument)
	}
	good := stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 1}
	for _, bad := range []stigg.UsageReport{
		{FeatureID: "calls"}, {CustomerID: "acme"}, {CustomerID: "acme", FeatureID: "calls", Value: math.NaN()},
		{CustomerID: "acme", FeatureID: "calls", Value: math.Inf(-1)}, {CustomerID: strings.Repeat("x", 256), FeatureID: "calls"},
		{CustomerID: "acme", FeatureID: "calls", UpdateBehavior: "ADD"},
		{CustomerID: "acme", FeatureID: "calls", Dimensions: map[string]any{"f": func() {}}},
	} {
		_, err := client.ReportUsage(ctx, bad)
		fails(err)
		_, err = client.ReportUsageBulk(ctx, []stigg.UsageReport{good, bad})
		fails(err)
		require.ErrorContains(t, err, "report 1")
	}
	for _, amount := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		bad := stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: amount}
		_, err := client.ConsumeCredits(ctx, bad)
		fails(err)
		_, err = client.ConsumeCreditsAsync(ctx, []stigg.CreditConsumption{bad})
		fails(err)
	}
	_, err := client.ReportEvents(ctx, []stigg.UsageEvent{{CustomerID: "acme", EventName: "e", Dimensions: map[string]any{"text": strings.Repeat("x", 1<<20)}}})
	fails(err)
	_, err = client.ReportEvents(ctx, []stigg.UsageEvent{{CustomerID: "acme"}})
	fails(err)
	_, err = client.EstimateUsageCost(ctx, stigg.UsageCostQuery{CustomerID: "acme"})
	fails(err)
	_, err = client.EstimateEventCost(ctx, stigg.EventCostQuery{CustomerID: "acme"})
	fails(err)
	_, err = client.CreditBalances(ctx, stigg.CreditsQuery{})
	fails(err)
	require.Zero(t, api.Count())

	result, err := client.ReportUsageBulk(ctx, nil)
	require.NoError(t, err)
	require.Zero(t, result.Acknowledged())
	require.Zero(t, api.Count())
}

func TestMutationIsRepeatedWithItsKey(t *testing.T) {
	api := usageAPI(t)
	client := newClient(t, api, nil)
	// The API carries it out, but its answer is lost.
	api.Fault(stiggtest.Truncated().On(stiggtest.Operation("ConsumeCredits")).Times(1))
	consumed, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 10})
	require.NoError(t, err)
	require.Equal(t, 110.0, consumed.Balance.CurrentUsage, "it counted once")
	requests := api.Requests(stiggtest.Operation("ConsumeCredits"))
	require.Len(t, requests, 2)
}

func TestFailedReportTellsItsKey(t *testing.T) {
	api := usageAPI(t)
	client := newClient(t, api, nil)
	api.Fault(stiggtest.Status(400).On(stiggtest.GraphQL))
	m, err := client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 1})
	require.ErrorIs(t, err, stigg.ErrRejected)
	require.NotEmpty(t, m.IdempotencyKey)
	c, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 1, IdempotencyKey: "mine"})
	require.ErrorIs(t, err, stigg.ErrRejected)
	require.Equal(t, "mine", c.IdempotencyKey)
}

func TestEstimates(t *testing.T) {
	api := usageAPI(t)
	api.SetEventCost("called", "ai", 4)
	client := newClient(t, api, nil)
	e, err := client.EstimateUsageCost(background(), stigg.UsageCostQuery{CustomerID: "acme", FeatureID: "ai", Value: 400})
	require.NoError(t, err)
	require.Len(t, e.Estimates, 1)
	require.Equal(t, "tokens", e.Estimates[0].CurrencyID)
	require.Equal(t, 1000.0, e.Estimates[0].Cost)
	require.True(t, e.Estimates[0].WouldOverdraft)
	e, err = client.EstimateEventCost(background(), stigg.EventCostQuery{CustomerID: "acme", EventName: "called"})
	require.NoError(t, err)
	require.Equal(t, 10.0, e.Estimates[0].Cost)
}

func TestRecordsAreWalkedPageByPage(t *testing.T) {
	api := usageAPI(t)
	var grants []stiggtest.Grant
	var events []stiggtest.LedgerEvent
	for i := range 250 {
		grants = append(grants, stiggtest.Grant{ID: fmt.Sprint("grant-", i), CurrencyID: "tokens", Amount: float64(i)})
		events = append(events, stiggtest.LedgerEvent{EventID: fmt.Sprint("event-", i), CurrencyID: "tokens", Amount: 1})
	}
	api.SetCreditGrants("acme", grants...)
	api.SetCreditLedger("acme", events...)
	api.SetCreditUsage("acme", stiggtest.UsageSeries{FeatureID: "ai", CurrencyID: "tokens", Points: []stiggtest.UsagePoint{{Value: 7}}})
	client := newClient(t, api, nil)
	q := stigg.CreditsQuery{CustomerID: "acme"}

	seen := map[string]bool{}
	for grant, err := range client.CreditGrants(background(), q) {
		require.NoError(t, err)
		seen[grant.ID] = true
	}
	require.Len(t, seen, 250)
	require.Equal(t, 3, api.Count(stiggtest.Operation("GetCreditGrants")))
	n := 0
	for _, err := range client.CreditLedger(background(), q) {
		require.NoError(t, err)
		if n++; n == 120 {
			break
		}
	}
	require.Equal(t, 2, api.Count(stiggtest.Operation("GetCreditLedger")), "no page is fetched that is not reached")
	for series, err := range client.CreditUsage(background(), stigg.CreditUsageQuery{CreditsQuery: q}) {
		require.NoError(t, err)
		require.Equal(t, 7.0, series.Total)
	}
	balances, err := client.CreditBalances(background(), q)
	require.NoError(t, err)
	require.Len(t, balances, 1)
	require.Equal(t, 900.0, balances[0].Remaining)

	asked := api.Count()
	for _, err := range client.CreditUsage(background(), stigg.CreditUsageQuery{CreditsQuery: q, TimeRange: "last day"}) {
		require.ErrorIs(t, err, stigg.ErrInvalidArgument)
		require.ErrorContains(t, err, "TimeRange")
	}
	require.Equal(t, asked, api.Count(), "nothing is sent")
	require.Equal(t, uint64(1), client.Stats().InvalidCalls)

	api.Fault(stiggtest.Status(403).On(stiggtest.Operation("GetCreditGrants")))
	failures := 0
	for _, err := range client.CreditGrants(background(), q) {
		require.ErrorIs(t, err, stigg.ErrForbidden)
		failures++
	}
	require.Equal(t, 1, failures)
}

func TestUsageCallsOfflineAndClosed(t *testing.T) {
	offline := newClient(t, nil, nil, func(c *stigg.Config) { c.Offline = true })
	_, err := offline.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "a", CurrencyID: "b", Amount: 1})
	require.ErrorIs(t, err, stigg.ErrOffline)
	closed := newClient(t, usageAPI(t), nil)
	require.NoError(t, closed.Close())
	_, err = closed.ReportUsage(background(), stigg.UsageReport{CustomerID: "a", FeatureID: "b"})
	require.ErrorIs(t, err, stigg.ErrClosed)
	for _, err := range closed.CreditLedger(background(), stigg.CreditsQuery{CustomerID: "a"}) {
		require.ErrorIs(t, err, stigg.ErrClosed)
	}
}

// TestConsumptionDuringALateWriteBack consumes while the write-back of a cold
// check is held up by another writer: the balance from before must not come
// back with it.
func TestConsumptionDuringALateWriteBack(t *testing.T) {
	api, server := usageAPI(t), redistest.Start(t)
	client := newClient(t, api, server, defaultTimeout) // shorter than the other writer's lock
	rdb := server.Client()
	require.NoError(t, rdb.Set(background(), prefix+"-acme", "another writer", 500*time.Millisecond).Err())
	q := stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 20}
	before, err := client.GetCreditEntitlement(background(), q)
	require.NoError(t, err)
	require.Equal(t, 900.0, before.Remaining)
	_, err = client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 895})
	require.NoError(t, err)
	at := client.Stats().Writes
	after, err := client.GetCreditEntitlement(background(), q)
	require.NoError(t, err)
	require.Equal(t, 5.0, after.Remaining, "at once")
	eventually(t, func() bool {
		return client.Stats().Writes > at && rdb.Exists(background(), prefix+":c_acme").Val() == 1
	}, "write-back")
	eventually(t, func() bool {
		later, err := client.GetCreditEntitlement(background(), q)
		return err == nil && later.Remaining == 5 && later.Source == stigg.SourceRedis
	}, "the balance after the consumption, from redis")
}
