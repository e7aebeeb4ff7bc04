package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

// The login that docs/operations.md asks for is enough for everything that the
// service does: a list, a usage, a refetch, both purges, and the heartbeat.
func TestLoginWithTheDocumentedRights(t *testing.T) {
	rights := documentedRights(t)
	w := newWorld(t)
	w.login(rights)
	w.api.SetEntitlements("fetched", stiggtest.Boolean("x"))
	s := start(t, w.environ("REDIS_USERNAME=service", "REDIS_PASSWORD=hush", "REDIS_DB=1", "CACHE_UPDATE_POLICY=UPSERT"))
	s.awaitReady(200, 10*time.Second)
	w.sqs.Send(w.queue, listBody("written", 5, 1, time.Now()))
	w.sqs.Send(w.queue, `{"type":"customer.updated","customer":{"id":"fetched"}}`)
	w.sqs.Send(w.queue, `{"type":"customer.archived","customer":{"id":"gone"}}`)
	w.sqs.WaitEmpty(w.queue, 10*time.Second)
	w.sqs.Send(w.queue, usageBody("written", "feature-0", 5, time.Now()))
	w.sqs.WaitEmpty(w.queue, 10*time.Second)
	w.sqs.Send(w.queue, `{"packagePublished":{"environmentId":"e","migrationType":"ALL_CUSTOMERS"}}`)
	w.sqs.WaitEmpty(w.queue, 10*time.Second)
	require.Equal(t, map[string]int{"applied": 2, "refetched": 1, "purged": 2}, s.outcomes())
	_, metrics := s.get("/metrics")
	require.Contains(t, metrics, "\npersistent_cache_memory_usage_bytes ", "INFO")
	require.Zero(t, s.terminate())
}

// A login that lacks a right that only refetches need is refused as a whole,
// and says so; no message is given up for it.
func TestLoginWithoutTheTime(t *testing.T) {
	w := newWorld(t)
	w.login(strings.Replace(documentedRights(t), " +time", "", 1))
	environ := w.environ("REDIS_USERNAME=service", "REDIS_PASSWORD=hush", "CACHE_UPDATE_POLICY=UPSERT")
	code, out, _ := command(t, environ, "--check")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "redis: FAILED")
	s := start(t, environ)
	w.sqs.Send(w.queue, `{"type":"customer.updated","customer":{"id":"c"}}`)
	s.awaitReady(503, 10*time.Second)
	time.Sleep(time.Second)
	require.Empty(t, s.outcomes())
	w.login("+time")
	s.awaitReady(200, 10*time.Second)
	w.sqs.WaitEmpty(w.queue, 10*time.Second)
	require.Zero(t, s.outcomes()["failed"])
}

// documentedRights are those that docs/operations.md asks for.
func documentedRights(t *testing.T) string {
	operations, err := os.ReadFile(operationsPage)
	require.NoError(t, err)
	_, rights, ok := strings.Cut(string(operations), "(`~<prefix>*")
	require.True(t, ok)
	rights, more, _ := strings.Cut(rights, "`")
	_, more, _ = strings.Cut(more, "`REDIS_DB` also `")
	more, _, _ = strings.Cut(more, "`")
	return "~" + prefix + "* " + strings.Join(strings.Fields(rights+" "+more), " ")
}

// login gives a login of the name "service" rights.
func (w *world) login(rights string) {
	command := []any{"ACL", "SETUSER", "service", "on", ">hush"}
	for _, right := range strings.Fields(rights) {
		command = append(command, right)
	}
	require.NoError(w.t, w.client.Do(w.t.Context(), command...).Err())
}
