package redistest_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func TestServerIsGoneAfterTheTest(t *testing.T) {
	var addr string
	t.Run("inner", func(t *testing.T) {
		s := redistest.Start(t)
		addr = s.Addr()
		require.NoError(t, s.Client().Set(t.Context(), "k", "v", 0).Err())
		s.Pause() // a frozen process has to go as well
	})
	_, err := net.Dial("tcp", addr)
	require.Error(t, err)
}

func TestStopAndStartOnTheSamePort(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	addr := s.Addr()

	s.Stop()
	s.Stop() // nothing left to stop
	_, err := net.Dial("tcp", addr)
	require.Error(t, err)

	s.Start()
	require.Equal(t, addr, s.Addr())
	require.ErrorIs(t, c.Get(t.Context(), "k").Err(), redis.Nil, "nothing is kept without AOF")
}

func TestAOFKeepsData(t *testing.T) {
	for name, end := range map[string]func(*redistest.Server){
		"restart": (*redistest.Server).Restart,
		"kill":    func(s *redistest.Server) { s.Kill(); s.Start() },
		"stop while paused": func(s *redistest.Server) {
			s.Pause()
			s.Restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.AOF())
			c := s.Client()
			require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
			end(s)
			require.Equal(t, "v", c.Get(t.Context(), "k").Val())
		})
	}
}

func TestPauseIsSilentUntilResume(t *testing.T) {
	s := redistest.Start(t)
	o := s.Options()
	o.MaxRetries = -1
	c := redis.NewClient(o)
	defer func() { require.NoError(t, c.Close()) }()
	require.NoError(t, c.Ping(t.Context()).Err())

	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Ping(ctx).Err(), os.ErrDeadlineExceeded)
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err, "connections are still accepted")
	require.NoError(t, conn.Close())

	s.Resume()
	require.NoError(t, c.Ping(t.Context()).Err())
}

func TestCredentials(t *testing.T) {
	tests := map[string]struct {
		opts      []redistest.Option
		username  string
		anonymous string
	}{
		"password": {
			opts:      []redistest.Option{redistest.RequirePass(`p "w\ d`)},
			anonymous: "NOAUTH",
		},
		"user": {
			opts:      []redistest.Option{redistest.User("alice", "s3cret")},
			username:  "alice",
			anonymous: "NOAUTH",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, tt.opts...)
			require.Equal(t, tt.username, s.Options().Username)
			require.NoError(t, s.Client().Set(t.Context(), "k", "v", 0).Err())

			anonymous := redis.NewClient(&redis.Options{Addr: s.Addr()})
			defer func() { require.NoError(t, anonymous.Close()) }()
			require.ErrorContains(t, anonymous.Get(t.Context(), "k").Err(), tt.anonymous)
		})
	}
}

func TestUserRulesAreEnforced(t *testing.T) {
	s := redistest.Start(t, redistest.User("bob", "pw", "~app:*", "+get", "+set"))
	c := s.Client()
	require.NoError(t, c.Set(t.Context(), "app:k", "v", 0).Err())
	require.ErrorContains(t, c.Set(t.Context(), "other:k", "v", 0).Err(), "NOPERM")
}

func TestTLS(t *testing.T) {
	s := redistest.Start(t, redistest.TLS())
	require.NoError(t, s.Client().Set(t.Context(), "k", "v", 0).Err())

	untrusting := s.Options()
	untrusting.TLSConfig.RootCAs = nil
	c := redis.NewClient(untrusting)
	defer func() { require.NoError(t, c.Close()) }()
	require.ErrorContains(t, c.Ping(t.Context()).Err(), "certificate")

	plain := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	defer func() { require.NoError(t, plain.Close()) }()
	require.Error(t, plain.Ping(t.Context()).Err())
}

func TestArgsAndFlushAll(t *testing.T) {
	s := redistest.Start(t, redistest.Args("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"))
	c := s.Client()
	config, err := c.ConfigGet(t.Context(), "maxmemory*").Result()
	require.NoError(t, err)
	require.Equal(t, "3145728", config["maxmemory"])
	require.Equal(t, "allkeys-lru", config["maxmemory-policy"])

	replica := redistest.Start(t, redistest.Args("--replicaof", s.Host()+" "+s.Options().Addr[len("127.0.0.1:"):]))
	require.Contains(t, replica.Client().Info(t.Context(), "replication").Val(), "role:slave")

	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	s.FlushAll()
	require.Zero(t, c.DBSize(t.Context()).Val())
}
