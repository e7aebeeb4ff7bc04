package stigg_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// withRevalidation asks for revalidation on every check.
func withRevalidation(c *stigg.Config) { c.LRU = &stigg.LRUConfig{MaxEntries: 1000, Revalidate: true} }

// untracked are the ways not to be told of changes.
func untracked(t *testing.T) map[string]func(t *testing.T) (*redistest.Server, func(*stigg.Config)) {
	t.Helper()
	start := func(lru func(*stigg.Config), options ...redistest.Option) func(*testing.T) (*redistest.Server, func(*stigg.Config)) {
		return func(t *testing.T) (*redistest.Server, func(*stigg.Config)) {
			server := redistest.Start(t, options...)
			return server, func(c *stigg.Config) {
				login := server.Options()
				c.Redis.Username, c.Redis.Password = login.Username, login.Password
				lru(c)
			}
		}
	}
	return map[string]func(t *testing.T) (*redistest.Server, func(*stigg.Config)){
		"on purpose":     start(withRevalidation),
		"no resp3":       start(withLRU(1000), redistest.Args("--rename-command", "HELLO", "")),
		"not permitted":  start(withLRU(1000), redistest.User("app", "secret", "~*", "&*", "+@all", "-client")),
		"strlen refused": start(withRevalidation, redistest.User("app", "secret", "~*", "&*", "+@all", "-strlen")),
	}
}

// TestRevalidation: where nothing is heard of changes, each check asks Redis
// what may have changed, and sees every write that returned before it began.
// The value is fetched when it may have changed, and only then.
func TestRevalidation(t *testing.T) {
	for name, start := range untracked(t) {
		t.Run(name, func(t *testing.T) {
			server, configure := start(t)
			writer := server.Client()
			redistest.LoadDump(t, writer, "testdata/redis-cache-store-1.29.json")
			lines := &logLines{}
			client := newClient(t, fixtureAPI(t), server, configure, lines.to)
			check := func() stigg.MeteredEntitlement {
				a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"})
				require.NoError(t, err)
				require.Equal(t, stigg.SourceRedis, a.Source)
				require.False(t, a.Stale)
				return a
			}
			first := check()
			recorder := server.Monitor()
			// fetched tells how a check read: the value's length, or the value.
			fetched := func() (length, value int) {
				for _, call := range recorder.Calls() {
					switch {
					case call.Name() == "STRLEN":
						length++
					case call.Name() == "MGET" && slices.Contains(call.Args, "lab:c_cust-basic"):
						value++
					}
				}
				recorder.Reset()
				return length, value
			}
			wantRead := func(wantLength, wantValue int) {
				t.Helper()
				length, value := fetched()
				if name == "strlen refused" { // then all of it is read, every time
					wantLength, wantValue = 0, 1
				}
				require.Equal(t, []int{wantLength, wantValue}, []int{length, value})
			}
			for range 3 {
				require.Equal(t, first, check())
				wantRead(1, 0)
			}
			for used := range int64(20) {
				setUsageNow(t, writer, "lab:c_cust-basic:f_feature-met", used)
				recorder.Reset()
				require.Equal(t, float64(used), check().CurrentUsage, "at once")
				wantRead(1, 0)
			}
			require.NoError(t, writer.Set(background(), "lab:c_cust-basic#timestamp", "1780308000001", 0).Err())
			recorder.Reset()
			check()
			wantRead(1, 1)
			check()
			wantRead(1, 0)

			value, err := writer.Get(background(), "lab:c_cust-basic").Result()
			require.NoError(t, err)
			shorter := strings.Replace(value, `"usageLimit":100`, `"usageLimit":9`, 1)
			require.NotEqual(t, value, shorter)
			require.NoError(t, writer.Set(background(), "lab:c_cust-basic", shorter, 0).Err())
			recorder.Reset()
			require.Equal(t, 9.0, check().UsageLimit, "though its timestamp is as it was")
			wantRead(1, 1)

			if name == "no resp3" || name == "not permitted" {
				require.Len(t, lines.with("does not tell of changes"), 1)
			} else {
				require.Empty(t, lines.with("tell of changes"), "that was asked for")
			}
		})
	}
}

// TestRevalidationOnACluster: no connection hears of all changes of a Cluster.
func TestRevalidationOnACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	writer := cluster.Client()
	redistest.LoadDump(t, writer, "testdata/redis-cache-store-1.29.json")
	client := newClient(t, fixtureAPI(t), nil, withLRU(1000), func(c *stigg.Config) {
		c.Redis = &stigg.RedisConfig{Addrs: cluster.Addrs(), EnvironmentPrefix: prefix, Timeout: 2 * time.Second}
	})
	check := func() stigg.MeteredEntitlement {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"})
		require.NoError(t, err)
		require.Equal(t, stigg.SourceRedis, a.Source)
		return a
	}
	check()
	var recorders []*redistest.Recorder
	for _, server := range cluster.Servers() {
		recorders = append(recorders, server.Monitor())
	}
	for used := range 20 {
		require.NoError(t, writer.Set(background(), "lab:c_cust-basic:f_feature-met",
			fmt.Sprintf(`{"currentUsage":%d,"usagePeriodStart":null,"usagePeriodEnd":null}`, used), 0).Err())
		require.Equal(t, float64(used), check().CurrentUsage)
	}
	lengths := 0
	for _, recorder := range recorders {
		for _, call := range recorder.Calls() {
			if call.Name() == "STRLEN" {
				lengths++
			}
			require.False(t, call.Name() == "GET" && call.Args[1] == "lab:c_cust-basic", "the value is not fetched")
		}
	}
	require.Equal(t, 20, lengths)
}

// TestListFromMemoryIsAsFromRedis: for every customer and resource that another
// program has written.
func TestListFromMemoryIsAsFromRedis(t *testing.T) {
	server := redistest.Start(t)
	redistest.LoadDump(t, server.Client(), "testdata/redis-cache-store-1.29.json")
	api := fixtureAPI(t)
	remembering, reading := newClient(t, api, server, withLRU(1000)), newClient(t, api, server)
	compared := 0
	for who := range edgeFixture(t) {
		if who[0] == "cust-valid-until" {
			continue // something has ended: never from memory
		}
		var fromMemory stigg.EntitlementsState
		eventually(t, func() bool {
			var err error
			fromMemory, err = remembering.GetEntitlements(background(), who[0], who[1])
			return err == nil && fromMemory.Source == stigg.SourceMemory || who[0] == "cust-credit"
		}, "a memory hit of "+who[0]+" "+who[1])
		fromRedis, err := reading.GetEntitlements(background(), who[0], who[1])
		require.NoError(t, err)
		if fromMemory.Source != stigg.SourceMemory {
			continue // a credit's period has ended
		}
		require.Equal(t, stigg.SourceRedis, fromRedis.Source)
		fromRedis.Source = stigg.SourceMemory
		for i := range fromRedis.Entitlements {
			fromRedis.Entitlements[i].Source = stigg.SourceMemory
			// Each alone is the same, too.
			e := fromRedis.Entitlements[i]
			alone, err := remembering.GetEntitlement(background(), stigg.EntitlementQuery{
				CustomerID: who[0], ResourceID: who[1], FeatureID: e.Feature.ID, CurrencyID: e.Currency.ID,
			})
			require.NoError(t, err)
			require.Equal(t, e, alone)
			compared++
		}
		require.Equal(t, fromRedis, fromMemory)
	}
	require.Greater(t, compared, 30)
}

// TestMemoryKeepsToItsSize: whatever is asked for, no more than MaxEntries is
// kept, and a list that is larger is read each time.
func TestMemoryKeepsToItsSize(t *testing.T) {
	server, api := redistest.Start(t), stiggtest.New(t)
	var many []stiggtest.Entitlement
	for n := range 50 {
		many = append(many, stiggtest.Boolean("feature-"+string(rune('a'+n/26))+string(rune('a'+n%26))))
	}
	api.SetEntitlements("many", many...)
	api.SetEntitlements("acme", acmeEntitlements()...)
	fill(t, api, server, "many", "acme")
	client := newClient(t, api, server, withLRU(20))
	eventually(t, func() bool { return sourceOf(t, client, "acme", "", "on") == stigg.SourceMemory }, "a memory hit")
	for range 5 {
		state, err := client.GetEntitlements(background(), "many", "")
		require.NoError(t, err)
		require.Equal(t, stigg.SourceRedis, state.Source)
		require.Len(t, state.Entitlements, 50)
	}
	require.Equal(t, stigg.SourceMemory, sourceOf(t, client, "acme", "", "on"), "it did not push out everything else")
	state, err := client.GetEntitlements(background(), "acme", "")
	require.NoError(t, err)
	require.Equal(t, stigg.SourceRedis, state.Source)
	state, err = client.GetEntitlements(background(), "acme", "")
	require.NoError(t, err)
	require.Equal(t, stigg.SourceMemory, state.Source)
	for n := range 20 {
		sourceOf(t, client, "many", "", "feature-a"+string(rune('a'+n)))
	}
	require.Equal(t, stigg.SourceRedis, sourceOf(t, client, "acme", "", "on"), "pushed out by what was asked for since")
}

// TestRevalidationAndReadShareTheTimeout: a value that turns out to be another
// one costs a second round trip, but not a second RedisConfig.Timeout.
func TestRevalidationAndReadShareTheTimeout(t *testing.T) {
	server, api := redistest.Start(t), stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Metered("calls", 100, 40))
	fill(t, api, server, "acme")
	proxy := faultproxy.New(t, server.Addr())
	client := newClient(t, api, server, withRevalidation, viaProxy(proxy))
	check := func() stigg.Source { return callsOf(t, client, "acme").Source }
	eventually(t, func() bool { return check() == stigg.SourceRedis }, "it is remembered")
	value := server.Client().Get(background(), "lab:c_acme").Val()
	require.NoError(t, server.Client().Set(background(), "lab:c_acme", value+" ", 0).Err())
	proxy.Latency(faultproxy.Both, 35*time.Millisecond) // each way: one trip fits, two do not
	require.Equal(t, stigg.SourceEdge, check())
}
