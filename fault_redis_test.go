package stigg_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// answered asks every getter and wants a right answer without an error.
func answered(t *testing.T, client *stigg.Client) []stigg.Source {
	t.Helper()
	var sources []stigg.Source
	for _, g := range getters {
		answer, err := g.get(background(), client, ask{customer: "acme", id: g.id})
		require.NoError(t, err, g.name)
		require.True(t, answer.HasAccess, g.name)
		require.False(t, answer.IsFallback, g.name)
		require.False(t, answer.Stale, g.name)
		sources = append(sources, answer.Source)
	}
	state, err := client.GetEntitlements(background(), "acme", "")
	require.NoError(t, err)
	require.Len(t, state.Entitlements, len(acmeEntitlements()))
	return append(sources, state.Source)
}

// TestRedisDoesNotAnswer: whatever keeps Redis from answering, the API does,
// the caller sees no error, the failure is counted, and after three of them
// Redis is not asked in calls any more; when it is back, it is used again.
func TestRedisDoesNotAnswer(t *testing.T) {
	proxyFault := func(breakIt func(*faultproxy.Proxy)) func(*testing.T, *faultproxy.Proxy, *redistest.Server) func() {
		return func(_ *testing.T, p *faultproxy.Proxy, _ *redistest.Server) func() {
			breakIt(p)
			return p.Pass
		}
	}
	for name, breakIt := range map[string]func(*testing.T, *faultproxy.Proxy, *redistest.Server) (mend func()){
		"down":               proxyFault((*faultproxy.Proxy).Down),
		"swallows requests":  proxyFault(func(p *faultproxy.Proxy) { p.Blackhole(faultproxy.Both) }),
		"swallows replies":   proxyFault(func(p *faultproxy.Proxy) { p.Blackhole(faultproxy.Replies) }),
		"slow":               proxyFault(func(p *faultproxy.Proxy) { p.Latency(faultproxy.Replies, time.Second) }),
		"dies in mid-reply":  proxyFault(func(p *faultproxy.Proxy) { p.CutAfter(40) }),
		"cuts the handshake": proxyFault(func(p *faultproxy.Proxy) { p.ResetAll(); p.CutAfter(3) }),
		"corrupts replies":   proxyFault(func(p *faultproxy.Proxy) { p.ResetAll(); p.Corrupt(1) }),
		"frozen": func(_ *testing.T, _ *faultproxy.Proxy, s *redistest.Server) func() {
			s.Pause()
			return s.Resume
		},
		"killed": func(_ *testing.T, _ *faultproxy.Proxy, s *redistest.Server) func() {
			s.Kill()
			return s.Start
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			api := acmeAPI(t)
			proxy := faultproxy.New(t, server.Addr())
			fill(t, api, server, "acme")
			lines := &logLines{}
			client := newClient(t, api, server, viaProxy(proxy), lines.to, func(c *stigg.Config) { c.Redis.OutageTTL = -1 })
			// This Redis is waited for no longer than by default: a busy machine
			// can make it miss that.
			eventually(t, func() bool {
				return !slices.ContainsFunc(answered(t, client), func(s stigg.Source) bool { return s != stigg.SourceRedis })
			}, "redis answers")

			mend := breakIt(t, proxy, server)
			for _, source := range answered(t, client) {
				require.Equal(t, stigg.SourceEdge, source)
			}
			stats := client.Stats()
			require.GreaterOrEqual(t, stats.RedisErrors, uint64(1), "failed writes count towards the three as well")
			require.GreaterOrEqual(t, stats.RedisBypassed, uint64(1))
			require.Zero(t, stats.UnreadableValues+stats.StaleAnswers+stats.Fallbacks)
			require.Len(t, lines.with("redis lost"), 1)

			mend()
			eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && a.Source == stigg.SourceRedis }, "redis is used again")
			answered(t, client)
			require.Len(t, lines.with("redis is back"), 1)
			require.Len(t, lines.with("redis lost"), 1)
		})
	}
}

// TestOutageMemory: an outage of Redis does not become a request for every
// check. With Redis away at once or silent, 200 checks of a customer within a
// second cost the API no more than a handful.
func TestOutageMemory(t *testing.T) {
	const handful = 3
	for name, breakIt := range map[string]func(*faultproxy.Proxy){
		"refused": (*faultproxy.Proxy).Down,
		"silent":  func(p *faultproxy.Proxy) { p.Blackhole(faultproxy.Both) },
	} {
		for callers, what := range map[int]string{1: "one by one", 20: "20 at a time"} {
			t.Run(name+", "+what, func(t *testing.T) {
				server := redistest.Start(t)
				api := acmeAPI(t)
				proxy := faultproxy.New(t, server.Addr())
				fill(t, api, server, "acme")
				client := newClient(t, api, server, viaProxy(proxy))
				answered(t, client)
				breakIt(proxy)
				api.ResetRequests()

				var mu sync.Mutex
				sources := make(map[stigg.Source]int)
				var running sync.WaitGroup
				for range callers {
					running.Go(func() {
						for range 200 / callers {
							answer, err := isOn(background(), client)
							if err != nil || !answer.HasAccess {
								t.Errorf("%+v, %v", answer, err)
							}
							mu.Lock()
							sources[answer.Source]++
							mu.Unlock()
							time.Sleep(time.Duration(callers) * 3 * time.Millisecond)
						}
					})
				}
				running.Wait()
				require.LessOrEqual(t, api.Count(isFetch), handful)
				require.Greater(t, sources[stigg.SourceMemory], 100, "%v", sources)
				require.Equal(t, 200, sources[stigg.SourceMemory]+sources[stigg.SourceEdge], "%v", sources)

				state, err := client.GetEntitlements(background(), "acme", "")
				require.NoError(t, err)
				require.Equal(t, stigg.SourceMemory, state.Source, "the same answer serves every getter")
			})
		}
	}
}

// TestOutageMemoryEnds: what is held is held for OutageTTL, and not for longer
// because it is used.
func TestOutageMemoryEnds(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	server.Kill()
	client := newClient(t, api, server, func(c *stigg.Config) { c.Redis.OutageTTL = time.Second })
	_, err := isOn(background(), client)
	require.NoError(t, err)
	api.SetEntitlements("acme", stiggtest.Boolean("off"))
	began := time.Now()
	eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && !a.HasAccess }, "the change is seen")
	require.Less(t, time.Since(began), 4*time.Second)
	require.GreaterOrEqual(t, client.Stats().MemoryHits, uint64(1))
	require.Equal(t, 2, api.Count(isFetch))
}

// TestRedisIsProbedBesideTheCalls: while Redis is away it is asked once a
// second, whatever the number of checks.
func TestRedisIsProbedBesideTheCalls(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	proxy := faultproxy.New(t, server.Addr())
	client := newClient(t, api, server, viaProxy(proxy))
	proxy.Blackhole(faultproxy.Both)
	eventually(t, func() bool { _, _ = isOn(background(), client); return client.Stats().RedisBypassed > 0 }, "redis counts as away")
	time.Sleep(200 * time.Millisecond) // a write-back that is under way
	before := proxy.Stats()
	began := time.Now()
	for time.Since(began) < 2500*time.Millisecond {
		_, err := isOn(background(), client)
		require.NoError(t, err)
	}
	after := proxy.Stats()
	require.LessOrEqual(t, after.Accepted-before.Accepted, int(time.Since(began)/time.Second)+1)
	require.GreaterOrEqual(t, after.Accepted-before.Accepted, 1)
	require.Greater(t, client.Stats().MemoryHits, uint64(1000))
}

// TestRedisThatRefuses: a Redis that answers reads with an error is as good as
// none.
func TestRedisThatRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		options  []redistest.Option
		username string
		password string
	}{
		"wrong password":     {[]redistest.Option{redistest.RequirePass("right")}, "", "wrong"},
		"no password":        {[]redistest.Option{redistest.RequirePass("right")}, "", ""},
		"unknown user":       {[]redistest.Option{redistest.User("sdk", "right")}, "other", "right"},
		"may not read a key": {[]redistest.Option{redistest.User("sdk", "right", "~other:*", "&*", "+@all")}, "sdk", "right"},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, c.options...)
			api := acmeAPI(t)
			lines := &logLines{}
			client := newClient(t, api, server, lines.to, func(config *stigg.Config) {
				config.Redis.Username, config.Redis.Password = c.username, c.password
			})
			sources := answered(t, client)
			require.NotContains(t, sources, stigg.SourceRedis)
			require.Len(t, lines.with("redis lost"), 1)
			for _, line := range lines.with("") {
				require.NotContains(t, line, "wrong\"")
				require.NotContains(t, line, "right")
			}
		})
	}
}

// TestRedisThatIsNotWritable: reads go on; what cannot be written is counted,
// told once, and held in process for a while.
func TestRedisThatIsNotWritable(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *redistest.Server{
		"read-only replica": func(t *testing.T) *redistest.Server {
			primary := redistest.Start(t)
			return replicaOf(t, primary)
		},
		"out of memory": func(t *testing.T) *redistest.Server {
			server := redistest.Start(t, redistest.Args("--maxmemory-policy", "noeviction"))
			require.NoError(t, server.Client().ConfigSet(background(), "maxmemory", "1").Err())
			return server
		},
		"may not write": func(t *testing.T) *redistest.Server {
			return redistest.Start(t, redistest.User("sdk", "right", "~*", "&*", "+@all", "-@write"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			api := acmeAPI(t)
			lines := &logLines{}
			client := newClient(t, api, server, lines.to, func(c *stigg.Config) {
				c.Redis.Username, c.Redis.Password = server.Options().Username, server.Options().Password
				c.Redis.OutageTTL = time.Minute
			})
			answered(t, client)
			eventually(t, func() bool { return client.Stats().WriteFailures == 1 }, "a failed write")
			for range 20 {
				answered(t, client)
			}
			stats := client.Stats()
			require.Zero(t, stats.RedisErrors)
			require.Equal(t, 1, api.Count(isFetch))
			require.EqualValues(t, 1, stats.WriteFailures)
			require.Greater(t, stats.MemoryHits, uint64(100))
			require.Greater(t, stats.RedisMisses, uint64(100), "redis is still read")
			require.Len(t, lines.with("does not take"), 1)
			require.Len(t, lines.with("level="), 1, "%v", lines.with(""))
		})
	}
}

// replicaOf starts a server that follows primary, and waits until it does.
func replicaOf(t *testing.T, primary *redistest.Server) *redistest.Server {
	t.Helper()
	require.NoError(t, primary.Client().ConfigSet(background(), "repl-diskless-sync-delay", "0").Err())
	replica := redistest.Start(t, redistest.Args("--replicaof", primary.Host()+" "+strconv.Itoa(primary.Port())))
	rdb := replica.Client()
	eventually(t, func() bool {
		return strings.Contains(rdb.Info(background(), "replication").Val(), "master_link_status:up")
	}, "replication")
	return replica
}

// TestReadOnlyReplicaIsRead: what the primary has, a replica answers with.
func TestReadOnlyReplicaIsRead(t *testing.T) {
	primary := redistest.Start(t)
	replica := replicaOf(t, primary)
	api := acmeAPI(t)
	fill(t, api, primary, "acme")
	client := newClient(t, api, replica)
	eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && a.Source == stigg.SourceRedis }, "replicated")
	for _, source := range answered(t, client) {
		require.Equal(t, stigg.SourceRedis, source)
	}
}

// TestRedisFullAndCorrupt: a value that cannot be read and cannot be replaced
// is still no denial.
func TestRedisFullAndCorrupt(t *testing.T) {
	server := redistest.Start(t, redistest.Args("--maxmemory-policy", "noeviction"))
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	rdb := server.Client()
	require.NoError(t, rdb.Set(background(), acmeValue, "{", 0).Err())
	require.NoError(t, rdb.ConfigSet(background(), "maxmemory", "1").Err())
	client := newClient(t, api, server)
	for range 5 {
		answered(t, client)
	}
	require.Equal(t, 1, api.Count(isFetch))
	require.NoError(t, rdb.ConfigSet(background(), "maxmemory", "0").Err())
	require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
	for _, source := range answered(t, client) {
		require.Equal(t, stigg.SourceRedis, source)
	}
}

// TestRedisThatCannotSave: a server whose disk fails takes no writes (MISCONF).
func TestRedisThatCannotSave(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	server := redistest.Start(t, redistest.Args("--dir", dir, "--save", "3600 1000"))
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	lines := &logLines{}
	client := newClient(t, api, server, lines.to)
	require.NoError(t, os.Remove(dir))
	rdb := server.Client()
	require.NoError(t, rdb.BgSave(background()).Err())
	eventually(t, func() bool { return redis.HasErrorPrefix(rdb.Set(background(), "x", 1, 0).Err(), "MISCONF") }, "writes are refused")

	for _, source := range answered(t, client) {
		require.Equal(t, stigg.SourceRedis, source, "what is there is read")
	}
	api.SetEntitlements("other", acmeEntitlements()...)
	for range 10 {
		answer, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "other", FeatureID: "on"})
		require.NoError(t, err)
		require.True(t, answer.HasAccess)
	}
	require.Equal(t, 1, api.Count(isFetch, stiggtest.Customer("other")))
	eventually(t, func() bool { return client.Stats().WriteFailures == 1 }, "a failed write")
	require.Len(t, lines.with("does not take"), 1)
}

// TestRedisAndAPIAway: with neither there is nothing but the fallback, and the
// error names both.
func TestRedisAndAPIAway(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	proxy := faultproxy.New(t, server.Addr())
	client := newClient(t, api, server, viaProxy(proxy), soon)
	answered(t, client)
	proxy.Down()
	api.Fault(stiggtest.Reset().On(isFetch))
	for range 5 {
		answer, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{
			CustomerID: "acme", CurrencyID: "tokens", Fallback: &stigg.CreditFallback{HasAccess: true},
		})
		require.ErrorIs(t, err, stigg.ErrUnavailable)
		require.True(t, answer.IsFallback)
		require.True(t, answer.HasAccess)
		require.ErrorContains(t, err, "(redis: ", "also when Redis is not asked any more")
		_, err = client.GetEntitlements(background(), "acme", "")
		require.ErrorContains(t, err, "(redis: ")
	}
	require.NotZero(t, client.Stats().RedisBypassed)
	api.ClearFaults()
	eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && a.HasAccess }, "the API alone")
	proxy.Pass()
	eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && a.Source == stigg.SourceRedis }, "redis again")
}

// TestAPIAwayRedisThere: Redis alone answers everything that it holds, without
// an error, as long as it holds it.
func TestAPIAwayRedisThere(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	client := newClient(t, nil, server, soon)
	for range 3 {
		for _, source := range answered(t, client) {
			require.Equal(t, stigg.SourceRedis, source)
		}
	}
	ctx, cancel := context.WithTimeout(background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, client.WaitForInitialization(ctx), context.DeadlineExceeded)
}
