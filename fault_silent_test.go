package stigg_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// silentJob is what the child process of TestSilentRedis is to do.
type silentJob struct {
	RedisPort int
	APIURL    string
	Customers int
	Callers   int
	For       time.Duration
	Result    string // the file for its silentResult
}

// silentResult is what the callers saw. Times are in nanoseconds.
type silentResult struct {
	Checks, Failed    int64
	First             time.Duration // the slowest of the callers' first checks
	P50, P99, Slowest time.Duration // of the checks after the first 300 ms
	Stats             stigg.Stats
	Sources           map[stigg.Source]int64
	SlowestHeld       time.Duration // of those that were answered from memory
}

const silentJobVariable = "STIGG_TEST_SILENT_JOB"

// TestSilentRedis: Redis accepts connections and never answers. The first
// checks cost its timeout and the API's time; from then on no check waits for
// Redis, each customer costs the API a request in OutageTTL, and next to
// nothing is written to standard error, go-redis's own lines included: which is
// why a process of its own does the checks. STIGG_SOAK=30s makes it last.
func TestSilentRedis(t *testing.T) {
	if job := os.Getenv(silentJobVariable); job != "" {
		checkSilently(t, job)
		return
	}
	soak := 3 * time.Second
	if text := os.Getenv("STIGG_SOAK"); text != "" {
		var err error
		soak, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	const customers, callers = 20, 64
	for name, silence := range map[string]func(*redistest.Server, *faultproxy.Proxy){
		"frozen":    func(s *redistest.Server, _ *faultproxy.Proxy) { s.Pause() },
		"blackhole": func(_ *redistest.Server, p *faultproxy.Proxy) { p.Blackhole(faultproxy.Both) },
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			silence(server, proxy)
			api := stiggtest.New(t)
			for i := range customers {
				api.SetEntitlements("customer-"+strconv.Itoa(i), acmeEntitlements()...)
			}
			api.Fault(stiggtest.Latency(5 * time.Millisecond).On(isFetch))
			_, portText, err := net.SplitHostPort(proxy.Addr())
			require.NoError(t, err)
			port, err := strconv.Atoi(portText)
			require.NoError(t, err)
			job := silentJob{
				RedisPort: port, APIURL: api.URL(), Customers: customers, Callers: callers, For: soak,
				Result: filepath.Join(t.TempDir(), "result.json"),
			}
			encoded, err := json.Marshal(job)
			require.NoError(t, err)
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSilentRedis$")
			child.Env = append(os.Environ(), silentJobVariable+"="+string(encoded))
			var output, errorOutput bytes.Buffer
			child.Stdout, child.Stderr = &output, &errorOutput
			require.NoError(t, child.Run(), "%s\n%s", output.String(), errorOutput.String())

			data, err := os.ReadFile(job.Result)
			require.NoError(t, err)
			var r silentResult
			require.NoError(t, json.Unmarshal(data, &r))
			requests, lines := api.Count(isFetch), bytes.Count(errorOutput.Bytes(), []byte("\n"))
			t.Logf("%d callers, %v: %d checks, first %v, then p50 %v, p99 %v, slowest %v (from memory %v); sources %v",
				callers, soak, r.Checks, r.First, r.P50, r.P99, r.Slowest, r.SlowestHeld, r.Sources)
			t.Logf("api: %d requests for %d customers; redis: %d connections, %d checks waited; standard error: %d lines\n%s",
				requests, customers, proxy.Stats().Accepted, r.Stats.RedisErrors, lines, errorOutput.String())

			require.Zero(t, r.Failed)
			require.Greater(t, r.Checks, int64(callers)*3)
			require.Less(t, r.First, 5*time.Second, "nobody waits as long as go-redis would")
			require.Less(t, r.P50, 50*time.Millisecond)
			// Who waited for Redis did so before it counted as away.
			require.LessOrEqual(t, r.Stats.RedisErrors, uint64(callers))
			require.GreaterOrEqual(t, r.Stats.RedisBypassed, uint64(r.Checks)-uint64(callers))
			require.LessOrEqual(t, proxy.Stats().Accepted, 2*callers+int(soak/time.Second)+3, "the first checks, and a probe a second")
			rounds := int(soak/(5*time.Second)) + 1
			require.LessOrEqual(t, requests, customers*(rounds+1))
			require.LessOrEqual(t, lines, 10, errorOutput.String())
		})
	}
}

// checkSilently is the child process of TestSilentRedis.
func checkSilently(t *testing.T, encoded string) {
	var job silentJob
	require.NoError(t, json.Unmarshal([]byte(encoded), &job))
	client, err := stigg.Initialize(stigg.Config{ // with the program's own logger, which writes to standard error
		APIKey: "server-key", APIURL: job.APIURL, EdgeURL: job.APIURL,
		Redis: &stigg.RedisConfig{Host: "127.0.0.1", Port: job.RedisPort, EnvironmentPrefix: prefix},
	})
	require.NoError(t, err)

	const settled = 300 * time.Millisecond
	var checks, failed atomic.Int64
	var mu sync.Mutex
	result := silentResult{Sources: make(map[stigg.Source]int64)}
	var after []time.Duration
	began := time.Now()
	var callers sync.WaitGroup
	for i := range job.Callers {
		callers.Go(func() {
			var took []time.Duration
			var first, fromMemory time.Duration
			sources := make(map[stigg.Source]int64)
			for n := 0; time.Since(began) < job.For; n++ {
				customer := "customer-" + strconv.Itoa((i+n)%job.Customers)
				g := getters[(i+n)%len(getters)]
				asked := time.Now()
				answer, err := g.get(background(), client, ask{customer: customer, id: g.id})
				d := time.Since(asked)
				checks.Add(1)
				if err != nil || !answer.HasAccess {
					failed.Add(1)
				}
				sources[answer.Source]++
				if n == 0 {
					first = d
				}
				if asked.Sub(began) > settled {
					took = append(took, d)
					if answer.Source == stigg.SourceMemory {
						fromMemory = max(fromMemory, d)
					}
				}
				time.Sleep(5 * time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			result.First, result.SlowestHeld = max(result.First, first), max(result.SlowestHeld, fromMemory)
			after = append(after, took...)
			for source, n := range sources {
				result.Sources[source] += n
			}
		})
	}
	callers.Wait()
	slices.Sort(after)
	require.NotEmpty(t, after)
	result.Checks, result.Failed, result.Stats = checks.Load(), failed.Load(), client.Stats()
	result.P50, result.P99, result.Slowest = after[len(after)/2], after[len(after)*99/100], after[len(after)-1]
	require.NoError(t, client.Close())
	encodedResult, err := json.Marshal(result)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(job.Result, encodedResult, 0o600))
}
