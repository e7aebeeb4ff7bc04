package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

const (
	// opTimeout bounds one operation on Redis, without waiting for a lock.
	opTimeout = 5 * time.Second
	// lockTryEvery is about how often a customer's lock is tried.
	lockTryEvery = 100 * time.Millisecond
	// refusals is how often Redis may refuse an operation, rather than fail to
	// carry it out, before it is taken at its word.
	refusals = 3
	// retryFirst and retryMost bound the wait between two tries.
	retryFirst = 50 * time.Millisecond
	retryMost  = 2 * time.Second
)

// errStopping says that the service stops, so that nothing is waited for.
var errStopping = errors.New("stopping")

// errRefused says that Redis will never carry out an operation.
var errRefused = errors.New("refused by redis")

// redisOp carries out an operation on Redis, again and again until it works.
// It ends with errStopping when ctx ends, and with errRefused when trying
// again is of no use. Operations may be carried out twice.
func (e *Engine) redisOp(ctx context.Context, write bool, op func(context.Context) error) error {
	began := time.Now()
	refused := 0
	for n := 0; ; n++ {
		if !e.config.Gate.Up() {
			if e.config.Gate.Wait(ctx) != nil {
				return errStopping
			}
		}
		opCtx, cancel := untilStopped(ctx, opTimeout+time.Duration(e.config.LockRetryCount)*lockTryEvery)
		err := op(opCtx)
		cancel()
		if err == nil {
			if write {
				e.config.Metrics.WriteDuration.Observe(time.Since(began).Seconds())
			}
			return nil
		}
		switch {
		case errors.Is(err, cache.ErrLocked):
			e.config.Metrics.LockFailures.Inc()
		case hopeless(err):
			return errors.Join(errRefused, err)
		default:
			if write {
				e.config.Metrics.WriteErrors.Inc()
			}
			if isRefusal(err) {
				if refused++; refused >= refusals {
					return errors.Join(errRefused, err)
				}
			}
			e.config.Gate.Doubt(err)
		}
		if !watch.Sleep(ctx, watch.Backoff(n, retryFirst, retryMost)) {
			return errStopping
		}
	}
}

// hopeless tells errors that have nothing to do with Redis: the data cannot be
// encoded.
func hopeless(err error) bool {
	var value *json.UnsupportedValueError
	var marshaler *json.MarshalerError
	return errors.As(err, &value) || errors.As(err, &marshaler)
}

// passing are the beginnings of Redis's error replies that say something of
// Redis's state, or of our rights, and nothing of the operation.
var passing = [...]string{
	"LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
	"NOPERM", "The user executing the script can't", // the same, of a command in a script
	"NOAUTH", "WRONGPASS", "BUSY", "UNKILLABLE", "NOSCRIPT", "MOVED", "ASK", "ERR max number of clients",
}

// isRefusal tells whether Redis answered that this operation is wrong.
func isRefusal(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) || errors.Is(err, redis.Nil) {
		return false
	}
	for _, p := range passing {
		// A script passes on the error of a command within its own message.
		if strings.Contains(reply.Error(), p) {
			return false
		}
	}
	return true
}

// unfinished turns an error of redisOp into a result.
func unfinished(err error) Result {
	if errors.Is(err, errStopping) {
		return Result{Outcome: Returned, Fate: Return, Err: err}
	}
	return failed(err)
}

// ServiceKey names a key of the service's own in Redis.
func ServiceKey(prefix, name string) string { return prefix + ":stigg-persistent-cache:" + name }

// tombstoneKey names the key that keeps when the last purge of a customer
// happened, so that a late message from before it is not taken for news.
func tombstoneKey(prefix string, k cache.Key) string {
	return ServiceKey(prefix, "purged:"+k.CustomerID)
}

// environmentTombstoneKey names the key that keeps when the last purge of the
// whole environment happened.
func environmentTombstoneKey(prefix string) string { return ServiceKey(prefix, "purged") }

// tombstoneTTL is as long as a queue keeps messages by default.
const tombstoneTTL = 4 * 24 * time.Hour

// knowledge is what Redis knows of a customer before a write.
type knowledge struct {
	at       int64 // the value's timestamp; cache.NoTimestamp if there is none
	purgedAt int64 // the last purge, its own or the environment's; cache.NoTimestamp: none
}

func (k knowledge) cached() bool { return k.at != cache.NoTimestamp }

// purgedSince reports whether the customer was purged since before, or expired.
func (k knowledge) purgedSince(before knowledge) bool {
	return k.purgedAt != before.purgedAt || before.cached() && !k.cached()
}

// ask reads what Redis knows of k.
func (e *Engine) ask(ctx context.Context, k cache.Key) (knowledge, error) {
	prefix := e.config.Prefix
	keys := []string{cache.TimestampKey(cache.ValueKey(prefix, k)), tombstoneKey(prefix, k), environmentTombstoneKey(prefix)}
	var values []any
	err := e.redisOp(ctx, false, func(ctx context.Context) (err error) {
		values, err = e.config.Redis.MGet(ctx, keys...).Result()
		return err
	})
	switch {
	case err != nil:
		return knowledge{}, err
	case len(values) != len(keys):
		return knowledge{}, fmt.Errorf("%w: %d values for %d keys", errRefused, len(values), len(keys))
	}
	return knowledge{at: millis(values[0]), purgedAt: max(millis(values[1]), millis(values[2]))}, nil
}

func millis(v any) int64 {
	text, ok := v.(string)
	if !ok {
		return cache.NoTimestamp
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 {
		return cache.NoTimestamp
	}
	return ms
}

const (
	// readerPoll is how often a reader's refetch lock is looked at.
	readerPoll = 100 * time.Millisecond
	// readerPatience bounds how long a reader is waited for: twice the life of
	// a lock that is not extended.
	readerPatience = 10 * time.Second
)

// awaitReader waits while a reader fetches the customer, and reports whether
// there was one. A reader that fetched before a change and writes after it
// would leave the older state in Redis if the change were dropped for "not
// cached" in between.
func (e *Engine) awaitReader(ctx context.Context, k cache.Key) (waited bool, err error) {
	deadline := time.Now().Add(readerPatience)
	for {
		var held int64
		if err := e.redisOp(ctx, false, func(ctx context.Context) (err error) {
			held, err = e.config.Redis.Exists(ctx, cache.RefetchLockKey(e.config.Prefix, k)).Result()
			return err
		}); err != nil {
			return false, err
		}
		if held == 0 || time.Now().After(deadline) {
			return waited, nil
		}
		waited = true
		if !watch.Sleep(ctx, readerPoll) {
			return false, errStopping
		}
	}
}
