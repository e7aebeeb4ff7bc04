package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// However much there is to do, the service needs little memory for it.
func TestMemoryUnderLoad(t *testing.T) {
	w := &world{t: t, redis: redistest.Start(t), api: stiggtest.New(t)}
	w.client = w.redis.Client()
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bodies := make([]string, 100)
	for i := range bodies {
		customer := fmt.Sprintf("customer-%d", i)
		bodies[i] = listBody(customer, 50, float64(i), at)
		w.apply(prefix, []change{{customer, at, bodies[i]}})
	}
	queue := newStandIn(t, bodies)
	s := start(t, w.standInEnviron(queue))
	s.awaitReady(200, 10*time.Second)
	var most int64
	const messages = 5000
	for deadline := time.Now().Add(time.Minute); queue.deleted.Load() < messages; {
		require.True(t, time.Now().Before(deadline), "%d messages", queue.deleted.Load())
		time.Sleep(20 * time.Millisecond)
		most = max(most, s.rss())
	}
	require.Less(t, float64(most)/(1<<20), 40.0, "MB resident")
	require.Zero(t, s.outcomes()["failed"])
	require.Zero(t, s.terminate())
}

// Messages as large as a queue takes them, ten at a time for each of ten
// receivers, stay below what the Kubernetes manifest allows.
func TestMemoryOfLargestMessages(t *testing.T) {
	const size, messages = 1 << 20, 300
	w := &world{t: t, redis: redistest.Start(t), api: stiggtest.New(t)}
	w.client = w.redis.Client()
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bodies := make([]string, 10)
	for i := range bodies {
		customer := fmt.Sprintf("customer-%d", i)
		body := listBody(customer, 1600, float64(i), at)
		require.Less(t, len(body), size)
		bodies[i] = body + strings.Repeat(" ", size-len(body))
		w.apply(prefix, []change{{customer, at, listBody(customer, 1, 0, at)}})
	}
	queue := newStandIn(t, bodies)
	s := start(t, append(w.standInEnviron(queue), "GOMEMLIMIT=100MiB"))
	s.awaitReady(200, 10*time.Second)
	var most int64
	for deadline := time.Now().Add(time.Minute); queue.deleted.Load() < messages; {
		require.True(t, time.Now().Before(deadline), "%d messages", queue.deleted.Load())
		time.Sleep(20 * time.Millisecond)
		most = max(most, s.rss())
	}
	t.Logf("%.0f MB", float64(most)/(1<<20))
	require.Less(t, float64(most)/(1<<20), 128.0, "MB resident")
	require.Zero(t, s.outcomes()["failed"])
	require.Zero(t, s.terminate())
}
