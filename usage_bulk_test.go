package stigg_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// bulk is an API with many customers, and a report for each of them.
func bulk(t *testing.T, customers int) (*stiggtest.Server, []string, []stigg.UsageReport) {
	t.Helper()
	api := stiggtest.New(t)
	var names []string
	var reports []stigg.UsageReport
	for n := range customers {
		names = append(names, fmt.Sprint("customer-", n))
		api.SetEntitlements(names[n], stiggtest.Metered("calls", 100, 40))
		reports = append(reports, stigg.UsageReport{CustomerID: names[n], FeatureID: "calls", Value: 7})
	}
	return api, names, reports
}

// TestBulkOfManyCustomersIsSeenAtOnce: a call for as many customers as one may
// be for reaches Redis within its timeout, although Redis is some milliseconds
// away.
func TestBulkOfManyCustomersIsSeenAtOnce(t *testing.T) {
	api, names, reports := bulk(t, 100)
	server := redistest.Start(t)
	fill(t, api, server, names...)
	proxy := faultproxy.New(t, server.Addr())
	proxy.Latency(faultproxy.Both, 20*time.Millisecond) // one after the other they would take 4 s
	client := newClient(t, api, server, viaProxy(proxy), func(c *stigg.Config) { c.Redis.Timeout = 2 * time.Second })
	_, err := client.ReportUsageBulk(background(), reports)
	require.NoError(t, err)
	require.Zero(t, client.Stats().WriteFailures)
	require.EqualValues(t, len(reports), client.Stats().PairsWritten)
	reader := newClient(t, api, server)
	api.ResetRequests()
	for _, name := range names {
		require.Equal(t, 47.0, callsOf(t, reader, name).CurrentUsage, name)
	}
	require.Zero(t, api.Count(isFetch))
}

// TestBulkWaitsForAllAtOnce: where customers are being fetched, a bulk call
// waits for what is about to be written of them no longer than for one.
func TestBulkWaitsForAllAtOnce(t *testing.T) {
	api, _, reports := bulk(t, 30)
	client := newClient(t, api, redistest.Start(t), defaultTimeout)
	release := make(chan struct{})
	defer close(release)
	api.Fault(stiggtest.Hold(release).On(isFetch))
	ctx, cancel := context.WithCancel(background())
	var checks sync.WaitGroup
	for _, r := range reports {
		checks.Go(func() {
			_, err := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: r.CustomerID, FeatureID: "calls"})
			require.ErrorIs(t, err, context.Canceled)
		})
	}
	eventually(t, func() bool { return api.Count(isFetch) == len(reports) }, "all are fetched")
	cancel()
	checks.Wait()
	began := time.Now()
	_, err := client.ReportUsageBulk(background(), reports)
	require.NoError(t, err)
	require.Less(t, time.Since(began), 2*time.Second, "thirty waits of 100 ms are three seconds")
}
