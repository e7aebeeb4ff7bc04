package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRedisMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := startRedis(t.Context())
	require.ErrorContains(t, err, "redis-server is not on PATH")
}

func TestRedisEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := startRedis(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, s.version)
	cancel()
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		t.Error("redis-server goes on")
	}
	require.NoError(t, s.stop())
	require.NoDirExists(t, s.dir)
}
