package main

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// A change that is sent to the queue is seen by a program that uses the SDK.
func TestSDKSeesChanges(t *testing.T) {
	w := newWorld(t)
	w.api.SetEntitlements("acme", stiggtest.Credit("tokens", 1000, 100))
	service := start(t, w.environ())
	service.awaitReady(200, 10*time.Second)

	port, err := strconv.Atoi(fmt.Sprint(w.redis.Port()))
	require.NoError(t, err)
	client, err := stigg.Initialize(stigg.Config{
		APIKey: "key", APIURL: w.api.URL(), EdgeURL: w.api.URL(),
		Redis: &stigg.RedisConfig{Host: w.redis.Host(), Port: port, EnvironmentPrefix: prefix, Timeout: 2 * time.Second},
	})
	require.NoError(t, err)
	defer client.Close()
	query := stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 200}
	answer, err := client.GetCreditEntitlement(t.Context(), query)
	require.NoError(t, err)
	require.True(t, answer.HasAccess)
	require.Eventually(t, func() bool {
		n, err := w.client.Exists(t.Context(), prefix+":c_acme").Result()
		return err == nil && n == 1
	}, 5*time.Second, time.Millisecond)

	requests := w.api.Count(stiggtest.Customer("acme"))
	// The API's usage is of the time at which the customer was made.
	at := time.Now().Add(time.Second)
	var slowest time.Duration
	for i := range 20 {
		remaining := 150 - i
		body := fmt.Sprintf(`{"creditBalanceUpdated":{"customerId":"acme","resourceId":null,"currencyId":"tokens","currency":{"currencyId":"tokens","displayName":"tokens"},"currentBalance":%d,"totalConsumed":%d,"totalGranted":1000,"validUntil":null},"timestamp":%q}`,
			remaining, 1000-remaining, iso(at.Add(time.Duration(i)*time.Second)))
		sent := time.Now()
		w.sqs.Send(w.queue, body)
		require.Eventually(t, func() bool {
			answer, err = client.GetCreditEntitlement(t.Context(), query)
			return err == nil && answer.Remaining == float64(remaining)
		}, 5*time.Second, time.Millisecond)
		slowest = max(slowest, time.Since(sent))
		require.False(t, answer.HasAccess)
		require.Equal(t, stigg.SourceRedis, answer.Source)
	}
	t.Logf("slowest of 20 from send to seen: %v", slowest)
	require.Less(t, slowest, 4*time.Second)
	require.Equal(t, requests, w.api.Count(stiggtest.Customer("acme")), "the API was not asked")
}
