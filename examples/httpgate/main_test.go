package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a running server, with the API and the Redis that it uses.
type bed struct {
	t      *testing.T
	api    *stiggtest.Server
	redis  *redistest.Server
	url    string
	stop   context.CancelFunc
	served chan error // what serve returned
}

// newBed starts a server in the given environment.
func newBed(t *testing.T, work http.HandlerFunc, environment map[string]string) *bed {
	b := &bed{t: t, api: stiggtest.New(t), redis: redistest.Start(t), served: make(chan error, 1)}
	config, currencyID, err := configFrom(func(name string) string { return environment[name] })
	require.NoError(t, err)
	config.APIKey, config.APIURL, config.EdgeURL = "key", b.api.URL(), b.api.URL()
	config.Redis.Host, config.Redis.Port = b.redis.Host(), b.redis.Port()
	config.Redis.Timeout = 2 * time.Second // for a machine that is busy
	config.Logger = slog.New(slog.DiscardHandler)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.url = "http://" + listener.Addr().String() + "/generate"
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.served <- serve(ctx, listener, config, currencyID, work)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return b
}

// reply is what the server answered.
type reply struct {
	status int
	header http.Header
	body   string
}

func get(ctx context.Context, url, customerID string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return reply{}, err
	}
	request.Close = true
	request.Header.Set("X-Customer-ID", customerID)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(body)}, err
}

func (b *bed) get(customerID string) reply {
	b.t.Helper()
	r, err := get(b.t.Context(), b.url, customerID)
	require.NoError(b.t, err)
	return r
}

func TestGate(t *testing.T) {
	b := newBed(t, generate, nil)
	b.api.SetEntitlements("acme", stiggtest.Credit("tokens", 5000, 4200))
	b.api.SetEntitlements("exact", stiggtest.Credit("tokens", 20, 0))
	b.api.SetEntitlements("short", stiggtest.Credit("tokens", 5000, 4990))
	b.api.SetEntitlements("broke", stiggtest.Credit("tokens", 5000, 5000))
	b.api.SetEntitlements("overdrawn", stiggtest.Credit("tokens", 5000, 5030))
	b.api.SetEntitlements("trusted", stiggtest.Credit("tokens", 5000, 5030).SoftLimit())

	for range 2 { // from the API, then from Redis
		for _, tc := range []struct {
			customer string
			status   int
			body     string
		}{
			{"acme", 200, ""},
			{"short", 402, `{"error":"not enough credits","reason":"InsufficientCredits","remaining":10,"required":20}`},
			{"broke", 402, `{"error":"not enough credits","reason":"InsufficientCredits","remaining":0,"required":20}`},
			{"overdrawn", 402, `{"error":"not enough credits","reason":"InsufficientCredits","remaining":-30,"required":20}`},
			{"trusted", 200, ""},
			{"nobody", 402, `{"error":"not enough credits","reason":"CustomerNotFound","remaining":0,"required":20}`},
			{"", 400, `{"error":"customer id is missing or not valid"}`},
		} {
			r := b.get(tc.customer)
			require.Equal(t, tc.status, r.status, tc.customer)
			if tc.status == http.StatusOK {
				require.Equal(t, "here you are\n", r.body)
				continue
			}
			require.JSONEq(t, tc.body, r.body)
			require.Equal(t, "application/json", r.header.Get("Content-Type"))
		}
	}
}

func TestGateCharges(t *testing.T) {
	b := newBed(t, generate, nil)
	b.api.SetEntitlements("acme", stiggtest.Credit("tokens", 45, 0))
	b.api.SetEntitlements("exact", stiggtest.Credit("tokens", 20, 0))
	for _, tc := range []struct {
		customer string
		status   int
	}{
		{"acme", 200}, {"acme", 200}, {"acme", 402}, {"acme", 402},
		{"exact", 200}, {"exact", 402},
	} {
		r := b.get(tc.customer)
		require.Equal(t, tc.status, r.status, "%s: %s", tc.customer, r.body)
	}
	consumptions := b.api.Requests(stiggtest.Operation("ConsumeCredits"))
	require.Len(t, consumptions, 3, "a refused request costs nothing")
}

func TestGateWithoutTheAPI(t *testing.T) {
	b := newBed(t, generate, nil)
	b.api.SetEntitlements("acme", stiggtest.Credit("tokens", 5000, 4200))
	require.Equal(t, 200, b.get("acme").status)
	client := b.redis.Client()
	require.Eventually(t, func() bool { // the answer is written beside the request
		return client.Exists(t.Context(), "production:c_acme:credit_tokens#timestamp").Val() == 1
	}, 5*time.Second, 5*time.Millisecond)

	b.api.Close()
	require.Equal(t, 200, b.get("acme").status)
}

func TestGateWithoutRedis(t *testing.T) {
	b := newBed(t, generate, nil)
	b.api.SetEntitlements("acme", stiggtest.Credit("tokens", 5000, 4200))
	b.api.SetEntitlements("broke", stiggtest.Credit("tokens", 5000, 5000))
	b.redis.Kill()
	require.Equal(t, 200, b.get("acme").status)
	require.Equal(t, 402, b.get("broke").status)
}

func TestGateWithNobodyToAsk(t *testing.T) {
	for _, tc := range []struct {
		failOpen string
		status   int
	}{
		{"", 503},
		{"1", 200},
	} {
		t.Run("FAIL_OPEN="+tc.failOpen, func(t *testing.T) {
			b := newBed(t, generate, map[string]string{"FAIL_OPEN": tc.failOpen})
			b.redis.Kill()
			b.api.Close()
			r := b.get("acme")
			require.Equal(t, tc.status, r.status)
			if tc.status == http.StatusServiceUnavailable {
				require.Equal(t, "5", r.header.Get("Retry-After"))
				require.JSONEq(t, `{"error":"balance not known, try again"}`, r.body)
			}
			require.Equal(t, 400, b.get("").status, "a wrong call is no outage")
		})
	}
}

func TestGateWithAnAPIThatHangs(t *testing.T) {
	b := newBed(t, generate, nil)
	b.redis.Kill()
	b.api.Fault(stiggtest.Hang())
	began := time.Now()
	require.Equal(t, 503, b.get("acme").status)
	require.Less(t, time.Since(began), checkTimeout+3*time.Second)
}

func TestShutdownLetsRequestsEnd(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-finish
		generate(w, r)
	}, nil)
	b.api.SetEntitlements("acme", stiggtest.Credit("tokens", 5000, 4200))

	type result struct {
		reply reply
		err   error
	}
	got := make(chan result, 1)
	go func() {
		r, err := get(context.WithoutCancel(t.Context()), b.url, "acme")
		got <- result{r, err}
	}()
	<-entered
	b.stop()
	require.Eventually(t, func() bool {
		_, err := get(t.Context(), b.url, "acme")
		return err != nil // takes no new requests
	}, 5*time.Second, 5*time.Millisecond)
	select {
	case <-b.served:
		require.Fail(t, "ended while a request was under way")
	default:
	}
	close(finish)

	r := <-got
	require.NoError(t, r.err)
	require.Equal(t, 200, r.reply.status)
	require.NoError(t, <-b.served)
}

// lines hands log lines to a test.
type lines chan map[string]any

func (l lines) Write(b []byte) (int, error) {
	line := make(map[string]any)
	if err := json.Unmarshal(b, &line); err != nil {
		return 0, err
	}
	l <- line
	return len(b), nil
}

func TestStartWithoutAnyConfiguration(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logged, ended := make(lines, 16), make(chan error, 1)
	go func() {
		ended <- start(ctx, slog.New(slog.NewJSONHandler(logged, nil)), func(name string) string {
			return map[string]string{"LISTEN": "127.0.0.1:0"}[name]
		})
	}()
	line := <-logged
	require.Equal(t, "serving", line["msg"])
	url, ok := line["url"].(string)
	require.True(t, ok)

	for _, status := range []int{200, 200, 402} {
		r, err := get(t.Context(), url, "acme")
		require.NoError(t, err)
		require.Equal(t, status, r.status)
	}
	cancel()
	require.NoError(t, <-ended)
}

func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, value := range map[string]string{"REDIS_PORT": "default", "LISTEN": taken.Addr().String()} {
		err := start(t.Context(), slog.New(slog.DiscardHandler), func(n string) string {
			return map[string]string{name: value}[n]
		})
		require.Error(t, err, name)
	}
	err = start(t.Context(), slog.New(slog.DiscardHandler), func(n string) string {
		return map[string]string{"STIGG_SERVER_API_KEY": "two\nlines", "LISTEN": "127.0.0.1:0"}[n]
	})
	require.ErrorIs(t, err, stigg.ErrInvalidConfig)
}

func TestConfigFrom(t *testing.T) {
	config, currencyID, err := configFrom(func(name string) string {
		return map[string]string{
			"STIGG_SERVER_API_KEY": "key", "REDIS_HOST": "redis.internal", "REDIS_PORT": strconv.Itoa(6380),
			"REDIS_PASSWORD": "secret", "ENVIRONMENT_PREFIX": "staging", "CURRENCY_ID": "coins", "FAIL_OPEN": "1",
		}[name]
	})
	require.NoError(t, err)
	require.Equal(t, "coins", currencyID)
	require.Equal(t, stigg.Config{
		APIKey: "key",
		Redis: &stigg.RedisConfig{
			Host: "redis.internal", Port: 6380, Password: "secret", EnvironmentPrefix: "staging",
		},
		CreditEntitlementsFallback: map[string]stigg.CreditFallback{"coins": {HasAccess: true}},
	}, config)
}
