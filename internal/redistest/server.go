package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/stiggio/server-sdk-go/internal/redistest/port"
)

const (
	host         = "127.0.0.1"
	startTimeout = 20 * time.Second
	stopTimeout  = 5 * time.Second
	pollEvery    = 5 * time.Millisecond
	portTries    = 5
)

// errPortTaken is what launch returns when somebody else got the port first.
var errPortTaken = errors.New("port is taken")

// Server is one redis-server process, or what is left of it after [Server.Stop]
// or [Server.Kill]: its port and its data directory stay its own until the test
// ends.
type Server struct {
	t        testing.TB
	settings settings
	program  string
	dir      string
	port     int
	certs    *certificates

	mu      sync.Mutex
	process *process // nil while the server is down
}

// Start runs a redis-server on a free port and returns once it answers. It is
// killed when the test ends. Without options it has no password, no TLS and
// keeps nothing on disk.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not on PATH: install it with `apt-get install redis-server` (Debian, Ubuntu) or `brew install redis` (macOS)")
	}
	s := &Server{t: t, program: program, dir: t.TempDir()}
	for _, opt := range opts {
		opt(&s.settings)
	}
	if s.settings.tls {
		if s.certs, err = newCertificates(s.dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := s.end((*process).kill); err != nil {
			t.Error(err)
		}
	})
	for range portTries {
		if s.port, err = port.Free(); err != nil {
			break
		}
		if err = s.writeConf(); err != nil {
			break
		}
		if err = s.launch(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Addr returns the server's "host:port".
func (s *Server) Addr() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

// Host returns the address that the server listens on, without the port.
func (s *Server) Host() string { return host }

// Port returns the server's port; it stays the same through restarts.
func (s *Server) Port() int { return s.port }

// TLSConfig returns what a client needs to trust the server, a fresh copy on
// every call; nil when the server does not speak TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.certs == nil {
		return nil
	}
	return s.certs.clientConfig()
}

// Options returns the go-redis options that reach this server: address,
// credentials, TLS, and nothing sent beside the caller's commands but HELLO.
func (s *Server) Options() *redis.Options {
	return &redis.Options{
		Addr:                  s.Addr(),
		Username:              s.settings.username,
		Password:              s.settings.password,
		TLSConfig:             s.TLSConfig(),
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
}

// Client returns a new client of the server, closed when the test ends.
func (s *Server) Client() *redis.Client {
	s.t.Helper()
	c := redis.NewClient(s.Options())
	closeOnCleanup(s.t, c)
	return c
}

// FlushAll deletes everything on the server.
func (s *Server) FlushAll() {
	s.t.Helper()
	s.do("flush", func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() })
}

// Start starts a server that was stopped or killed, on the same port.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.launch(); err != nil {
		s.t.Fatal(err)
	}
}

// Stop shuts the server down in order and waits until it is gone. From then on
// connections are refused. It does nothing if the server is down.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.end(terminate); err != nil {
		s.t.Fatal(err)
	}
}

// Restart stops the server and starts it again on the same port. Without
// [AOF] it comes back empty.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Kill ends the server with SIGKILL, as a crash would, and waits until it is
// gone. It does nothing if the server is down.
func (s *Server) Kill() {
	s.t.Helper()
	if err := s.end((*process).kill); err != nil {
		s.t.Fatal(err)
	}
}

// Pause freezes the server: the kernel goes on accepting connections for it,
// and nobody answers, until [Server.Resume].
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	if err := waitPaused(s.pid()); err != nil {
		s.t.Fatal(err)
	}
}

// Resume lets a paused server go on; it then carries out what has been sent to
// it meanwhile.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

// writeConf writes the server's configuration file for its port.
func (s *Server) writeConf() error {
	lines := []string{"bind " + host, "dir " + quote(s.dir)}
	if s.certs == nil {
		lines = append(lines, fmt.Sprintf("port %d", s.port))
	} else {
		lines = append(lines, s.certs.conf(s.port)...)
	}
	if !s.settings.sentinel {
		lines = append(lines, `save ""`)
	}
	lines = append(lines, s.settings.conf...)
	text := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(s.confFile(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write redis.conf: %w", err)
	}
	return nil
}

func (s *Server) confFile() string { return filepath.Join(s.dir, "redis.conf") }
func (s *Server) logFile() string  { return filepath.Join(s.dir, "redis.log") }

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return fmt.Errorf("redis-server on %s is running already", s.Addr())
	}
	if err := os.WriteFile(s.logFile(), nil, 0o600); err != nil {
		return fmt.Errorf("empty log: %w", err)
	}
	args := []string{s.confFile()}
	if s.settings.sentinel {
		args = append(args, "--sentinel")
	}
	p, err := startProcess(s.program, append(args, s.settings.args...), s.dir, s.logFile())
	if err != nil {
		return err
	}
	if err := s.waitReady(p); err != nil {
		return errors.Join(err, p.kill())
	}
	s.process = p
	return nil
}

// waitReady waits until the server's own log says that it listens, which no
// other server on the same port could fake, and then for an answer.
func (s *Server) waitReady(p *process) error {
	deadline := time.Now().Add(startTimeout)
	for !s.logSays("Ready to accept connections", "Sentinel ID is") {
		if p.ended() {
			log := s.log()
			if strings.Contains(log, "Address already in use") {
				return fmt.Errorf("%w: %s\n%s", errPortTaken, s.Addr(), log)
			}
			return fmt.Errorf("redis-server did not start:\n%s", log)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redis-server not ready after %v:\n%s", startTimeout, s.log())
		}
		time.Sleep(pollEvery)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	c := redis.NewClient(s.Options())
	err := c.Ping(ctx).Err()
	// A user whose rules do not allow PING has been answered all the same.
	if err != nil && !strings.HasPrefix(err.Error(), "NOPERM") {
		err = fmt.Errorf("ping redis-server on %s: %w", s.Addr(), err)
	} else {
		err = nil
	}
	return errors.Join(err, c.Close())
}

func (s *Server) log() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *Server) logSays(any ...string) bool {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return false
	}
	for _, phrase := range any {
		if bytes.Contains(text, []byte(phrase)) {
			return true
		}
	}
	return false
}

// end takes the process out of the server and ends it.
func (s *Server) end(how func(*process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return how(p)
}

// terminate asks the process to shut down, and kills it if it does not.
func terminate(p *process) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.os.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop redis-server: %w", err)
		}
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		return p.kill()
	}
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.t.Fatalf("redis-server on %s is down", s.Addr())
	}
	if err := s.process.os.Signal(sig); err != nil {
		s.t.Fatalf("signal redis-server: %v", err)
	}
}

func (s *Server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.os.Pid
}

// do runs one command on a connection of its own.
func (s *Server) do(what string, command func(context.Context, *redis.Client) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := redis.NewClient(s.Options())
	if err := errors.Join(command(ctx, c), c.Close()); err != nil {
		s.t.Fatalf("%s redis-server on %s: %v", what, s.Addr(), err)
	}
}
