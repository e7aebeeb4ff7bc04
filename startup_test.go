package stigg_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestConfigNamesEveryWrongField(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		config stigg.Config
		fields []string
	}{
		"nothing set": {stigg.Config{}, []string{"APIKey"}},
		"everything": {stigg.Config{
			APIKey: "key with spaces", APIURL: "api.stigg.io", EdgeURL: "https://edge.example/v1",
			Timeout: -1, EntitlementsTimeout: -1,
			EntitlementsFallback:       map[string]stigg.EntitlementFallback{"": {}, "seats": {UsageLimit: &inf}, "size": {Value: &nan}},
			CreditEntitlementsFallback: map[string]stigg.CreditFallback{"\xff": {}, "tokens": {UsageLimit: nan}, "coins": {CurrentUsage: -inf}},
			Redis:                      &stigg.RedisConfig{Port: 70_000, DB: -1, Timeout: -1},
		}, []string{
			"APIKey", "APIURL", "EdgeURL", "Timeout", "EntitlementsTimeout",
			"EntitlementsFallback", "EntitlementsFallback", "EntitlementsFallback",
			"CreditEntitlementsFallback", "CreditEntitlementsFallback", "CreditEntitlementsFallback",
			"Redis.EnvironmentPrefix", "Redis.Port", "Redis.DB", "Redis.Timeout",
		}},
		"one wrong url":     {stigg.Config{APIKey: "key", APIURL: "nonsense"}, []string{"APIURL"}},
		"a path":            {stigg.Config{APIKey: "key", APIURL: "https://api.example/graphql"}, []string{"APIURL"}},
		"a login":           {stigg.Config{APIKey: "key", EdgeURL: "https://me:secret@edge.example"}, []string{"EdgeURL"}},
		"a query":           {stigg.Config{APIKey: "key", EdgeURL: "https://edge.example?a=b"}, []string{"EdgeURL"}},
		"an empty query":    {stigg.Config{APIKey: "key", EdgeURL: "https://edge.example?"}, []string{"EdgeURL"}},
		"an empty fragment": {stigg.Config{APIKey: "key", APIURL: "https://api.example#"}, []string{"APIURL"}},
		"no host":           {stigg.Config{APIKey: "key", APIURL: "https://:8080"}, []string{"APIURL"}},
		"no cluster database": {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{
			EnvironmentPrefix: "p", Addrs: []string{"a:1", ""}, DB: 1,
		}}, []string{"Redis.DB", "Redis.Addrs"}},
		"two addresses": {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{
			EnvironmentPrefix: "p", Addrs: []string{"a:1"}, Host: "b",
		}}, []string{"Redis.Addrs"}},
		"no sentinels":     {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", MasterName: "m"}}, []string{"Redis.Addrs"}},
		"negative port":    {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Port: -1}}, []string{"Redis.Port"}},
		"host and port":    {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Host: "redis.example:6379"}}, []string{"Redis.Host"}},
		"host as url":      {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Host: "redis://me:secret@redis.example"}}, []string{"Redis.Host"}},
		"host in brackets": {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Host: "[::1]"}}, []string{"Redis.Host"}},
		"no ports": {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{
			EnvironmentPrefix: "p", Addrs: []string{"a", "b:1", "rediss://me:secret@c:6379"},
		}}, []string{"Redis.Addrs", "Redis.Addrs"}},
		"nil client":          {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Client: (*redis.Client)(nil)}}, []string{"Redis.Client"}},
		"client and database": {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", DB: 1, Client: &redis.Client{}}}, []string{"Redis.Client"}},
		"client and login":    {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Password: "secret", Client: &redis.Client{}}}, []string{"Redis.Client"}},
		"client and server":   {stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Host: "b", Client: &redis.Client{}}}, []string{"Redis.Client"}},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := stigg.Initialize(c.config)
			require.Nil(t, client)
			require.ErrorIs(t, err, stigg.ErrInvalidConfig)
			lines := strings.Split(err.Error(), "\n")[1:]
			var named []string
			for _, line := range lines {
				field, _, _ := strings.Cut(line, ":")
				named = append(named, field)
			}
			require.ElementsMatch(t, c.fields, named, err)
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "key with spaces")
		})
	}
}

// seen is an http.RoundTripper that answers everything with 500 and remembers
// where it was sent.
type seen struct {
	mu   sync.Mutex
	urls []string
}

func (s *seen) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urls = append(s.urls, r.Method+" "+r.URL.String())
	return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
}

func TestConfigDefaultURLs(t *testing.T) {
	const document = "/v1/config/server-sdk-configuration.json"
	for name, c := range map[string]struct {
		config stigg.Config
		want   string
	}{
		"none":         {stigg.Config{}, "GET https://edge.api.stigg.io" + document},
		"api":          {stigg.Config{APIURL: "https://api.example:8443"}, "GET https://edge.api.example:8443" + document},
		"api, slash":   {stigg.Config{APIURL: "https://api.example/"}, "GET https://edge.api.example" + document},
		"edge":         {stigg.Config{EdgeURL: "https://e.example/"}, "GET https://e.example" + document},
		"no edge":      {stigg.Config{DisableEdge: true}, "POST https://api.stigg.io/graphql"},
		"no edge, api": {stigg.Config{DisableEdge: true, APIURL: "https://api.example/"}, "POST https://api.example/graphql"},
	} {
		t.Run(name, func(t *testing.T) {
			requests := &seen{}
			c.config.APIKey, c.config.HTTPClient, c.config.Logger = "key", &http.Client{Transport: requests}, quiet
			client, err := stigg.Initialize(c.config)
			require.NoError(t, err)
			require.ErrorIs(t, client.WaitForInitialization(background()), stigg.ErrForbidden)
			require.NoError(t, client.Close())
			require.Equal(t, []string{c.want}, requests.urls)
		})
	}
}

// TestConfigTTL: how long what is written lives.
func TestConfigTTL(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	for name, c := range map[string]struct{ ttl, want time.Duration }{
		"default":      {0, 7 * 24 * time.Hour},
		"own":          {time.Minute, time.Minute},
		"none":         {-1, -1},
		"less than 1s": {time.Millisecond, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			server.FlushAll()
			client := newClient(t, api, server, func(config *stigg.Config) { config.Redis.TTL = c.ttl })
			require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
			rdb := server.Client()
			keys := rdb.Keys(background(), "*").Val()
			require.Len(t, keys, 10)
			for _, key := range keys {
				ttl := rdb.TTL(background(), key).Val()
				if c.want < 0 {
					require.Equal(t, time.Duration(-1), ttl, key)
					continue
				}
				require.LessOrEqual(t, ttl, c.want, key)
				require.Greater(t, ttl, c.want-10*time.Second, key)
			}
		})
	}
}

// TestConfigOutageTTL: without an outage memory every check asks the API.
func TestConfigOutageTTL(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	api := acmeAPI(t)
	client := newClient(t, api, server, func(c *stigg.Config) { c.Redis.OutageTTL = -1 })
	eventually(t, func() bool { // a check that comes in at once can share the answer of the one before
		answer, err := isOn(background(), client)
		require.NoError(t, err)
		require.Equal(t, stigg.SourceEdge, answer.Source)
		return api.Count(isFetch) == 4
	}, "four requests")
}

// TestConfigOfCallerIsLeftAlone: the caller's Config and what it points to are
// read, not written.
func TestConfigOfCallerIsLeftAlone(t *testing.T) {
	config := stigg.Config{APIKey: "key", APIURL: "http://127.0.0.1:1", Logger: quiet, Redis: &stigg.RedisConfig{EnvironmentPrefix: "p", Port: 1}}
	client, err := stigg.Initialize(config)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.Equal(t, stigg.RedisConfig{EnvironmentPrefix: "p", Port: 1}, *config.Redis)
}

// TestConfigMapsStayTheCallers: who goes on with the maps of a Config, for the
// next client, changes nothing for this one, and races with nobody.
func TestConfigMapsStayTheCallers(t *testing.T) {
	features := map[string]stigg.EntitlementFallback{"on": {HasAccess: true}}
	credits := map[string]stigg.CreditFallback{"tokens": {HasAccess: true}}
	client := newClient(t, nil, nil, func(c *stigg.Config) {
		c.Offline, c.EntitlementsFallback, c.CreditEntitlementsFallback = true, features, credits
	})
	var asking sync.WaitGroup
	asking.Go(func() {
		for range 1000 {
			_, _ = isOn(background(), client)
			_, _ = client.GetEntitlements(background(), "acme", "")
		}
	})
	for range 1000 {
		delete(features, "on")
		delete(credits, "tokens")
		features["off"], credits["coins"] = stigg.EntitlementFallback{}, stigg.CreditFallback{}
	}
	asking.Wait()
	on, err := isOn(background(), client)
	require.ErrorIs(t, err, stigg.ErrOffline)
	require.True(t, on.HasAccess)
	tokens, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
	require.ErrorIs(t, err, stigg.ErrOffline)
	require.True(t, tokens.HasAccess)
}

// TestInitializeDoesNotWaitForWhatIsAway: neither a server that refuses nor one
// that accepts and is silent delays the start, and the client answers.
func TestInitializeDoesNotWaitForWhatIsAway(t *testing.T) {
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		redis func(*faultproxy.Proxy)
		api   []stiggtest.Fault
		least time.Duration
	}{
		"refused": {(*faultproxy.Proxy).Refuse, []stiggtest.Fault{stiggtest.Reset()}, 0},
		"silent":  {func(p *faultproxy.Proxy) { p.Blackhole(faultproxy.Both) }, []stiggtest.Fault{stiggtest.Hang()}, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := faultproxy.New(t, server.Addr())
			c.redis(proxy)
			api := acmeAPI(t)
			api.Fault(c.api...)
			before := goleak.IgnoreCurrent()
			began := time.Now()
			client := newClient(t, api, server, viaProxy(proxy), func(config *stigg.Config) {
				config.EntitlementsTimeout = 300 * time.Millisecond
			})
			took := time.Since(began)
			require.GreaterOrEqual(t, took, c.least, "the grace is used")
			require.Less(t, took, 3*time.Second)

			answer, err := isOn(background(), client)
			require.ErrorIs(t, err, stigg.ErrUnavailable)
			require.True(t, answer.IsFallback)
			began = time.Now()
			require.NoError(t, client.Close())
			require.Less(t, time.Since(began), 3*time.Second)
			goleak.VerifyNone(t, before)
		})
	}
}

// TestInitializeWaitsForFirstSign: with everything there, the first check finds
// a connection and a verified key.
func TestInitializeWaitsForFirstSign(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	began := time.Now()
	client := newClient(t, api, server)
	if time.Since(began) >= 250*time.Millisecond { // all of the grace: the machine is too busy for a sign in time
		require.NoError(t, client.WaitForInitialization(background()))
	}
	now, cancel := context.WithCancel(background())
	cancel()
	require.NoError(t, client.WaitForInitialization(now), "a result that is there does not need a context that lives")
}

func TestWaitForInitialization(t *testing.T) {
	t.Run("key is right", func(t *testing.T) {
		api := acmeAPI(t)
		api.SetAPIKey("server-key")
		require.NoError(t, newClient(t, api, nil).WaitForInitialization(background()))
		require.Equal(t, 1, api.Count(stiggtest.Edge, stiggtest.Operation("server-sdk-configuration")))
	})
	t.Run("key is wrong", func(t *testing.T) {
		api := acmeAPI(t)
		api.SetAPIKey("another")
		lines := &logLines{}
		client := newClient(t, api, nil, lines.to)
		err := client.WaitForInitialization(background())
		require.ErrorIs(t, err, stigg.ErrUnauthenticated)
		var e *stigg.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, http.StatusUnauthorized, e.Status)
		require.Equal(t, stigg.SourceEdge, e.Source)
		require.Equal(t, 1, api.Count(), "retrying does not help")
		require.Len(t, lines.with("refuses the api key"), 1)
		require.Empty(t, lines.with("server-key"))
	})
	t.Run("key is wrong, edge disabled", func(t *testing.T) {
		api := acmeAPI(t)
		api.SetAPIKey("another")
		client := newClient(t, api, nil, func(c *stigg.Config) { c.DisableEdge = true })
		require.ErrorIs(t, client.WaitForInitialization(background()), stigg.ErrUnauthenticated)
		require.Zero(t, api.Count(stiggtest.Edge))
	})
	t.Run("another server", func(t *testing.T) {
		api := acmeAPI(t)
		api.Fault(stiggtest.Status(http.StatusNotFound))
		lines := &logLines{}
		client := newClient(t, api, nil, lines.to)
		require.NoError(t, api.WaitForRequests(background(), 2), "it is tried again")
		eventually(t, func() bool {
			now, cancel := context.WithCancel(background())
			cancel()
			err := client.WaitForInitialization(now)
			return errors.Is(err, context.Canceled) && errors.Is(err, stigg.ErrNotFound)
		}, "the error says what is wrong")
		require.Len(t, lines.with("is the url right?"), 1)
	})
	t.Run("key may not do this", func(t *testing.T) {
		api := acmeAPI(t)
		api.Fault(stiggtest.Status(http.StatusForbidden))
		require.ErrorIs(t, newClient(t, api, nil).WaitForInitialization(background()), stigg.ErrForbidden)
	})
	t.Run("context ends", func(t *testing.T) {
		api := acmeAPI(t)
		api.Fault(stiggtest.Hang())
		client := newClient(t, api, nil)
		ctx, cancel := context.WithTimeout(background(), 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, client.WaitForInitialization(ctx), context.DeadlineExceeded)
		ctx, cancel = context.WithCancel(background())
		cancel()
		require.ErrorIs(t, client.WaitForInitialization(ctx), context.Canceled)
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		api := acmeAPI(t)
		api.Fault(stiggtest.Hang())
		client := newClient(t, api, nil)
		done := make(chan error)
		go func() { done <- client.WaitForInitialization(background()) }()
		require.NoError(t, client.Close())
		require.ErrorIs(t, <-done, stigg.ErrClosed)
		require.ErrorIs(t, client.WaitForInitialization(background()), stigg.ErrClosed)
	})
	t.Run("api appears later", func(t *testing.T) {
		api := acmeAPI(t)
		proxy := faultproxy.New(t, strings.TrimPrefix(api.URL(), "http://"))
		proxy.Refuse()
		client := newClient(t, nil, nil, func(c *stigg.Config) {
			c.APIURL = "http://" + proxy.Addr()
			c.EdgeURL = c.APIURL
		})
		ctx, cancel := context.WithTimeout(background(), 10*time.Second)
		defer cancel()
		go func() {
			time.Sleep(100 * time.Millisecond)
			proxy.Pass()
		}()
		require.NoError(t, client.WaitForInitialization(ctx))
	})
}

// everyCall makes every call of a client that can be answered with a fallback.
func everyCall(t *testing.T, client *stigg.Client, want error) {
	t.Helper()
	for _, g := range getters {
		for _, allow := range []bool{true, false} {
			answer, err := g.get(background(), client, ask{customer: "acme", id: g.id, allow: allow})
			require.ErrorIs(t, err, want, g.name)
			require.True(t, answer.IsFallback, g.name)
			require.Equal(t, allow, answer.HasAccess, g.name)
			require.Equal(t, stigg.SourceFallback, answer.Source, g.name)
		}
	}
	state, err := client.GetEntitlements(background(), "acme", "")
	require.ErrorIs(t, err, want)
	require.True(t, state.IsFallback)
	require.ErrorIs(t, client.ReloadEntitlements(background(), "acme", ""), want)

	// What cannot be sent can be sent later, under the key that is told.
	report := stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", IdempotencyKey: "mine"}
	measurement, err := client.ReportUsage(background(), report)
	require.ErrorIs(t, err, want)
	require.Equal(t, "mine", measurement.IdempotencyKey)
	measurements, err := client.ReportUsageBulk(background(), []stigg.UsageReport{report})
	require.ErrorIs(t, err, want)
	require.Equal(t, []string{"mine"}, measurements.IdempotencyKeys)
	sent, err := client.ReportEvents(background(), []stigg.UsageEvent{{CustomerID: "acme", EventName: "call", IdempotencyKey: "mine"}})
	require.ErrorIs(t, err, want)
	require.Equal(t, []string{"mine"}, sent.IdempotencyKeys)
	consumption := stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 1, IdempotencyKey: "mine"}
	consumed, err := client.ConsumeCredits(background(), consumption)
	require.ErrorIs(t, err, want)
	require.Equal(t, "mine", consumed.IdempotencyKey)
	sent, err = client.ConsumeCreditsAsync(background(), []stigg.CreditConsumption{consumption})
	require.ErrorIs(t, err, want)
	require.Equal(t, []string{"mine"}, sent.IdempotencyKeys)
}

func TestOffline(t *testing.T) {
	server := redistest.Start(t)
	recorder := server.Monitor()
	api := acmeAPI(t)
	before := goleak.IgnoreCurrent()
	client := newClient(t, api, server, func(c *stigg.Config) { c.Offline, c.APIKey = true, "" })
	goleak.VerifyNone(t, before)
	require.NoError(t, client.WaitForInitialization(background()))
	everyCall(t, client, stigg.ErrOffline)
	require.NoError(t, client.Close())
	everyCall(t, client, stigg.ErrClosed)
	require.Zero(t, api.Count())
	require.Empty(t, recorder.Commands())
}

func TestCloseEndsEverything(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	before := goleak.IgnoreCurrent()
	client := newClient(t, api, server)
	require.NoError(t, client.WaitForInitialization(background()))
	answer, err := isOn(background(), client)
	require.NoError(t, err)
	require.Equal(t, stigg.SourceEdge, answer.Source)

	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() { require.NoError(t, client.Close()) })
	}
	closing.Wait()
	require.NoError(t, client.Close())
	goleak.VerifyNone(t, before)
	api.ResetRequests()
	everyCall(t, client, stigg.ErrClosed)
	require.NoError(t, client.WaitForInitialization(background()), "what was known stays known")
	require.Zero(t, api.Count())
	require.Contains(t, server.Client().Info(background(), "clients").Val(), "connected_clients:1\r\n", "no connection but this one")
}

// TestCloseWhileCalled: a call that Close overtakes is answered all the same,
// from a source or with the fallback and ErrClosed, whatever it was doing.
func TestCloseWhileCalled(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	before := goleak.IgnoreCurrent()
	for range 5 {
		client := newClient(t, api, server)
		var calls sync.WaitGroup
		started := make(chan struct{}, 32)
		for i := range 32 {
			calls.Go(func() {
				g := getters[i%len(getters)]
				customer := "acme" + strconv.Itoa(i%4)
				for n := 0; ; n++ {
					answer, err := g.get(background(), client, ask{customer: customer, id: g.id})
					if n == 0 {
						started <- struct{}{}
					}
					if err != nil {
						if !errors.Is(err, stigg.ErrClosed) || !answer.IsFallback {
							t.Errorf("%s: %+v, %v", g.name, answer, err)
						}
						return
					}
				}
			})
		}
		for range 32 {
			<-started
		}
		require.NoError(t, client.Close())
		calls.Wait()
		goleak.VerifyNone(t, before)
	}
}

// TestCloseFinishesARefetch: what others wait for is finished, written and
// answered.
func TestCloseFinishesARefetch(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	api.Fault(onEdge(stiggtest.Latency(200 * time.Millisecond)))
	client := newClient(t, api, server)
	type result struct {
		answer stigg.BooleanEntitlement
		err    error
	}
	results := make(chan result)
	go func() {
		answer, err := isOn(background(), client)
		results <- result{answer, err}
	}()
	require.NoError(t, api.WaitForRequests(background(), 1, isFetch))
	require.NoError(t, client.Close())
	r := <-results
	require.NoError(t, r.err)
	require.True(t, r.answer.HasAccess)
	require.Equal(t, stigg.SourceEdge, r.answer.Source)
	require.EqualValues(t, 10, server.Client().DBSize(background()).Val())
}

// TestCloseGivesUpAHangingRefetch: what cannot be finished in a second is not
// waited for; whoever waits is told.
func TestCloseGivesUpAHangingRefetch(t *testing.T) {
	api := acmeAPI(t)
	api.Fault(stiggtest.Hang().On(isFetch))
	before := goleak.IgnoreCurrent()
	client := newClient(t, api, nil)
	failed := make(chan error)
	go func() {
		_, err := isOn(background(), client)
		failed <- err
	}()
	require.NoError(t, api.WaitForRequests(background(), 1, isFetch))
	began := time.Now()
	require.NoError(t, client.Close())
	require.GreaterOrEqual(t, time.Since(began), 900*time.Millisecond)
	require.Less(t, time.Since(began), 3*time.Second)
	require.ErrorIs(t, <-failed, stigg.ErrClosed)
	goleak.VerifyNone(t, before)
}

// TestClientOfTheCaller: a Redis client that the program already has is used,
// kept to RedisConfig.Timeout whether or not it honours contexts, and not
// closed.
func TestClientOfTheCaller(t *testing.T) {
	for name, honours := range map[string]bool{"honours contexts": true, "ignores contexts": false} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			api := acmeAPI(t)
			fill(t, api, server, "acme")
			options := server.Options()
			options.ContextTimeoutEnabled = honours
			options.ReadTimeout, options.MaxRetries = 5*time.Second, -1
			own := redis.NewClient(options)
			defer func() { require.NoError(t, own.Close()) }()
			client := newClient(t, api, server, func(c *stigg.Config) {
				c.Redis = &stigg.RedisConfig{Client: own, EnvironmentPrefix: prefix}
			})

			for _, g := range getters {
				eventually(t, func() bool { // at once, unless the machine is too busy for the default timeout
					answer, err := g.get(background(), client, ask{customer: "acme", id: g.id})
					require.NoError(t, err, g.name)
					require.True(t, answer.HasAccess, g.name)
					return answer.Source == stigg.SourceRedis
				}, g.name)
			}
			before := client.Stats().RedisErrors
			require.LessOrEqual(t, api.Count(isFetch), int(before))

			server.Pause()
			began := time.Now()
			answer, err := isOn(background(), client)
			took := time.Since(began)
			require.NoError(t, err)
			require.Equal(t, stigg.SourceEdge, answer.Source)
			require.GreaterOrEqual(t, took, 90*time.Millisecond)
			require.Less(t, took, 3*time.Second, "RedisConfig.Timeout, not the client's own")
			require.Equal(t, before+1, client.Stats().RedisErrors)

			server.Resume()
			require.NoError(t, client.Close())
			require.NoError(t, own.Ping(background()).Err(), "still open")
		})
	}
}

// TestLoggerDefault: without a Logger the program's default one is told.
func TestLoggerDefault(t *testing.T) {
	lines := &logLines{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(lines, nil)))
	defer slog.SetDefault(before)
	api := acmeAPI(t)
	api.SetAPIKey("another")
	client := newClient(t, api, nil, func(c *stigg.Config) { c.Logger = nil })
	require.ErrorIs(t, client.WaitForInitialization(background()), stigg.ErrUnauthenticated)
	require.Len(t, lines.with("refuses the api key"), 1)
}
