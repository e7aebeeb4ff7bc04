package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// pinOthers keeps Redis and the queue off the service's core.
func (w *world) pinOthers(taskset string) {
	w.t.Helper()
	for _, pid := range []int{os.Getpid(), w.redisPid()} {
		out, err := exec.Command(taskset, "-a", "-p", "-c", "1-"+strconv.Itoa(runtime.NumCPU()-1), strconv.Itoa(pid)).CombinedOutput()
		require.NoError(w.t, err, "%s", out)
	}
}

func (w *world) redisPid() int {
	w.t.Helper()
	info, err := w.client.InfoMap(w.t.Context(), "server").Result()
	require.NoError(w.t, err)
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	require.NoError(w.t, err)
	return pid
}

// redisCPU is the processor time that Redis has used, in seconds.
func (w *world) redisCPU() float64 {
	w.t.Helper()
	info, err := w.client.InfoMap(w.t.Context(), "cpu").Result()
	require.NoError(w.t, err)
	used := 0.0
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info["CPU"][name], 64)
		require.NoError(w.t, err)
		used += seconds
	}
	return used
}

// BenchmarkThroughput measures the service on one core, with the queue and
// Redis on the other: messages a second, processor time per message,
// of Redis too, and memory.
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
			environ := append(w.standInEnviron(queue), "GOMAXPROCS=1")
			var pin []string
			if path, err := exec.LookPath("taskset"); err == nil {
				pin = []string{path, "-c", "0"}
				w.pinOthers(path)
			}
			s := start(b, environ, pin...)
			s.awaitReady(200, 20*time.Second)
			time.Sleep(2 * time.Second) // warm
			before, cpu, redisCPU, began := queue.deleted.Load(), s.cpu(), w.redisCPU(), time.Now()
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
			b.ReportMetric((w.redisCPU()-redisCPU)*1e6/n, "redis-cpu-µs/message")
			b.ReportMetric(float64(most)/(1<<20), "MB-resident")
			b.ReportMetric(float64(len(bodies[0]))/1024, "kB/message")
			b.ReportMetric(0, "ns/op")
			require.Zero(b, s.outcomes()["failed"])
			s.kill()
		})
	}
}
