package consumer

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/metrics"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

// A stop ends in its time even though the queue went away for good after it
// handed out messages.
func TestStopWhileTheQueueDoesNotAnswer(t *testing.T) {
	const messages, stopping = 60, time.Second
	var received, asked atomic.Int32
	stuck := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "ReceiveMessage") {
			if received.Add(1) <= messages {
				_, _ = io.WriteString(w, `{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"{\"type\":\"foo\"}"}]}`)
				return
			}
			_, _ = io.WriteString(w, `{}`)
			return
		}
		asked.Add(1)
		<-stuck
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(stuck) })
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SQS": server.URL, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	q, err := queue.NewSQS(t.Context(), queue.Options{Region: "us-east-1", QueueURL: server.URL + "/1/q"})
	require.NoError(t, err)
	t.Cleanup(q.Close)

	ctx, stop := context.WithCancel(t.Context())
	log, m := slog.New(slog.DiscardHandler), metrics.New("1")
	gate := watch.NewGate(func(context.Context) error { return nil }, nil)
	probing := make(chan struct{})
	go func() {
		defer close(probing)
		gate.Run(ctx)
	}()
	c := New(Config{
		Queue: q, Engine: apply.New(apply.Config{Gate: gate, Metrics: m, Log: log}), Redis: gate, State: watch.NewDependency(nil),
		Consumers: 2, BatchSize: 1, Visibility: time.Minute, Metrics: m, Log: log,
	})
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		c.Run(ctx, stopping)
	}()
	require.Eventually(t, func() bool { return asked.Load() >= batchWorkers && c.InHand() == 0 && received.Load() > messages }, 5*time.Second, time.Millisecond)
	stop()
	began := time.Now()
	<-ran
	<-probing
	require.Less(t, time.Since(began), stopping+callsGrace+3*time.Second)
	require.GreaterOrEqual(t, time.Since(began), stopping, "the queue might have come back")
}
