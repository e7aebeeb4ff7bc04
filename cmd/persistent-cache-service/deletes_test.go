package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// While messages can be received and not deleted, what is dealt with takes up
// no more memory than ever: less is received instead.
func TestMemoryWhileNothingCanBeDeleted(t *testing.T) {
	w := &world{t: t, redis: redistest.Start(t), api: stiggtest.New(t)}
	w.client = w.redis.Client()
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bodies := make([]string, 500) // given out again and again
	for i := range bodies {
		bodies[i] = listBody(fmt.Sprintf("customer-%d", i), 50, float64(i), at)
	}
	queue := newStandIn(t, bodies)
	queue.denied = func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws.sqs#AccessDeniedException","message":"no"}`)
	}
	s := start(t, append(w.standInEnviron(queue), "GOMEMLIMIT=100MiB", "CACHE_UPDATE_POLICY=UPSERT"))
	s.awaitReady(200, 10*time.Second)
	var most int64
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && s.running(); {
		time.Sleep(50 * time.Millisecond)
		most = max(most, s.rss())
	}
	t.Logf("%.0f MB, %d messages", float64(most)/(1<<20), queue.next.Load())
	require.Less(t, queue.next.Load(), uint64(1800), "messages received")
	require.Less(t, float64(most)/(1<<20), 128.0, "MB resident")
	require.Zero(t, s.outcomes()["failed"])
	require.Equal(t, 1, strings.Count(s.log.String(), "cannot be deleted"), "said once")
}
