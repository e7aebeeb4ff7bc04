package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

// checkTimeout bounds each step of a check.
const checkTimeout = 15 * time.Second

// Check reaches for everything that the service depends on and writes what it
// found to w, a line each. It reports whether the service could work.
func Check(ctx context.Context, w io.Writer, c config.Config, version string) bool {
	ok := true
	say := func(name string, err error, format string, args ...any) {
		if err != nil {
			ok = false
			_, _ = fmt.Fprintf(w, "%s: FAILED: %v\n", name, err)
			return
		}
		_, _ = fmt.Fprintf(w, "%s: ok: %s\n", name, fmt.Sprintf(format, args...))
	}
	step := func(do func(context.Context)) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		do(ctx)
	}
	say("configuration", nil, "environment prefix %q, policy %s", c.EnvironmentPrefix, c.CacheUpdatePolicy)

	step(func(ctx context.Context) {
		client := redis.NewClient(redisOptions(&c))
		found, err := checkRedis(ctx, client, &c)
		if closeErr := client.Close(); err == nil {
			err = closeErr
		}
		say("redis", err, "%s", found)
	})
	api := newEdge(&c, version)
	defer api.CloseIdle()
	step(func(ctx context.Context) {
		found, warning, err := checkQueue(ctx, &c, api)
		say("queue", err, "%s", found)
		if warning != nil {
			_, _ = fmt.Fprintf(w, "queue: WARNING: %v\n", warning)
		}
	})
	step(func(ctx context.Context) {
		err := api.CheckAPIKey(ctx)
		if err != nil && !errors.Is(err, apierr.ErrUnauthenticated) && !errors.Is(err, apierr.ErrForbidden) {
			// The service starts without it, and keeps trying.
			_, _ = fmt.Fprintf(w, "edge api: WARNING: %v\n", err)
			return
		}
		say("edge api", err, "%s accepts the key", c.EdgeAPIURL)
	})
	return ok
}

func checkRedis(ctx context.Context, client *redis.Client, c *config.Config) (string, error) {
	s := &Service{config: *c, connections: client}
	if err := s.probeRedis(ctx); err != nil {
		return "", explainTLS(err, c.RedisTLS)
	}
	found := fmt.Sprintf("%s, database %d, takes writes", client.Options().Addr, c.RedisDB)
	info, err := client.Info(ctx, "server", "memory").Result()
	if err != nil {
		return found, nil //nolint:nilerr // a login that may not ask is no reason to fail
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "redis_version":
			found += ", version " + value
		case "used_memory_human":
			found += ", uses " + value
		case "maxmemory_policy":
			found += ", eviction policy " + value
		}
	}
	return found, nil
}

// explainTLS says what may be behind an error that looks the same when only one
// side speaks TLS: a Redis that does not waits for more of what it takes for a
// command, and one that does hangs up.
func explainTLS(err error, on bool) error {
	var failure net.Error
	switch {
	case on && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &failure) && failure.Timeout()):
		return fmt.Errorf("%w (REDIS_TLS is on: does Redis speak TLS on that port?)", err)
	case !on && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return fmt.Errorf("%w (REDIS_TLS is off: does Redis expect TLS on that port?)", err)
	}
	return err
}

// checkQueue asks the queue how much it holds, and whether its messages may be
// worked off. The warning is what could not be found out.
func checkQueue(ctx context.Context, c *config.Config, api queue.CredentialsSource) (found string, warning, err error) {
	source := "unknown"
	q, err := queue.NewSQS(ctx, queue.Options{
		Region: c.AWSRegion, QueueURL: c.QueueURL, Edge: api, OnCredentials: func(s string) { source = s },
	})
	if err != nil {
		return "", nil, err
	}
	defer q.Close()
	depth, err := q.Depth(ctx)
	switch {
	case err == nil:
		found = fmt.Sprintf("about %d messages wait, %d are in flight; credentials from %s", depth.Visible, depth.InFlight, source)
	case queue.Denied(err):
		found = fmt.Sprintf("it answers, but may not be asked how much it holds (sqs:GetQueueAttributes); credentials from %s", source)
	default:
		return "", nil, err
	}
	err = q.CheckConsume(ctx)
	if err == nil || queue.Denied(err) {
		return found, nil, err
	}
	return found, fmt.Errorf("it is not known whether messages may be hidden and deleted: %w", err), nil
}
