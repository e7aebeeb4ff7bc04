package stigg_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// TestBurstsDoNotBlockCallers: while 10,000 keys at a time change, of others
// and of the customer that is asked for, checks go on, and see the last change.
func TestBurstsDoNotBlockCallers(t *testing.T) {
	const script = `for i = 1, 10000 do redis.call('SET', 'lab:c_' .. ARGV[1] .. ':f_' .. i, i) end return 1`
	server, api := redistest.Start(t), acmeAPI(t)
	fill(t, api, server, "acme")
	client, writer := newClient(t, api, server, withLRU(1000)), server.Client()
	eventually(t, func() bool { return sourceOf(t, client, "acme", "", "on") == stigg.SourceMemory }, "a memory hit")

	var stop atomic.Bool
	var checking sync.WaitGroup
	var mu sync.Mutex
	var latencies []time.Duration
	for range 64 {
		checking.Go(func() {
			for !stop.Load() {
				began := time.Now()
				a, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", FeatureID: "on"})
				took := time.Since(began)
				if err != nil || !a.HasAccess || a.Stale || a.IsFallback {
					t.Errorf("%+v, %v", a, err)
					return
				}
				mu.Lock()
				latencies = append(latencies, took)
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	changing := time.Now()
	for range 5 {
		for _, customer := range []string{"other", "acme"} {
			require.NoError(t, writer.Eval(background(), script, nil, customer).Err())
		}
	}
	setUsageNow(t, writer, "lab:c_acme:f_calls", 77)
	written := time.Now()
	eventually(t, func() bool {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		return err == nil && a.CurrentUsage == 77
	}, "the last change")
	seen := time.Since(written)
	eventually(t, func() bool { return sourceOf(t, client, "acme", "", "on") == stigg.SourceMemory }, "a memory hit again")
	stop.Store(true)
	checking.Wait()
	slices.Sort(latencies)
	t.Logf("%d checks, p50 %v, p99 %v, longest %v; the last change seen after %v", len(latencies),
		percentile(latencies, 0.5), percentile(latencies, 0.99), percentile(latencies, 1), seen.Round(time.Microsecond))
	// A check that had to wait for all 100,000 would take as long as they do.
	require.Less(t, percentile(latencies, 0.99), max(100*time.Millisecond, written.Sub(changing)/2))
}

// TestMemoryInFrontOfEveryKindOfRedis: with a login, with TLS, in another
// database than the first, behind Sentinel, through a client of the program's
// own: memory is used, and sees the changes of others.
func TestMemoryInFrontOfEveryKindOfRedis(t *testing.T) {
	type setting struct {
		configure func(*stigg.Config)
		writer    redis.UniversalClient
	}
	for name, start := range map[string]func(t *testing.T) setting{
		"login": func(t *testing.T) setting {
			// What the client itself needs, and nothing for the tracking but client|tracking.
			server := redistest.Start(t, redistest.User("app", "secret", "~lab:*", "~lab-*", "&lab:*",
				"-@all", "+ping", "+get", "+mget", "+strlen", "+set", "+exists", "+eval", "+evalsha", "+subscribe", "+unsubscribe", "+publish",
				"+multi", "+exec", "+client|tracking"))
			return setting{func(c *stigg.Config) {
				c.Redis = &stigg.RedisConfig{Host: server.Host(), Port: server.Port(), Username: "app", Password: "secret"}
			}, server.Client()}
		},
		"tls": func(t *testing.T) setting {
			server := redistest.Start(t, redistest.TLS())
			return setting{func(c *stigg.Config) {
				c.Redis = &stigg.RedisConfig{Host: server.Host(), Port: server.Port(), TLS: server.TLSConfig()}
			}, server.Client()}
		},
		"database": func(t *testing.T) setting {
			server := redistest.Start(t)
			options := server.Options()
			options.DB = 7
			writer := redis.NewClient(options)
			t.Cleanup(func() { require.NoError(t, writer.Close()) })
			return setting{func(c *stigg.Config) {
				c.Redis = &stigg.RedisConfig{Host: server.Host(), Port: server.Port(), DB: 7}
			}, writer}
		},
		"sentinel": func(t *testing.T) setting {
			sentinel := redistest.StartSentinel(t, 1)
			return setting{func(c *stigg.Config) {
				c.Redis = &stigg.RedisConfig{Addrs: sentinel.SentinelAddrs(), MasterName: sentinel.MasterName()}
			}, sentinel.Client()}
		},
		"own client": func(t *testing.T) setting {
			server := redistest.Start(t)
			return setting{func(c *stigg.Config) { c.Redis = &stigg.RedisConfig{Client: server.Client()} }, server.Client()}
		},
		"own client that ignores deadlines": func(t *testing.T) setting {
			server := redistest.Start(t)
			options := server.Options()
			options.ContextTimeoutEnabled, options.Protocol = false, 3
			client := redis.NewClient(options)
			t.Cleanup(func() { require.NoError(t, client.Close()) })
			return setting{func(c *stigg.Config) { c.Redis = &stigg.RedisConfig{Client: client} }, server.Client()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			lines := &logLines{}
			client := newClient(t, acmeAPI(t), nil, s.configure, withLRU(1000), lines.to, func(c *stigg.Config) {
				c.Redis.EnvironmentPrefix, c.Redis.Timeout, c.Redis.OutageTTL = prefix, 2*time.Second, -1
			})
			check := func() stigg.MeteredEntitlement {
				a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
				require.NoError(t, err)
				return a
			}
			for used := range int64(5) {
				eventually(t, func() bool { return check().Source == stigg.SourceMemory }, "a memory hit")
				_, err := s.writer.TxPipelined(context.Background(), func(pipe redis.Pipeliner) error {
					setUsage(pipe, "lab:c_acme:f_calls", 50+used, time.Now().UnixMilli())
					return nil
				})
				require.NoError(t, err)
				eventually(t, func() bool { return check().CurrentUsage == float64(50+used) }, "the change")
			}
			require.Empty(t, lines.with("changes"))
		})
	}
}
