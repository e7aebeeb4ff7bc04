package apply

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
)

// purgeBatch is about how many keys one step of a purge looks at.
const purgeBatch = 500

// buryScript keeps the later of two times.
var buryScript = redis.NewScript(`
local old = tonumber(redis.call('GET', KEYS[1]) or '')
if not old or old < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
`)

// purgeCustomer deletes what is cached of a customer that is gone. A resource
// is not read without its customer, so that its data need not be looked for.
func (e *Engine) purgeCustomer(ctx context.Context, job Job) Result {
	k := job.Message.Key.Customer()
	err := e.redisOp(ctx, true, func(ctx context.Context) error {
		if err := e.bury(ctx, tombstoneKey(e.config.Prefix, k), job.At); err != nil {
			return err
		}
		return e.config.Store.Purge(ctx, k)
	})
	if err != nil {
		return unfinished(err)
	}
	return done(Purged)
}

// bury keeps when a purge happened, unless a later one is kept already.
func (e *Engine) bury(ctx context.Context, tombstone string, at time.Time) error {
	return buryScript.Run(ctx, e.config.Redis, []string{tombstone},
		strconv.FormatInt(at.UnixMilli(), 10), int(tombstoneTTL/time.Second)).Err()
}

// purger deletes what is cached of the whole environment, one purge at a time.
// All that ask for one before it begins share it.
type purger struct {
	engine *Engine

	mu      sync.Mutex
	asking  []Job
	working bool
}

func newPurger(e *Engine) *purger { return &purger{engine: e} }

func (p *purger) submit(job Job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = append(p.asking, job)
	if !p.working {
		p.working = true
		go p.run()
	}
}

func (p *purger) run() {
	for {
		p.mu.Lock()
		jobs := p.asking
		p.asking = nil
		p.working = len(jobs) > 0
		p.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		result := p.purge(jobs)
		for _, job := range jobs {
			job.Done(result)
		}
	}
}

// purge carries out one purge for all jobs; a panic becomes its result.
func (p *purger) purge(jobs []Job) (result Result) {
	defer func() {
		if value := recover(); value != nil {
			p.engine.panicked(value, jobs[0].Message.Type, jobs[0].ID)
			result = Result{Outcome: Panicked, Fate: Leave, Err: errPanicked}
		}
	}()
	at := jobs[0].At
	for _, job := range jobs[1:] {
		if job.At.After(at) {
			at = job.At
		}
	}
	return p.engine.purgeAll(p.engine.ctx, at)
}

// purgeAll deletes the values, the metadata and their timestamps of every
// customer and resource. Usages stay, as they do in every purge. Lists from
// before at are not written from its beginning on.
func (e *Engine) purgeAll(ctx context.Context, at time.Time) Result {
	began := time.Now()
	if err := e.redisOp(ctx, true, func(ctx context.Context) error {
		return e.bury(ctx, environmentTombstoneKey(e.config.Prefix), at)
	}); err != nil {
		return unfinished(err)
	}
	total := 0
	for range maxSweeps {
		before, err := e.redisRun(ctx)
		if err != nil {
			return unfinished(err)
		}
		deleted, err := e.sweep(ctx)
		if err != nil {
			return unfinished(err)
		}
		total += deleted
		after, err := e.redisRun(ctx)
		if err != nil {
			return unfinished(err)
		}
		if after == before {
			break
		}
	}
	e.config.Log.Info("purged the environment: a package was published to all customers", "keys", total, "seconds", time.Since(began).Seconds())
	return done(Purged)
}

// maxSweeps is how often to go through Redis for one purge. If it was another
// each time, what it calls itself says nothing.
const maxSweeps = 5

// redisRun names the process that Redis is now; empty if it does not tell. One
// that was started again, or that took over, has its keys in another order: in
// it a cursor from before means nothing.
func (e *Engine) redisRun(ctx context.Context) (string, error) {
	var info string
	err := e.redisOp(ctx, false, func(ctx context.Context) (err error) {
		info, err = e.config.Redis.Info(ctx, "server").Result()
		if err != nil && strings.Contains(err.Error(), "NOPERM") {
			return nil
		}
		return err
	})
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok {
			return id, err
		}
	}
	return "", err
}

// sweep goes through Redis once and returns how many keys it deleted.
func (e *Engine) sweep(ctx context.Context) (total int, err error) {
	var cursor uint64
	for {
		if ctx.Err() != nil {
			return total, errStopping
		}
		var keys []string
		next := cursor
		err := e.redisOp(ctx, true, func(ctx context.Context) (err error) {
			keys, next, err = e.config.Redis.Scan(ctx, cursor, escapePattern(e.config.Prefix)+":c_*", purgeBatch).Result()
			if err != nil {
				return err
			}
			doomed := keys[:0]
			for _, key := range keys {
				if !isUsageKey(e.config.Prefix, key) {
					doomed = append(doomed, key)
				}
			}
			keys = doomed
			if len(doomed) == 0 {
				return nil
			}
			return e.config.Redis.Unlink(ctx, doomed...).Err()
		})
		if err != nil {
			return total, err
		}
		total += len(keys)
		e.config.Metrics.Purged.Add(float64(len(keys)))
		if cursor = next; cursor == 0 {
			return total, nil
		}
	}
}

// isUsageKey tells the keys of usages, and their timestamps, from the others.
func isUsageKey(prefix, key string) bool {
	rest := strings.TrimPrefix(key, cache.ValueKey(prefix, cache.Key{}))
	return strings.Contains(rest, ":f_") || strings.Contains(rest, ":credit_")
}

// escapePattern takes the special meaning from the characters of a text in a
// pattern of keys.
func escapePattern(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
