package service

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

const (
	// heartbeatEvery is the time between two heartbeats.
	heartbeatEvery = 30 * time.Second
	// probeTTL is how long the key that probes write is found.
	probeTTL = time.Minute
)

// probeScript writes a key, which is then found for so many milliseconds. It
// asks for the time as well, which logins may be kept from: the rate limit is
// kept by it.
var probeScript = redis.NewScript(`
redis.call('TIME')
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
`)

// probeRedis writes a key, in the two ways in which everything is written: a
// Redis that answers but takes no writes, because it is full or a replica, is
// of no use here, nor is a login that may run no scripts. It waits for nobody
// else's commands.
func (s *Service) probeRedis(ctx context.Context) error {
	keys := []string{apply.ServiceKey(s.config.EnvironmentPrefix, "probe")}
	ttl := probeTTL.Milliseconds()
	if err := probeScript.Eval(ctx, s.connections, keys, "1", ttl).Err(); err != nil {
		return err
	}
	return probeScript.EvalSha(ctx, s.connections, keys, "1", ttl).Err()
}

// beat writes heartbeats for readers, while the service does what they rely
// on: it reaches Redis and its queue.
func (s *Service) beat(ctx context.Context) {
	var last time.Time
	for watch.Sleep(ctx, time.Second/4) {
		if !s.ready() || time.Since(last) < heartbeatEvery {
			continue
		}
		now := time.Now()
		if err := s.store.Beat(ctx, now); err != nil {
			s.gate.Doubt(err)
			continue
		}
		last = now
		s.heartbeat.Store(now.UnixMilli())
		s.metrics.Heartbeats.Inc()
	}
}

// ready reports whether the service works: it receives, and can write.
func (s *Service) ready() bool { return s.gate.Up() && s.consumer.Running() > 0 }
