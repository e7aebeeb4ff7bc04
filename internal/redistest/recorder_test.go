package redistest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func TestRecorderKeepsCommandsByteForByte(t *testing.T) {
	s := redistest.Start(t)
	o := s.Options()
	o.DB = 3
	c := redis.NewClient(o)
	defer func() { require.NoError(t, c.Close()) }()
	rec := redistest.Monitor(t, s.Addr())

	odd := "\x00\xff\"quoted\" back\\slash\r\n[0 lua] ünï"
	before := time.Now().Add(-time.Second)
	require.NoError(t, c.Set(t.Context(), odd, odd, 0).Err())

	calls := rec.Calls()
	require.Len(t, calls, 1)
	require.Equal(t, []string{"set", odd, odd}, calls[0].Args)
	require.Equal(t, "SET", calls[0].Name())
	require.Equal(t, 3, calls[0].DB)
	require.Contains(t, calls[0].Client, "127.0.0.1:")
	require.False(t, calls[0].Lua)
	require.WithinRange(t, calls[0].At, before, time.Now().Add(time.Second))
}

func TestRecorderCounts(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	rec := s.Monitor()
	ctx := t.Context()

	require.NoError(t, c.Ping(ctx).Err())
	require.Zero(t, rec.Count(), "a handshake is no call: %v", rec.Commands())
	require.NotEmpty(t, rec.Commands())

	script := redis.NewScript(`redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])`)
	require.Equal(t, "v", script.Eval(ctx, c, []string{"k"}, "v").Val())
	require.NoError(t, c.MGet(ctx, "k", "k2").Err())
	require.Equal(t, 2, rec.Count())
	require.Equal(t, 1, rec.Count("mget"))
	require.Equal(t, 2, rec.Count("MGET", "EVAL"))
	require.Zero(t, rec.Count("SET"), "what a script does is no call")

	var lua []string
	for _, command := range rec.Commands() {
		if command.Lua {
			lua = append(lua, command.String())
		}
	}
	require.Equal(t, []string{`lua "SET" "k" "v"`, `lua "GET" "k"`}, lua)

	rec.Reset()
	require.Zero(t, rec.Count())
	require.Empty(t, rec.Commands(), "neither are the markers of other recorders shown")
}

// A count is exact: nothing that was answered is missing, and Reset lets
// nothing of before through.
func TestRecorderIsExactUnderLoad(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	rec, other := s.Monitor(), s.Monitor()
	const workers, each = 8, 100
	for round := range 3 {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					c.Set(t.Context(), fmt.Sprintf("k%d", w), i, 0)
				}
			})
		}
		wg.Go(func() { other.Sync() })
		wg.Wait()
		require.Equal(t, workers*each, rec.Count("SET"), "round %d", round)
		rec.Reset()
		require.Zero(t, rec.Count("SET"))
	}
	require.Equal(t, 3*workers*each, other.Count())
}

func TestRecorderWithTLSAndPassword(t *testing.T) {
	for name, opts := range map[string][]redistest.Option{
		"tls and user": {redistest.TLS(), redistest.User("alice", "pw")},
		"password":     {redistest.RequirePass("pw")},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, opts...)
			rec := s.Monitor()
			require.ErrorIs(t, s.Client().Get(t.Context(), "k").Err(), redis.Nil)
			require.Equal(t, 1, rec.Count("GET"))
		})
	}
}

func TestRecorderKeepsWhatItHasWhenTheServerDies(t *testing.T) {
	s := redistest.Start(t)
	rec := s.Monitor()
	require.NoError(t, s.Client().Set(t.Context(), "k", "v", 0).Err())
	require.Equal(t, 1, rec.Count())
	s.Kill()
	require.Equal(t, 1, rec.Count())
}
