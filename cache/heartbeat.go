package cache

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// HeartbeatTTL is how long a heartbeat is kept.
const HeartbeatTTL = 3 * time.Minute

// HeartbeatKey returns the name of the key in which the service that keeps the
// cache fresh says when it last was alive.
func HeartbeatKey(prefix string) string { return prefix + ":stigg-persistent-cache:heartbeat" }

// Heartbeat reads when the service that keeps the cache fresh last was alive;
// zero if it does not say.
func (s *Store) Heartbeat(ctx context.Context) (time.Time, error) {
	text, err := s.client.Get(ctx, HeartbeatKey(s.prefix)).Result()
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	ms, ok := parseTimestamp(text)
	if !ok {
		return time.Time{}, nil
	}
	return millisTime(ms), nil
}

// Probe asks Redis for a sign of life in the way in which the checks ask: a
// Redis that answers a PING may still refuse them.
func (s *Store) Probe(ctx context.Context) error {
	_, err := s.Heartbeat(ctx)
	return err
}

// Beat says that the service that keeps the cache fresh is alive.
func (s *Store) Beat(ctx context.Context, now time.Time) error {
	return s.client.Set(ctx, HeartbeatKey(s.prefix), strconv.FormatInt(now.UnixMilli(), 10), HeartbeatTTL).Err()
}
