package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/internal/redistest/port"
)

const (
	redisHost    = "127.0.0.1"
	redisTimeout = 10 * time.Second // for it to be up
	redisTries   = 5                // a port that was free can be taken meanwhile
)

// redisServer is a redis-server of this program's own, without persistence.
type redisServer struct {
	port    int
	version string

	cmd  *exec.Cmd
	dir  string
	done chan struct{} // closed when the process has ended
}

// startRedis starts a redis-server that ends with ctx or stop.
func startRedis(ctx context.Context) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not on PATH: install it with `apt-get install redis-server` (Debian, Ubuntu) or `brew install redis` (macOS)")
	}
	dir, err := os.MkdirTemp("", "stigg-bench-")
	if err != nil {
		return nil, err
	}
	var errs []error
	for range redisTries {
		s, err := launchRedis(ctx, program, dir)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(append(errs, os.RemoveAll(dir))...)
}

func launchRedis(ctx context.Context, program, dir string) (*redisServer, error) {
	free, err := port.Free()
	if err != nil {
		return nil, err
	}
	s := &redisServer{port: free, dir: dir, done: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, program, "--port", strconv.Itoa(free), "--bind", redisHost,
		"--dir", dir, "--logfile", "redis.log", "--save", "", "--appendonly", "no")
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // it is killed in the end: how it ended says nothing
	}()
	if err := s.waitReady(ctx); err != nil {
		s.kill()
		log, _ := os.ReadFile(filepath.Join(dir, "redis.log"))
		return nil, fmt.Errorf("%w\n%s", err, log)
	}
	return s, nil
}

var infoLine = regexp.MustCompile(`(?m)^(redis_version|process_id):([^\r\n]*)`)

// waitReady waits until this very process answers on its port.
func (s *redisServer) waitReady(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: s.addr(), MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = client.Close() }()
	var dialer net.Dialer
	deadline := time.Now().Add(redisTimeout)
	for {
		select {
		case <-s.done:
			return errors.New("redis-server ended at once")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redis-server is not ready after %v", redisTimeout)
		}
		// go-redis would write to standard error that it cannot connect yet.
		conn, err := dialer.DialContext(ctx, "tcp", s.addr())
		if err != nil {
			continue
		}
		_ = conn.Close()
		info, err := client.Info(ctx, "server").Result()
		if err != nil {
			continue
		}
		found := make(map[string]string)
		for _, m := range infoLine.FindAllStringSubmatch(info, -1) {
			found[m[1]] = m[2]
		}
		if found["process_id"] != strconv.Itoa(s.cmd.Process.Pid) {
			return fmt.Errorf("port %d belongs to another redis-server", s.port)
		}
		s.version = found["redis_version"]
		return nil
	}
}

func (s *redisServer) kill() {
	_ = s.cmd.Process.Kill() // it has ended already
	<-s.done
}

func (s *redisServer) stop() error {
	s.kill()
	return os.RemoveAll(s.dir)
}

func (s *redisServer) addr() string { return net.JoinHostPort(redisHost, strconv.Itoa(s.port)) }
