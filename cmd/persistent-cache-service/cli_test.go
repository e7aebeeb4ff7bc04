package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestVersionAndHelp(t *testing.T) {
	code, out, _ := command(t, nil, "--version")
	require.Zero(t, code)
	require.NotEmpty(t, strings.TrimSpace(out))

	code, out, _ = command(t, nil, "--help")
	require.Zero(t, code)
	for _, name := range []string{"AWS_REGION", "QUEUE_URL", "SERVER_API_KEY", "KEYS_TTL_IN_SECS", "--check", "604800"} {
		require.Contains(t, out, name)
	}

	code, _, errs := command(t, nil, "--unknown")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "--help")
}

func TestConfigurationErrors(t *testing.T) {
	for _, args := range [][]string{nil, {"--check"}} {
		code, out, errs := command(t, []string{"BATCH_SIZE=50", "SERVER_API_KEY=a hush key"}, args...)
		require.Equal(t, 1, code)
		for _, name := range []string{"AWS_REGION: is required", "QUEUE_URL: is required", "BATCH_SIZE", "SERVER_API_KEY"} {
			require.Contains(t, errs, name)
		}
		require.NotContains(t, out+errs, "hush")
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	code, out, errs := command(t, w.environ(), "--check")
	require.Zero(t, code, out+errs)
	for _, line := range []string{"configuration: ok", "redis: ok: " + w.redis.Addr(), "takes writes, version", "queue: ok: about 0 messages", "credentials from aws", "edge api: ok"} {
		require.Contains(t, out, line)
	}

	w.api.Fault(stiggtest.Status(503))
	code, out, _ = command(t, w.environ(), "--check")
	require.Zero(t, code, "the service starts without the api")
	require.Contains(t, out, "edge api: WARNING")
	w.api.ClearFaults()

	w.api.SetAPIKey("another")
	code, out, _ = command(t, w.environ(), "--check")
	require.Equal(t, 1, code)
	require.Contains(t, out, "edge api: FAILED")
	w.api.SetAPIKey("")

	code, out, _ = command(t, append(w.environ(), "QUEUE_URL="+w.queue+"-none"), "--check")
	require.Equal(t, 1, code)
	require.Contains(t, out, "queue: FAILED")

	w.redis.Stop()
	code, out, errs = command(t, w.environ(), "--check")
	require.Equal(t, 1, code)
	require.Contains(t, out, "redis: FAILED")
	require.Contains(t, out, "queue: ok")
	require.Empty(t, errs)
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	s := start(t, w.environ())
	s.awaitReady(200, 10*time.Second)
	port := "PORT=" + s.url[strings.LastIndexByte(s.url, ':')+1:]
	code, _, _ := command(t, []string{port}, "--health")
	require.Zero(t, code)
	require.Zero(t, s.terminate())
	code, _, errs := command(t, []string{port}, "--health")
	require.Equal(t, 1, code)
	require.NotEmpty(t, errs)
}

// SIGTERM and SIGINT end the service in order; a second signal ends it at once.
func TestSignals(t *testing.T) {
	w := newWorld(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := start(t, w.environ())
		s.awaitReady(200, 10*time.Second)
		require.NoError(t, s.cmd.Process.Signal(signal))
		<-s.done
		require.NoError(t, s.err)
		for line := range strings.Lines(s.log.String()) {
			require.True(t, json.Valid([]byte(line)), "not JSON: %s", line)
		}
		require.Contains(t, s.log.String(), `"stopped"`)
		require.NotContains(t, s.log.String(), `"level":"error"`)
	}

	s := start(t, w.environ("RECEIVE_WAIT_IN_SECS=20"))
	s.awaitReady(200, 10*time.Second)
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(200 * time.Millisecond)
	require.True(t, s.running())
	began := time.Now()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	<-s.done
	require.Less(t, time.Since(began), 5*time.Second, "a receive waits for up to 20")
	require.Error(t, s.err)
}

// A login, another database and a prefix that was set by its other name.
func TestRedisLogin(t *testing.T) {
	w := newWorld(t, redistest.User("service", "hush", "~helm:*", "+@all"))
	environ := append(w.environ("REDIS_USER=service", "REDIS_PASSWORD=hush", "REDIS_DB=3", "REDIS_ENVIRONMENT_PREFIX=helm"), "ENVIRONMENT_PREFIX=")
	code, out, errs := command(t, environ, "--check")
	require.Zero(t, code, out+errs)
	require.Contains(t, out, "database 3")
	require.NotContains(t, out, "hush")
	s := start(t, environ)
	s.awaitReady(200, 10*time.Second)
	code, out, _ = command(t, append(environ, "REDIS_PASSWORD=wrong"), "--check")
	require.Equal(t, 1, code)
	require.Contains(t, out, "WRONGPASS")
	require.Zero(t, s.terminate())
	require.NotContains(t, s.log.String(), "hush")
}

// The port is taken: said, and the exit code tells.
func TestPortTaken(t *testing.T) {
	w := newWorld(t)
	first := start(t, w.environ())
	first.awaitReady(200, 10*time.Second)
	port := first.url[strings.LastIndexByte(first.url, ':')+1:]
	code, out, _ := command(t, append(w.environ(), "PORT="+port))
	require.Equal(t, 1, code)
	require.Contains(t, out, "address already in use")
}

// The image holds nothing but the binary and the CA certificates: the binary
// has to run in an empty root with an empty environment.
func TestRunsInAnEmptyRoot(t *testing.T) {
	root := t.TempDir()
	text, err := os.ReadFile(binary)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(root+"/persistent-cache-service", text, 0o755))
	require.NotContains(t, string(text), "/lib64/ld-linux", "the binary is not static")
	if os.Geteuid() != 0 {
		return // only root may change the root; that the binary is static was seen
	}
	run := func(environ []string, args ...string) (string, error) {
		cmd := exec.Command("/persistent-cache-service", args...)
		cmd.Env, cmd.Dir = environ, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run([]string{}, "--help")
	require.NoError(t, err, out)
	out, err = run([]string{})
	require.Error(t, err)
	require.Contains(t, out, "QUEUE_URL: is required")
	w := newWorld(t)
	out, err = run(w.environ(), "--check")
	require.NoError(t, err, out)
}
