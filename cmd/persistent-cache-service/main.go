// Command persistent-cache-service keeps the Redis that Stigg's programs share
// up to date: it consumes the change messages of one environment from an SQS
// queue and writes what changed.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/logging"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/service"
)

// version is the version of this program when its build does not know better.
const version = "0.1.0"

const (
	// stopTimeout is after how long a service that should have stopped is
	// ended all the same.
	stopTimeout = 28 * time.Second
	// gcPercent trades a little processor time for memory: what is alive is
	// little, and what passes through is much.
	gcPercent = 75
	// healthTimeout bounds --health.
	healthTimeout = 3 * time.Second
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run carries out the command line and returns the exit code.
func run(args, environ []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 0:
		return serve(environ, stdout, stderr)
	case len(args) > 1:
	case args[0] == "--version":
		_, _ = fmt.Fprintln(stdout, buildVersion())
		return exitOK
	case args[0] == "--help", args[0] == "-h":
		_, _ = fmt.Fprint(stdout, usage)
		if err := config.WriteHelp(stdout); err != nil {
			return exitFailed
		}
		return exitOK
	case args[0] == "--check":
		return check(environ, stdout, stderr)
	case args[0] == "--health":
		return health(environ, stderr)
	}
	_, _ = fmt.Fprint(stderr, usage)
	return exitUsage
}

const usage = `persistent-cache-service keeps the Redis that Stigg's programs share up to date.

  persistent-cache-service            run until SIGTERM or SIGINT
  persistent-cache-service --check    check the configuration, reach Redis, the queue and the API
  persistent-cache-service --health   ask the service on this machine whether it lives
  persistent-cache-service --version
  persistent-cache-service --help     also lists the environment variables:

`

func serve(environ []string, stdout, stderr io.Writer) int {
	c, err := config.Load(environ)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailed
	}
	log := logging.New(stdout, c.Level(), c.LogMessageKey, c.LogErrorKey)
	redis.SetLogger(logging.Redis{Log: log})
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}

	ctx, stop := untilSignal(log.Info)
	defer stop()
	s, err := service.New(ctx, service.Options{Config: c, Version: buildVersion(), Log: log})
	if err != nil {
		log.Error("cannot start", "err", err)
		return exitFailed
	}
	if err := s.Run(ctx); err != nil {
		log.Error("stopped", "err", err)
		return exitFailed
	}
	return exitOK
}

// untilSignal returns a context that ends with the first SIGTERM or SIGINT. A
// second one, or a stop that takes too long, ends the program.
func untilSignal(info func(msg string, args ...any)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		info("signal received", "signal", (<-signals).String())
		cancel()
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-signals:
		case <-timer.C:
		}
		os.Exit(exitFailed)
	}()
	return ctx, cancel
}

func check(environ []string, stdout, stderr io.Writer) int {
	c, err := config.Load(environ)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailed
	}
	redis.SetLogger(logging.Redis{Log: logging.New(io.Discard, c.Level(), c.LogMessageKey, c.LogErrorKey)})
	if !service.Check(context.Background(), stdout, c, buildVersion()) {
		return exitFailed
	}
	return exitOK
}

// health asks the service on this machine whether it lives. Of the
// configuration it needs the port, and nothing else has to be right.
func health(environ []string, stderr io.Writer) int {
	port, err := config.Port(environ)
	if err == nil {
		err = get("http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) + "/livez")
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}

func get(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}

// buildVersion is the version that the module was built as, when that is known.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return version
}
