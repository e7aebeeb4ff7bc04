package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hostileBodies are messages that no well-meaning sender sends.
func hostileBodies(n int) []string {
	const limit = 250 << 10 // what the queue takes
	randomText := func(size int) string {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(' ' + rand.IntN(95))
		}
		return string(b)
	}
	kinds := []func(i int) string{
		func(int) string { return randomText(1 + rand.IntN(1000)) },
		func(int) string { return strings.Repeat("[", limit/2) + strings.Repeat("]", limit/2) },
		func(int) string { return strings.Repeat(`{"data":`, limit/10) + "1" + strings.Repeat("}", limit/10) },
		func(int) string {
			return strings.Repeat(`{"detail-type":"x","detail":`, 1000) + "{}" + strings.Repeat("}", 1000)
		},
		func(int) string {
			return `{"type":"entitlements.updated","customer":{"id":"c"},"entitlements":"` + randomText(10) + `"}`
		},
		func(int) string { return `{"type":"entitlements.updated","customer":{"id":7},"entitlements":[]}` },
		func(int) string { return `{"type":"entitlements.updated","entitlements":[{}]}` },
		func(int) string { return `{"type":["x"],"customer":{}}` },
		func(int) string {
			return `{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"f","type":"FEATURE"},"usage":{"currentUsage":1e999}}}`
		},
		func(int) string { return `{"usageUpdatedV2":{"customerId":"","usage":null}}` },
		func(int) string {
			return `{"creditBalanceUpdated":{"customerId":"c","currencyId":"u","currentBalance":"many","totalGranted":null}}`
		},
		func(int) string { return `{"Type":"Notification","Message":{"no":"text"}}` },
		func(int) string { return `{"something":"else","n":[1,2,3]}` },
		func(int) string { return `null` },
		func(int) string { return `"text"` },
		func(int) string {
			return `{"type":"entitlements.updated","customer":{"id":"` + strings.Repeat("x", 10000) + `"},"entitlements":[]}`
		},
		func(int) string {
			const field = `,"":1`
			return `{"type":"entitlements.updated","environmentId":"another","customer":{"id":"c"},"entitlements":[{"feature":{"id":"f","featureType":"BOOLEAN"},"resetPeriodConfiguration":{"a":1` + strings.Repeat(field, limit/len(field)) + `}}]}`
		},
		func(int) string { return `{"type":"invented","timestamp":"yesterday","customer":"c"}` },
		func(i int) string {
			return fmt.Sprintf(`{"type":"entitlements.updated","environmentId":"another","timestamp":"2026-06-01T10:00:00Z","customer":{"id":"c-%d"},"entitlements":[{"feature":{"id":"f","featureType":"BOOLEAN"}}]}`, i)
		},
		func(i int) string { return fmt.Sprintf(`{"type":"invented.%d","a":{"b":{"c":[]}}}`, i) },
		func(int) string {
			return `{"type":"entitlements.updated","entitlementsUpdatedAt":"yesterday","customer":{"id":"c"},"entitlements":[]}`
		},
		func(int) string {
			return `{"type":"entitlements.updated","timestamp":"2026-06-01T10:00:00Z","customer":{"id":"c"},"entitlements":[` + strings.Repeat(`{"feature":{"id":"f","featureType":"BOOLEAN"}},`, 4000) + `null]}`
		},
	}
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = kinds[i%len(kinds)](i)
	}
	return bodies
}

// Hostile messages are counted by kind and left in the queue; the service goes
// on, and its memory comes back to what it was.
func TestHostileMessages(t *testing.T) {
	w := newWorld(t)
	s := start(t, w.environ("ENVIRONMENT_ID=mine", "VISIBILITY_TIMEOUT_IN_SECS=600"))
	s.awaitReady(200, 10*time.Second)
	before := s.rss()
	const n = 1000
	w.sqs.SendAll(w.queue, hostileBodies(n))
	require.Eventually(t, func() bool {
		total := 0
		for _, count := range s.outcomes() {
			total += count
		}
		return total == n
	}, time.Minute, 50*time.Millisecond)
	outcomes := s.outcomes()
	t.Logf("by kind: %v", outcomes)
	for _, kind := range []string{"not_json", "unknown_format", "malformed", "foreign", "ignored"} {
		require.Positive(t, outcomes[kind], kind)
	}
	require.Zero(t, outcomes["panicked"])
	left := 0
	for _, kind := range []string{"not_json", "unknown_format", "malformed", "foreign", "failed"} {
		left += outcomes[kind]
	}
	require.Eventually(t, func() bool {
		visible, inFlight := w.sqs.Depth(w.queue)
		return visible+inFlight == left
	}, 5*time.Second, 50*time.Millisecond, "what cannot be read stays in the queue")
	require.Equal(t, left, strings.Count(s.log.String(), "message is left in the queue"), "each is said once")
	require.NotContains(t, s.log.String(), "yesterday", "no bodies in the log")

	// It still works.
	w.apply(prefix, []change{{"c", time.UnixMilli(1), listBody("c", 2, 1, time.UnixMilli(1))}})
	w.sqs.Send(w.queue, usageBody("c", "feature-0", 5, time.Now()))
	require.Eventually(t, func() bool {
		value, err := w.client.Get(t.Context(), prefix+":c_c:f_feature-0").Result()
		return err == nil && strings.Contains(value, `"currentUsage":5`)
	}, 5*time.Second, 20*time.Millisecond)
	var after int64
	require.Eventually(t, func() bool {
		after = s.rss()
		return after < before+(25<<20)
	}, 30*time.Second, 200*time.Millisecond, "memory: %d MB before, %d MB after", before>>20, after>>20)
	t.Logf("memory: %.1f MB before, %.1f MB after", float64(before)/(1<<20), float64(after)/(1<<20))
}
