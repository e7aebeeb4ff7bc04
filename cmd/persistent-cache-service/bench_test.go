package main

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// BenchmarkThroughput measures the service on one core, with the queue and
// Redis on the other: messages a second, processor time per message, memory.
// Run it with: go test -run '^$' -bench Throughput .
func BenchmarkThroughput(b *testing.B) {
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	const customers = 500
	for _, load := range []struct {
		name string
		body func(i int) string
	}{
		{"usage", func(i int) string { return usageBody(fmt.Sprintf("customer-%d", i), "feature-0", float64(i), at) }},
		{"list of 50", func(i int) string { return listBody(fmt.Sprintf("customer-%d", i), 50, float64(i), at) }},
	} {
		b.Run(load.name, func(b *testing.B) {
			w := &world{t: b, redis: redistest.Start(b), api: stiggtest.New(b)}
			w.client = w.redis.Client()
			bodies := make([]string, customers)
			for i := range bodies {
				bodies[i] = load.body(i)
				customer := fmt.Sprintf("customer-%d", i)
				w.apply(prefix, []change{{customer, at, listBody(customer, 50, 0, at)}})
			}
			queue := newStandIn(b, bodies)
			environ := w.settings("AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_SQS="+queue.url, "QUEUE_URL="+queue.url+"/1/q",
				"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "GOMAXPROCS=1")
			var pin []string
			if path, err := exec.LookPath("taskset"); err == nil {
				pin = []string{path, "-c", "0"}
			}
			s := start(b, environ, pin...)
			s.awaitReady(200, 20*time.Second)
			time.Sleep(2 * time.Second) // warm
			before, cpu, began := queue.deleted.Load(), s.cpu(), time.Now()
			var most int64
			b.ResetTimer()
			for range 20 * b.N {
				time.Sleep(250 * time.Millisecond)
				most = max(most, s.rss())
			}
			b.StopTimer()
			n := float64(queue.deleted.Load() - before)
			require.Positive(b, n)
			b.ReportMetric(n/time.Since(began).Seconds(), "messages/s")
			b.ReportMetric(float64((s.cpu()-cpu).Microseconds())/n, "cpu-µs/message")
			b.ReportMetric(float64(most)/(1<<20), "MB-resident")
			b.ReportMetric(float64(len(bodies[0]))/1024, "kB/message")
			b.ReportMetric(0, "ns/op")
			require.Zero(b, s.outcomes()["failed"])
			s.kill()
		})
	}
}
