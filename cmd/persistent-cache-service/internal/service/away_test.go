package service_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// within is five seconds, and what a busy machine adds to them.
const (
	within = 10 * time.Second
	step   = 20 * time.Millisecond
)

func portOf(server *redistest.Server) string { return strconv.Itoa(server.Port()) }

// While Redis is away the backlog grows, and that can be seen; nothing is said
// against the queue, from which nobody receives.
func TestBacklogIsSeenWhileRedisIsAway(t *testing.T) {
	w := newWorld(t)
	w.send(usageMessage("c", "f", 1, time.Now()), usageMessage("c", "f", 2, time.Now()))
	w.redis.Stop()
	r := w.start()
	require.Eventually(t, func() bool { return r.metric("persistent_cache_queue_messages_visible") == 2 }, within, step)
	queue, _ := r.status()["queue"].(map[string]any)
	require.EqualValues(t, 2, queue["messagesVisible"])
	require.EqualValues(t, "UNKNOWN", queue["state"])
}

// A queue that was never tried is not away.
func TestQueueIsNotBlamedForRedis(t *testing.T) {
	w := newWorld(t)
	w.redis.Stop()
	r := w.start()
	r.awaitReady(503, within)
	require.Zero(t, r.metric("persistent_cache_redis_up"))
	require.EqualValues(t, 1, r.metric("persistent_cache_queue_up"))
}

// A queue that cannot be asked has no figure, rather than an old one, and it is
// away once it was tried.
func TestQueueFigureEnds(t *testing.T) {
	w := newWorld(t)
	w.sqs.Stop()
	r := w.start()
	require.Eventually(t, func() bool { return r.metric(`persistent_cache_queue_errors_total{operation="attributes"}`) > 0 }, within, step)
	require.EqualValues(t, -1, r.metric("persistent_cache_queue_messages_visible"))
	queue, _ := r.status()["queue"].(map[string]any)
	require.Nil(t, queue["messagesVisible"])
	require.Eventually(t, func() bool { return r.metric("persistent_cache_queue_up") == 0 }, within, step)
}
