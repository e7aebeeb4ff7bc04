package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/sqstest"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/internal/redistest/port"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// binary is the program under test, as it is delivered: one static binary.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "persistent-cache-service")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "persistent-cache-service")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build: %v\n%s", err, out))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			panic(err)
		}
		os.Exit(code)
	}))
}

const prefix = "test"

// world is what the program needs around it.
type world struct {
	t      testing.TB
	redis  *redistest.Server
	client *goredis.Client
	sqs    *sqstest.Server
	queue  string
	api    *stiggtest.Server
}

func newWorld(t testing.TB, redisOptions ...redistest.Option) *world {
	w := &world{t: t, redis: redistest.Start(t, redisOptions...), api: stiggtest.New(t), sqs: sqstest.Start(t)}
	w.client = w.redis.Client()
	w.queue = w.sqs.Queue("changes", nil)
	return w
}

func (w *world) environ(more ...string) []string {
	env := append(w.sqs.Environ(), "PATH="+os.Getenv("PATH"), "QUEUE_URL="+w.queue)
	return append(env, w.settings(more...)...)
}

// settings are the variables that have nothing to do with the queue.
func (w *world) settings(more ...string) []string {
	return append([]string{
		"SERVER_API_KEY=key", "ENVIRONMENT_PREFIX=" + prefix, "REDIS_HOST=" + w.redis.Host(), "REDIS_PORT=" + strconv.Itoa(w.redis.Port()),
		"EDGE_API_URL=" + w.api.URL(), "BATCH_SIZE=10", "VISIBILITY_TIMEOUT_IN_SECS=3", "RECEIVE_WAIT_IN_SECS=1",
	}, more...)
}

// process is the program, running.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	url  string
	log  output
	done chan struct{}
	err  error
}

type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs the program; pinned: before its name, such as taskset.
func start(t testing.TB, environ []string, pinned ...string) *process {
	t.Helper()
	free, err := port.Free()
	require.NoError(t, err)
	command := append(pinned, binary)
	p := &process{t: t, cmd: exec.Command(command[0], command[1:]...), url: fmt.Sprintf("http://127.0.0.1:%d", free), done: make(chan struct{})}
	p.cmd.Env = append(environ, "PORT="+strconv.Itoa(free))
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	// Parent death is judged by the thread that starts the child: keep it.
	started := make(chan error)
	if runtime.GOOS == "linux" {
		dieWithParent(p.cmd)
	}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the service's log:\n%.20000s", p.log.String())
		}
	})
	return p
}

// awaitStarted waits until the program heeds signals; before, one ends it at
// once, as it does any program.
func (p *process) awaitStarted() {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.log.String(), `"msg":"started"`) }, 30*time.Second, time.Millisecond)
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) kill() {
	if p.running() {
		_ = p.cmd.Process.Kill()
	}
	<-p.done
}

// terminate sends SIGTERM and returns the exit code.
func (p *process) terminate() int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatal("the service does not stop within 30 seconds")
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(p.t, p.err)
	return 0
}

// get asks the HTTP server; status 0 when it does not answer.
func (p *process) get(path string) (int, string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	answer, err := client.Get(p.url + path)
	if err != nil {
		return 0, ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(p.t, err)
	return answer.StatusCode, string(body)
}

func (p *process) awaitReady(status int, within time.Duration) {
	p.t.Helper()
	deadline := time.Now().Add(within)
	for {
		got, _ := p.get("/readyz")
		if got == status {
			return
		}
		if time.Now().After(deadline) || !p.running() {
			p.t.Fatalf("/readyz is %d, not %d, after %v\n%s", got, status, within, p.log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// outcomes are the counts of /status, all types together.
func (p *process) outcomes() map[string]int {
	_, body := p.get("/status")
	var status struct {
		Messages map[string]map[string]int
	}
	require.NoError(p.t, json.Unmarshal([]byte(body), &status))
	sum := map[string]int{}
	for _, byOutcome := range status.Messages {
		for outcome, n := range byOutcome {
			sum[outcome] += n
		}
	}
	return sum
}

// rss is the resident memory of the process in bytes.
func (p *process) rss() int64 {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			require.NoError(p.t, err)
			return kb << 10
		}
	}
	p.t.Fatal("no VmRSS")
	return 0
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	require.NoError(p.t, err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	require.NoError(p.t, err)
	const ticksPerSecond = 100
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// command runs the program to its end.
func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{}, environ...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.String(), errs.String()
	}
	require.NoError(t, err)
	return 0, out.String(), errs.String()
}
