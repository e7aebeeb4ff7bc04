package service_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

var t0 = time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)

// Every row of the table of actions, through a real queue into a real Redis.
func TestMessagesAreCarriedOut(t *testing.T) {
	w := newWorld(t)
	w.api.SetEntitlements("fetched", stiggtest.Metered("exports", 50, 7), stiggtest.CreditBacked("ai", 2, "tokens"), stiggtest.Credit("tokens", 100, 60))
	for _, customer := range []string{"listed", "fetched", "archived", "gone", "used"} {
		w.cached(customer, t0)
	}
	s := w.start()

	w.send(listMessage("listed", 100, 40, t0.Add(time.Minute)))
	w.empty()
	require.Equal(t, ms(t0.Add(time.Minute)), w.get("test:c_listed#timestamp"))
	r, err := w.store.ReadState(t.Context(), cache.Key{CustomerID: "listed"})
	require.NoError(t, err)
	require.Zero(t, r.Faults, r.Faults.String())
	require.Len(t, r.Entitlements, 3)
	byID := map[string]cache.CachedEntitlement{}
	for _, e := range r.Entitlements {
		byID[cache.RefOf(e.Definition).ID] = e
	}
	require.Equal(t, 100.0, *byID["exports"].Definition.UsageLimit)
	require.Equal(t, 40.0, byID["exports"].Usage.Current)
	require.Equal(t, entitlements.ResetMonth, byID["exports"].Definition.ResetPeriod)
	require.Contains(t, w.get("test:c_listed"), `"resetPeriodConfiguration":{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"}`)
	require.Equal(t, entitlements.KindBoolean, byID["sso"].Definition.Kind())
	require.Equal(t, 1000.0, *byID["tokens"].Definition.UsageLimit)
	require.Equal(t, 600.0, byID["tokens"].Usage.Current)
	require.Equal(t, "token", byID["tokens"].Definition.Currency.UnitSingular)

	// Usage: newer, older, and of a customer that is not cached.
	w.send(usageMessage("listed", "exports", 41, t0.Add(2*time.Minute)))
	w.empty()
	require.JSONEq(t, `{"currentUsage":41,"usagePeriodStart":null,"usagePeriodEnd":null}`, w.get("test:c_listed:f_exports"))
	w.send(usageMessage("listed", "exports", 39, t0.Add(time.Minute)), usageMessage("unknown", "exports", 5, t0))
	w.empty()
	require.Contains(t, w.get("test:c_listed:f_exports"), "41")
	require.Empty(t, w.get("test:c_unknown:f_exports"))

	// A balance whose total is as cached; then one whose total changed.
	w.send(`{"data":{"creditBalanceUpdated":{"customerId":"listed","resourceId":null,"currencyId":"tokens","currentBalance":350,"totalConsumed":650,"totalGranted":1000,"validUntil":null}},"timestamp":"2026-06-01T10:03:00.000Z"}`)
	w.empty()
	require.Contains(t, w.get("test:c_listed:credit_tokens"), `"currentUsage":650`)
	require.Equal(t, ms(t0.Add(3*time.Minute)), w.get("test:c_listed:credit_tokens#timestamp"))
	require.Zero(t, w.api.Count(stiggtest.Edge, stiggtest.Customer("listed")))
	w.api.SetEntitlements("listed", stiggtest.Credit("tokens", 2000, 650))
	w.send(`{"creditBalanceUpdated":{"customerId":"listed","currencyId":"tokens","currentBalance":1350,"totalConsumed":650,"totalGranted":2000},"timestamp":"2026-06-01T10:04:00.000Z"}`)
	w.empty()
	require.Equal(t, 1, w.api.Count(stiggtest.Edge, stiggtest.Customer("listed")))
	require.Contains(t, w.get("test:c_listed"), `"usageLimit":2000`)

	// Any other event, and several of them in a moment, are one request.
	var events []string
	for range 20 {
		events = append(events, `{"type":"subscription.updated","messageId":"m","timestamp":"2026-06-01T10:00:00.000Z","environmentId":"env","customer":{"id":"fetched"},"resource":null}`)
	}
	w.send(append(events, `{"type":"something.invented","customer":{"id":"fetched"}}`)...)
	w.empty()
	require.LessOrEqual(t, w.api.Count(stiggtest.Edge, stiggtest.Customer("fetched")), 4)
	require.Contains(t, w.get("test:c_fetched"), `"creditRate":{"amount":2,"currencyId":"tokens"}`)
	require.Positive(t, s.metric("persistent_cache_refetches_coalesced_total"))

	// A customer that is not cached is not fetched.
	w.send(`{"type":"customer.updated","customer":{"id":"unknown"}}`)
	w.empty()
	require.Zero(t, w.api.Count(stiggtest.Edge, stiggtest.Customer("unknown")))

	// A customer that is gone; a late list from before does not bring it back.
	w.send(`{"type":"customer.archived","timestamp":"2026-06-01T11:00:00.000Z","customer":{"id":"archived"}}`, `{"type":"customer.deleted","timestamp":"2026-06-01T11:00:00.000Z","customer":{"id":"gone"}}`)
	w.empty()
	for _, customer := range []string{"archived", "gone"} {
		for _, suffix := range []string{"", "#timestamp", ":metadata", ":metadata#timestamp"} {
			require.Empty(t, w.get("test:c_"+customer+suffix))
		}
	}
	w.set("test:c_gone:f_exports", "{}", "test:c_gone:f_exports#timestamp", "1")
	w.send(listMessage("gone", 100, 40, t0.Add(time.Minute)))
	w.empty()
	require.Empty(t, w.get("test:c_gone"))

	// What changes nothing is deleted.
	w.send(`{"type":"coupon.created","environmentId":"env"}`, `{"packagePublished":{"environmentId":"env","migrationType":"NEW_CUSTOMERS","packageRefId":"p","packageVersion":2}}`)
	w.empty()
	require.NotEmpty(t, w.get("test:c_listed"))
	require.Equal(t, 1, s.count("other", "ignored"))

	// A package published to all customers.
	w.set("test:c_listed:r_site", "{}", "test:c_listed:r_site#timestamp", "1", "other:c_listed", "{}", "test:untouched", "1")
	w.send(`{"packagePublished":{"environmentId":"env","migrationType":"ALL_CUSTOMERS","packageRefId":"p","packageVersion":3}}`)
	w.empty()
	for _, key := range []string{"test:c_listed", "test:c_listed#timestamp", "test:c_listed:metadata", "test:c_listed:r_site", "test:c_fetched"} {
		require.Empty(t, w.get(key), key)
	}
	for _, key := range []string{"test:c_listed:f_exports", "test:c_listed:f_exports#timestamp", "other:c_listed", "test:untouched"} {
		require.NotEmpty(t, w.get(key), key)
	}
	require.Zero(t, s.metric("persistent_cache_panics_total"))
}

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func TestWrappedMessages(t *testing.T) {
	w := newWorld(t)
	w.cached("c", t0)
	w.start()
	quote := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return string(b)
	}
	usage := func(n int) string { return usageMessage("c", "f", float64(n), t0.Add(time.Duration(n)*time.Second)) }
	for i, body := range []string{
		`{"Type":"Notification","MessageId":"x","Timestamp":"2026-06-01T10:00:00.000Z","Message":` + quote(usage(1)) + `}`,
		`{"version":"0","id":"x","detail-type":"usage","time":"2026-06-01T10:00:00Z","detail":` + usage(2) + `}`,
		`{"Type":"Notification","Message":` + quote(`{"detail-type":"usage","detail":`+usage(3)+`}`) + `}`,
	} {
		w.send(body)
		w.empty()
		require.Contains(t, w.get("test:c_c:f_f"), fmt.Sprintf(`"currentUsage":%d`, i+1))
	}
}

// The policy UPSERT writes customers that are not cached.
func TestUpsert(t *testing.T) {
	w := newWorld(t, "CACHE_UPDATE_POLICY=UPSERT", "KEYS_TTL_IN_SECS=-1")
	w.api.SetEntitlements("b", stiggtest.Boolean("sso"))
	w.start()
	w.send(listMessage("a", 1, 1, t0), `{"type":"customer.created","customer":{"id":"b"}}`)
	w.empty()
	require.NotEmpty(t, w.get("test:c_a"))
	require.Contains(t, w.get("test:c_b"), "sso")
	ttl, err := w.client.TTL(t.Context(), "test:c_a").Result()
	require.NoError(t, err)
	require.Negative(t, ttl)
}

// A resource is written beside its customer.
func TestResource(t *testing.T) {
	w := newWorld(t, "CACHE_UPDATE_POLICY=UPSERT")
	w.api.SetResourceEntitlements("c", "site", stiggtest.Boolean("sso"))
	w.start()
	w.send(`{"type":"subscription.created","customer":{"id":"c"},"resource":{"id":"site"}}`)
	w.empty()
	require.Contains(t, w.get("test:c_c:r_site"), "sso")
	require.Empty(t, w.get("test:c_c"))
	require.Equal(t, 1, w.api.Count(stiggtest.Resource("c", "site")))
}

func TestEndpoints(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	s.awaitReady(200, within)
	code, body := s.get("/livez")
	require.Equal(t, 200, code)
	require.Equal(t, `{"status":"UP"}`, body)
	require.Eventually(t, func() bool {
		_, body := s.get("/readyz")
		return body == `{"status":"UP","consumers":10,"redis":"CONNECTED"}`
	}, within, step)

	w.cached("c", t0)
	w.send(usageMessage("c", "f", 1, t0))
	w.empty()
	code, body = s.get("/metrics")
	require.Equal(t, 200, code)
	for _, line := range []string{
		"# TYPE persistent_cache_write_duration_seconds histogram",
		"# TYPE persistent_cache_write_errors_total counter",
		"# TYPE persistent_cache_hit_ratio gauge",
		"# TYPE persistent_cache_memory_usage_bytes gauge",
		"# TYPE persistent_cache_hits_total gauge",
		"# TYPE persistent_cache_misses_total gauge",
		"# TYPE persistent_cache_message_handling_duration_seconds histogram",
		"# TYPE persistent_cache_messages_processed_total counter",
		"# TYPE persistent_cache_message_lag_seconds histogram",
		"# TYPE persistent_cache_skipped_older_total counter",
		"# TYPE persistent_cache_refetches_total counter",
		"# TYPE go_goroutines gauge",
		"# TYPE process_resident_memory_bytes gauge",
		"persistent_cache_messages_processed_total 1",
		`persistent_cache_messages_total{outcome="applied",type="usageUpdatedV2"} 1`,
		`persistent_cache_credentials_source{source="aws"} 1`,
	} {
		require.Contains(t, body, line)
	}
	helped := map[string]bool{}
	for line := range strings.Lines(body) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[1] == "HELP" {
			helped[fields[2]] = true
		}
		if len(fields) > 2 && fields[1] == "TYPE" {
			require.True(t, helped[fields[2]], "%s has no help", fields[2])
		}
	}
	require.Positive(t, s.metric("persistent_cache_memory_usage_bytes"))
	require.Positive(t, s.metric("persistent_cache_message_lag_seconds_count"))

	status := s.status()
	require.Equal(t, "UP", status["status"])
	require.Equal(t, "1.2.3", status["version"])
	queue := status["queue"].(map[string]any)
	require.Equal(t, "CONNECTED", queue["state"])
	require.Equal(t, "aws", queue["credentials"])
	require.NotNil(t, queue["lastMessageAt"])
	require.Nil(t, queue["lastError"])
	require.Equal(t, "CONNECTED", status["redis"].(map[string]any)["state"])
	require.Equal(t, 1, s.count("usageUpdatedV2", "applied"))

	code, _ = s.get("/nothing")
	require.Equal(t, 404, code)
}

func TestHeartbeat(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	before := time.Now()
	require.Eventually(t, func() bool { return w.get("test:stigg-persistent-cache:heartbeat") != "" }, within, step)
	at, err := strconv.ParseInt(w.get("test:stigg-persistent-cache:heartbeat"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, before, time.UnixMilli(at), 5*time.Second)
	ttl, err := w.client.TTL(t.Context(), "test:stigg-persistent-cache:heartbeat").Result()
	require.NoError(t, err)
	require.InDelta(t, (3 * time.Minute).Seconds(), ttl.Seconds(), 5)
	require.Eventually(t, func() bool { return s.status()["lastHeartbeatAt"] != nil }, within, step)
}

// A service whose queue cannot be reached is alive, not ready, and gives no
// sign of life to readers.
func TestQueueAway(t *testing.T) {
	w := newWorld(t)
	w.sqs.Stop()
	s := w.start()
	require.Eventually(t, func() bool {
		queue := s.status()["queue"].(map[string]any)
		return queue["state"] == "DISCONNECTED" && queue["lastError"] != nil
	}, 10*time.Second, 50*time.Millisecond)
	code, body := s.get("/readyz")
	require.Equal(t, 503, code)
	require.Equal(t, `{"status":"DOWN","consumers":0,"redis":"CONNECTED"}`, body)
	require.Never(t, func() bool { return w.get("test:stigg-persistent-cache:heartbeat") != "" }, time.Second, 50*time.Millisecond)
	require.Positive(t, s.metric(`persistent_cache_queue_errors_total{operation="receive"}`))
	require.Equal(t, 1, strings.Count(s.log.String(), "queue is away"), "said once")

	w.sqs.Restart()
	w.sqs.Queue("changes", nil)
	s.awaitReady(200, 25*time.Second)
	require.Contains(t, s.log.String(), "queue is connected")
}

// Redis away: not ready within five seconds, nothing deleted; back: ready
// within five seconds, and the backlog is worked off.
func TestRedisAway(t *testing.T) {
	for name, fault := range map[string]struct{ lose, bring func(*world) }{
		"stopped": {func(w *world) { w.redis.Stop() }, func(w *world) { w.redis.Start() }},
		"frozen":  {func(w *world) { w.redis.Pause() }, func(w *world) { w.redis.Resume() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.start()
			s.awaitReady(200, within)
			fault.lose(w)
			w.send(usageMessage("c", "f", 1, t0))
			s.awaitReady(503, 5*time.Second)
			_, body := s.get("/readyz")
			require.Equal(t, `{"status":"DOWN","consumers":0,"redis":"DISCONNECTED"}`, body)
			var sent []string
			for i := range 200 {
				sent = append(sent, usageMessage("c", "f", float64(i+2), t0.Add(time.Duration(i)*time.Second)))
			}
			w.send(sent...)
			time.Sleep(6 * time.Second) // longer than messages in hand are hidden for
			visible, inFlight := w.sqs.Depth(w.queue)
			require.Equal(t, 201, visible+inFlight, "a message was deleted")

			fault.bring(w)
			s.awaitReady(200, 5*time.Second)
			w.empty()
			require.Contains(t, s.log.String(), "redis is away")
			require.Contains(t, s.log.String(), "redis is connected")
			require.LessOrEqual(t, strings.Count(s.log.String(), "redis is away"), 2, "transitions, not floods")
		})
	}
}

// A Redis that answers and takes no writes counts as away.
func TestRedisFull(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	s.awaitReady(200, within)
	require.NoError(t, w.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	s.awaitReady(503, within)
	require.Contains(t, s.status()["redis"].(map[string]any)["lastError"], "OOM")
	require.NoError(t, w.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	s.awaitReady(200, within)
}

// A stop finishes what is in hand, and what cannot be finished is visible
// again at once.
func TestStop(t *testing.T) {
	w := newWorld(t, "CACHE_UPDATE_POLICY=UPSERT", "VISIBILITY_TIMEOUT_IN_SECS=600")
	w.api.Fault(stiggtest.Status(503).On(stiggtest.Edge))
	s := w.start()
	s.awaitReady(200, within)
	w.send(listMessage("a", 1, 1, t0), `{"type":"customer.updated","customer":{"id":"b"}}`)
	require.Eventually(t, func() bool { return w.api.Count(stiggtest.Customer("b")) > 0 }, within, step)
	began := time.Now()
	s.stop()
	require.Less(t, time.Since(began), 10*time.Second)
	require.NotEmpty(t, w.get("test:c_a"))
	visible, inFlight := w.sqs.Depth(w.queue)
	require.Equal(t, 1, visible, "the message that could not be finished")
	require.Zero(t, inFlight)
}

// The Edge API away: the messages wait, others go on; it is said once.
func TestEdgeAway(t *testing.T) {
	w := newWorld(t)
	w.cached("c", t0)
	w.api.SetEntitlements("c", stiggtest.Boolean("sso"))
	remove := w.api.Fault(stiggtest.Status(503).On(stiggtest.Edge))
	s := w.start()
	w.send(`{"type":"customer.updated","customer":{"id":"c"}}`)
	require.Eventually(t, func() bool { return w.api.Count(stiggtest.Customer("c")) > 1 }, 10*time.Second, 10*time.Millisecond)
	w.send(usageMessage("c", "f", 3, t0))
	require.Eventually(t, func() bool { return w.get("test:c_c:f_f") != "" }, within, step)
	require.Equal(t, "DISCONNECTED", s.status()["edgeApi"].(map[string]any)["state"])
	require.Equal(t, 1.0, s.metric("persistent_cache_refetches_waiting"))
	code, _ := s.get("/readyz")
	require.Equal(t, 200, code, "the service still works")
	remove()
	w.empty()
	require.Contains(t, w.get("test:c_c"), "sso")
	require.Equal(t, 1, strings.Count(s.log.String(), "edge api is away"))
}

// Large lists that have to wait for the Edge API do not hold up the changes
// that need it not.
func TestLargeListsThatWait(t *testing.T) {
	w := newWorld(t)
	w.api.Fault(stiggtest.Status(503).On(stiggtest.Edge))
	padding := `{"padding":"` + strings.Repeat("x", 200<<10) + `",`
	var lists []string
	for i := range 10 {
		customer := fmt.Sprint("empty-", i)
		w.cached(customer, time.UnixMilli(0))
		lists = append(lists, padding+strings.TrimPrefix(listMessage(customer, 1, 1, t0), "{"))
	}
	w.cached("c", t0)
	s := w.start()
	w.send(lists...)
	waiting := func() int {
		queue, _ := s.status()["queue"].(map[string]any)
		n, _ := queue["messagesWaitingForRefetch"].(float64)
		return int(n)
	}
	require.Eventually(t, func() bool { return waiting() == len(lists) }, 10*time.Second, 20*time.Millisecond)
	w.send(usageMessage("c", "f", 5, t0.Add(time.Hour)))
	require.Eventually(t, func() bool { return s.count("usageUpdatedV2", "applied") == 1 }, within, step)
	w.api.ClearFaults()
	w.empty()
}

// Credentials come from the Edge API when AWS's own chain has none, and are
// renewed before they end.
func TestCredentialsFromTheEdgeAPI(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	w := newWorld(t)
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	document := func(life time.Duration) string {
		return fmt.Sprintf(`{"accessKeyId":"id","secretAccessKey":"hush","sessionToken":"hush","expiration":%q}`, iso(time.Now().Add(life)))
	}
	w.api.SetEdgeDocument("credentials/event-queue.json", document(10*time.Second))
	s := w.start()
	s.awaitReady(200, 10*time.Second)
	require.Equal(t, "edge", s.status()["queue"].(map[string]any)["credentials"])
	asked := func() int {
		n := 0
		for _, r := range w.api.Requests(stiggtest.Edge) {
			if strings.Contains(r.Path, "event-queue") {
				require.Contains(t, r.Query, "queueUrl=")
				n++
			}
		}
		return n
	}
	require.Equal(t, 1, asked())
	w.api.SetEdgeDocument("credentials/event-queue.json", document(time.Hour))
	time.Sleep(6 * time.Second) // after half of their life they are due
	w.cached("c", t0)
	w.send(usageMessage("c", "f", 1, t0))
	w.empty()
	require.Equal(t, 2, asked(), "renewed, once")
	require.NotContains(t, s.log.String(), "hush")
}

// A message of another environment stays in the queue.
func TestAnotherEnvironment(t *testing.T) {
	w := newWorld(t, "ENVIRONMENT_ID=mine")
	w.cached("c", t0)
	s := w.start()
	body := listMessage("c", 1, 1, t0.Add(time.Hour))
	w.send(body, strings.Replace(body, `"env"`, `"mine"`, 1))
	require.Eventually(t, func() bool {
		return s.count("entitlements.updated", "foreign") == 1 && s.count("entitlements.updated", "applied") == 1
	}, within, step)
	require.Eventually(t, func() bool {
		visible, inFlight := w.sqs.Depth(w.queue)
		return visible+inFlight == 1
	}, within, step)
}

// Ids that could name another customer's keys never reach Redis.
func TestAmbiguousIDs(t *testing.T) {
	w := newWorld(t, "CACHE_UPDATE_POLICY=UPSERT")
	s := w.start()
	w.send(listMessage("a:r_b", 1, 1, t0), usageMessage("a:f_b", "f", 1, t0), `{"type":"customer.archived","customer":{"id":"a:metadata"}}`)
	w.empty()
	keys, err := w.client.Keys(t.Context(), "test:c_*").Result()
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Equal(t, 1, s.count("entitlements.updated", "ambiguous"))
}

// A message that is worked on for longer than it is hidden stays hidden, so
// that no other instance gets it too.
func TestMessagesInHandStayHidden(t *testing.T) {
	w := newWorld(t, "VISIBILITY_TIMEOUT_IN_SECS=3")
	w.cached("c", t0)
	w.api.SetEntitlements("c", stiggtest.Boolean("sso"))
	remove := w.api.Fault(stiggtest.Status(503).On(stiggtest.Customer("c")))
	one, other := w.start(), w.start()
	w.send(`{"type":"customer.updated","customer":{"id":"c"}}`)
	for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(50 * time.Millisecond) {
		require.LessOrEqual(t, one.metric("persistent_cache_messages_in_hand")+other.metric("persistent_cache_messages_in_hand"), 1.0)
	}
	remove()
	w.empty()
	require.Equal(t, 1, one.count("customer.updated", "refetched")+other.count("customer.updated", "refetched"))
	require.Zero(t, one.metric(`persistent_cache_queue_errors_total{operation="visibility"}`)+other.metric(`persistent_cache_queue_errors_total{operation="visibility"}`))
}

// Errors are reported to the DSN of the remote configuration, unless that is
// switched off.
func TestErrorReports(t *testing.T) {
	for _, disabled := range []string{"0", "1"} {
		t.Run("disabled "+disabled, func(t *testing.T) {
			w := newWorld(t, "DISABLE_SENTRY="+disabled)
			reports := make(chan string, 100)
			sentry := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				reports <- string(body)
			}))
			defer sentry.Close()
			w.api.SetEdgeDocument("config/persistent-cache-service-configuration.json",
				fmt.Sprintf(`{"sentryDsn":%q,"environmentId":"mine"}`, strings.Replace(sentry.URL, "://", "://public@", 1)+"/1"))
			s := w.start()
			s.awaitReady(200, within)
			// The environment is learned after the DSN: then the messages of
			// another one are told apart.
			for giveUp := time.Now().Add(10 * time.Second); s.count("entitlements.updated", "foreign") == 0; time.Sleep(20 * time.Millisecond) {
				require.True(t, time.Now().Before(giveUp), "the configuration is not known")
				w.send(listMessage("c", 1, 1, t0))
			}
			w.redis.Stop()
			s.awaitReady(503, within)
			s.stop()
			select {
			case report := <-reports:
				require.Equal(t, "0", disabled)
				require.Contains(t, report, "redis is away")
			default:
				require.Equal(t, "1", disabled, "no report")
			}
			w.redis.Start()
		})
	}
}
