package service_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/service"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// check checks what the service would need to run.
func (w *world) check() (ok bool, out string) {
	w.t.Helper()
	var environ []string
	for name, value := range w.vars {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(environ)
	require.NoError(w.t, err)
	var text strings.Builder
	ok = service.Check(w.t.Context(), &text, c, "1.2.3")
	return ok, text.String()
}

// queueAnswers stands in for the queue: what it answers to an operation, with
// status 400 if it is an error.
func (w *world) queueAnswers(answers map[string]string) {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		answer := answers[operation]
		rw.Header().Set("Content-Type", "application/x-amz-json-1.0")
		if strings.Contains(answer, "__type") {
			rw.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(rw, answer)
	}))
	w.t.Cleanup(server.Close)
	w.t.Setenv("AWS_ENDPOINT_URL_SQS", server.URL)
	w.vars["QUEUE_URL"] = server.URL + "/1/q"
}

const (
	accessDenied   = `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"Access to the resource is denied."}`
	invalidReceipt = `{"Successful":[],"Failed":[{"Id":"0","Code":"ReceiptHandleIsInvalid","SenderFault":true}]}`
	oddFailure     = `{"Successful":[],"Failed":[{"Id":"0","Code":"InternalError","SenderFault":false}]}`
)

// Credentials that may do nothing do not pass; those that may do all that is
// needed do; and what cannot be found out is said.
func TestCheckCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		attributes, hide, drop string
		ok                     bool
		says, saysNot          string
	}{
		"nothing":              {accessDenied, accessDenied, accessDenied, false, "queue: FAILED: access denied: sqs:ChangeMessageVisibility\naccess denied: sqs:DeleteMessage", "queue: ok"},
		"only to look":         {`{"Attributes":{}}`, accessDenied, accessDenied, false, "queue: FAILED: access denied", "queue: ok"},
		"all but to delete":    {`{"Attributes":{}}`, invalidReceipt, accessDenied, false, "queue: FAILED: access denied: sqs:DeleteMessage", "ChangeMessageVisibility"},
		"only to consume":      {accessDenied, invalidReceipt, invalidReceipt, true, "queue: ok: it answers, but may not be asked how much it holds", "WARNING"},
		"everything":           {`{"Attributes":{}}`, invalidReceipt, invalidReceipt, true, "queue: ok: about 0 messages", "WARNING"},
		"a queue that is kind": {`{"Attributes":{}}`, `{"Successful":[{"Id":"0"}]}`, `{"Successful":[{"Id":"0"}]}`, true, "queue: ok: about 0 messages", "WARNING"},
		"who knows":            {accessDenied, invalidReceipt, oddFailure, true, "queue: WARNING: it is not known", "FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.queueAnswers(map[string]string{"GetQueueAttributes": c.attributes, "ChangeMessageVisibilityBatch": c.hide, "DeleteMessageBatch": c.drop})
			ok, out := w.check()
			require.Equal(t, c.ok, ok, out)
			require.Contains(t, out, c.says)
			require.NotContains(t, out, c.saysNot)
		})
	}
}

// The real queue is asked for nothing that it has, and tells what may be done.
func TestCheckTakesNothing(t *testing.T) {
	w := newWorld(t)
	w.send(`{"type":"foo"}`)
	ok, out := w.check()
	require.True(t, ok, out)
	require.Contains(t, out, "queue: ok: about 1 messages wait, 0 are in flight")
	require.NotContains(t, out, "WARNING")
	visible, inFlight := w.sqs.Depth(w.queue)
	require.Equal(t, []int{1, 0}, []int{visible, inFlight})
}

// A login of Redis that may not run scripts can write nothing: it does not
// pass, and a service that has it is not ready.
func TestCheckRedisWithoutScripts(t *testing.T) {
	for _, command := range []string{"eval", "evalsha"} {
		t.Run(command, func(t *testing.T) {
			w := newWorld(t, "REDIS_USERNAME=u", "REDIS_PASSWORD=pw")
			w.redis = redistest.Start(t, redistest.User("u", "pw", "+@all", "-"+command, "allkeys"))
			w.vars["REDIS_PORT"] = portOf(w.redis)
			ok, out := w.check()
			require.False(t, ok)
			require.Contains(t, out, "redis: FAILED: NOPERM")
			r := w.start()
			require.Eventually(t, func() bool { return strings.Contains(r.log.String(), "redis is away") }, within, step)
			r.awaitReady(http.StatusServiceUnavailable, within)
		})
	}
}
