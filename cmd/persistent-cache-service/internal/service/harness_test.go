package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/logging"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/service"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/sqstest"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	redis.SetLogger(logging.Redis{Log: slog.New(slog.DiscardHandler)})
	goleak.VerifyTestMain(m)
}

const prefix = "test"

// world is a service with everything that it needs around it, all of it real
// but the API.
type world struct {
	t      *testing.T
	redis  *redistest.Server
	client *redis.Client
	sqs    *sqstest.Server
	queue  string
	api    *stiggtest.Server
	store  *cache.Store
	vars   map[string]string
	other  queue.Queue // in place of the real one; nil: the real one
}

func newWorld(t *testing.T, vars ...string) *world {
	w := &world{t: t, redis: redistest.Start(t), api: stiggtest.New(t)}
	w.client = w.redis.Client()
	w.sqs = sqstest.Start(t)
	w.queue = w.sqs.Queue("changes", nil)
	w.store = cache.NewStore(cache.Options{Client: w.client, Prefix: prefix})
	w.vars = map[string]string{
		"AWS_REGION": "us-east-1", "QUEUE_URL": w.queue, "SERVER_API_KEY": "key",
		"ENVIRONMENT_PREFIX": prefix, "REDIS_HOST": w.redis.Host(), "REDIS_PORT": fmt.Sprint(w.redis.Port()),
		"EDGE_API_URL": w.api.URL(), "BATCH_SIZE": "10", "VISIBILITY_TIMEOUT_IN_SECS": "5", "RECEIVE_WAIT_IN_SECS": "1", "LOG_LEVEL": "debug",
	}
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		w.vars[name] = value
	}
	t.Setenv("AWS_ENDPOINT_URL_SQS", w.sqs.Endpoint())
	return w
}

// running is a service that runs.
type running struct {
	t    *testing.T
	url  string
	log  *lines
	stop func() // SIGTERM
	done chan error
}

// lines keeps a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start starts a service. It is stopped when the test ends.
func (w *world) start() *running {
	w.t.Helper()
	var environ []string
	for name, value := range w.vars {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(environ)
	require.NoError(w.t, err)
	c.Port = 0
	r := &running{t: w.t, log: &lines{}, done: make(chan error, 1)}
	log := logging.New(r.log, slog.LevelDebug, c.LogMessageKey, c.LogErrorKey)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := service.New(ctx, service.Options{Config: c, Version: "1.2.3", Log: log, Queue: w.other})
	require.NoError(w.t, err)
	_, port, _ := strings.Cut(s.Addr(), "]:")
	r.url = "http://127.0.0.1:" + port
	go func() { r.done <- s.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-r.done:
			require.NoError(w.t, err)
		case <-time.After(30 * time.Second):
			w.t.Fatal("the service does not stop")
		}
	}
	w.t.Cleanup(func() {
		r.stop()
		if w.t.Failed() {
			w.t.Log(r.log.String())
		}
	})
	return r
}

// get asks the service's HTTP server.
func (r *running) get(path string) (int, string) {
	r.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := client.Get(r.url + path)
	require.NoError(r.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(r.t, err)
	return answer.StatusCode, string(body)
}

func (r *running) awaitReady(status int, within time.Duration) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		got, _ := r.get("/readyz")
		return got == status
	}, within, 20*time.Millisecond)
}

// metric reads a figure; 0 if it is not there.
func (r *running) metric(name string) float64 {
	r.t.Helper()
	_, body := r.get("/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			var v float64
			_, err := fmt.Sscan(rest, &v)
			require.NoError(r.t, err)
			return v
		}
	}
	return 0
}

func (r *running) status() map[string]any {
	r.t.Helper()
	code, body := r.get("/status")
	require.Equal(r.t, 200, code)
	var status map[string]any
	require.NoError(r.t, json.Unmarshal([]byte(body), &status))
	return status
}

// count is how many messages of a type had an outcome, as /status tells.
func (r *running) count(messageType, outcome string) int {
	r.t.Helper()
	byType, _ := r.status()["messages"].(map[string]any)
	byOutcome, _ := byType[messageType].(map[string]any)
	n, _ := byOutcome[outcome].(float64)
	return int(n)
}

func (w *world) send(bodies ...string) {
	w.t.Helper()
	w.sqs.Send(w.queue, bodies...)
}

// empty waits until all messages were dealt with.
func (w *world) empty() {
	w.t.Helper()
	w.sqs.WaitEmpty(w.queue, 20*time.Second)
}

// get reads a key of Redis; empty if it is not there.
func (w *world) get(key string) string {
	w.t.Helper()
	value, err := w.client.Get(w.t.Context(), key).Result()
	if errors.Is(err, redis.Nil) {
		return ""
	}
	require.NoError(w.t, err)
	return value
}

func (w *world) set(keysAndValues ...string) {
	w.t.Helper()
	for i := 0; i < len(keysAndValues); i += 2 {
		require.NoError(w.t, w.client.Set(w.t.Context(), keysAndValues[i], keysAndValues[i+1], time.Hour).Err())
	}
}

// cached puts a customer in Redis as the SDK would.
func (w *world) cached(customerID string, at time.Time) {
	w.t.Helper()
	key := cache.ValueKey(prefix, cache.Key{CustomerID: customerID})
	stamp := fmt.Sprint(at.UnixMilli())
	w.set(key, "{}", cache.TimestampKey(key), stamp, key+":metadata", "{}", cache.TimestampKey(key+":metadata"), stamp)
}

const isoMillis = "2006-01-02T15:04:05.000Z"

func iso(t time.Time) string { return t.UTC().Format(isoMillis) }

// usageMessage is a realtime payload that brings a usage.
func usageMessage(customerID, featureID string, usage float64, at time.Time) string {
	return fmt.Sprintf(`{"usageUpdatedV2":{"customerId":%q,"resourceId":null,"entitlementReference":{"id":%q,"type":"FEATURE"},"usage":{"currentUsage":%v,"usageUpdatedAt":%q,"usagePeriodStart":null,"usagePeriodEnd":null}}}`,
		customerID, featureID, usage, iso(at))
}

// listMessage is an event that brings all entitlements: a metered and a
// boolean feature, and a wallet.
func listMessage(customerID string, limit, usage float64, at time.Time) string {
	return fmt.Sprintf(`{"type":"entitlements.updated","messageId":"m","timestamp":%[4]q,"environmentId":"env","entitlementsUpdatedAt":%[4]q,"customer":{"id":%[1]q},"resource":null,"entitlements":[`+
		`{"feature":{"id":"exports","name":"Exports","featureType":"NUMBER","meterType":"Incremental","unit":"export","units":"exports","status":"ACTIVE"},"usageLimit":%[2]v,"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":%[3]v,"resetPeriod":"MONTH","resetPeriodConfiguration":{"monthlyAccordingTo":"SubscriptionStart"},"usagePeriodAnchor":"2026-01-31T00:00:00.000Z","usagePeriodStart":"2026-02-28T00:00:00.000Z","usagePeriodEnd":"2026-03-31T00:00:00.000Z","enumValues":null,"creditBalance":null},`+
		`{"feature":{"id":"sso","name":"SSO","featureType":"BOOLEAN","meterType":"None"},"usageLimit":null,"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":null,"enumValues":null,"creditBalance":null},`+
		`{"feature":null,"usageLimit":null,"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":null,"creditBalance":{"creditCurrency":{"id":"tokens","name":"Tokens","description":"","unitLabel":{"singular":"token","plural":"tokens"}},"totalGranted":1000,"remainingBalance":400,"remainingBalancePercentage":40}}]}`,
		customerID, limit, usage, iso(at))
}
