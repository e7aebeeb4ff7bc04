package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

// budget is the share of the Edge API's rate limit that the service may use: a
// token bucket that lives in Redis, because all instances share the limit. It
// holds the requests of one second.
type budget struct {
	engine   *Engine
	interval time.Duration // between two requests
	burst    int
}

func newBudget(e *Engine) *budget {
	perMinute := max(1, e.config.RefetchesPerMinute)
	return &budget{engine: e, interval: time.Minute / time.Duration(perMinute), burst: max(1, perMinute/60)}
}

// takeScript takes a token, or tells in how many microseconds there will be
// one. The key holds the time at which the bucket would be full again.
var takeScript = redis.NewScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
if full < now then full = now end
local wait = full - now - (burst - 1) * interval
if wait > 0 then return wait end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
return 0
`)

// pauseScript empties the bucket, for all instances, until a time from now.
var pauseScript = redis.NewScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local full = now + tonumber(ARGV[1]) + tonumber(ARGV[2]) * tonumber(ARGV[3])
local old = tonumber(redis.call('GET', KEYS[1]) or '') or now
if old < full then
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
end
return 1
`)

func (b *budget) key() string { return ServiceKey(b.engine.config.Prefix, "refetch-budget") }

// take waits for a token.
func (b *budget) take(ctx context.Context) error {
	for {
		var micros int64
		err := b.engine.redisOp(ctx, false, func(ctx context.Context) (err error) {
			micros, err = takeScript.Run(ctx, b.engine.config.Redis, []string{b.key()}, b.interval.Microseconds(), b.burst).Int64()
			return err
		})
		if err != nil {
			return err
		}
		if micros <= 0 {
			return nil
		}
		// All who wait are told the same: the random part keeps them apart.
		wait := time.Duration(micros) * time.Microsecond
		if !watch.Sleep(ctx, wait+watch.Backoff(0, b.interval*4+time.Millisecond, time.Second)) {
			return errStopping
		}
	}
}

// pause makes everyone wait, because the API asked for it.
func (b *budget) pause(ctx context.Context, d time.Duration) {
	const most = 5 * time.Minute
	err := pauseScript.Run(ctx, b.engine.config.Redis, []string{b.key()}, min(d, most).Microseconds(), b.burst, b.interval.Microseconds()).Err()
	if err != nil {
		b.engine.config.Gate.Doubt(fmt.Errorf("pause refetches: %w", err))
	}
}
