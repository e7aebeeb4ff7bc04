package stigg_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// lenientHook keeps every error of Redis to itself, as a hook does that is to
// let a program go on without Redis.
type lenientHook struct{}

func (lenientHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (lenientHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		_ = next(ctx, cmd)
		return nil
	}
}

func (lenientHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		_ = next(ctx, cmds)
		return nil
	}
}

// TestHookThatKeepsErrorsToItself: what a client of the caller's does not tell
// of is not taken for an answer.
func TestHookThatKeepsErrorsToItself(t *testing.T) {
	for name, lru := range map[string]*stigg.LRUConfig{
		"read": nil, "revalidated": {MaxEntries: 100, Revalidate: true}, "tracked": {MaxEntries: 100},
	} {
		t.Run(name, func(t *testing.T) {
			server, api := redistest.Start(t), acmeAPI(t)
			fill(t, api, server, "acme")
			options := server.Options()
			options.ContextTimeoutEnabled, options.MaxRetries, options.DialerRetries = true, -1, 1
			options.DialTimeout, options.PoolTimeout = 2*time.Second, 2*time.Second
			own := redis.NewClient(options)
			defer func() { require.NoError(t, own.Close()) }()
			own.AddHook(lenientHook{})
			client := newClient(t, api, server, func(c *stigg.Config) {
				c.Redis, c.LRU = &stigg.RedisConfig{Client: own, EnvironmentPrefix: prefix, Timeout: 2 * time.Second, OutageTTL: -1}, lru
			})
			requireFrom := func(want ...stigg.Source) {
				t.Helper()
				for _, g := range getters {
					answer, err := g.get(background(), client, ask{customer: "acme", id: g.id})
					require.NoError(t, err, g.name)
					require.True(t, answer.HasAccess, g.name)
					require.Contains(t, want, answer.Source, g.name)
				}
				state, err := client.GetEntitlements(background(), "acme", "")
				require.NoError(t, err)
				require.Len(t, state.Entitlements, len(acmeEntitlements()))
				require.Contains(t, want, state.Source)
			}
			requireFrom(stigg.SourceRedis, stigg.SourceMemory)
			require.Zero(t, client.Stats().RedisErrors)
			server.Kill()
			eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && a.Source == stigg.SourceEdge }, "the api answers")
			requireFrom(stigg.SourceEdge, stigg.SourceGraphQL)
			require.Positive(t, client.Stats().RedisErrors)
		})
	}
}
