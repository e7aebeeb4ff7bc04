package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/internal/deadline"
)

// LockTTL is how long a lock lives unless it is extended. All programs that
// share the cache use the same.
const LockTTL = 5 * time.Second

const lockMillis = int64(LockTTL / time.Millisecond)

// ErrLocked says that somebody else held a lock for as long as could be waited.
var ErrLocked = errors.New("locked by another writer")

var (
	// releaseScript gives a lock back, if it is still ours.
	releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`)
	// extendScript makes a lock live longer, if it is still ours.
	extendScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
`)
)

// Lock is a lock that this process holds until it is released or lives no
// longer.
type Lock struct {
	store *Store
	key   string
	token string
}

// TryRefetchLock takes the lock for refetching k if nobody holds it; nil if
// somebody does. An error means that Redis did not answer: what it was asked
// for it may have done all the same, so that the lock is returned with the
// error, to be released when that is convenient.
func (s *Store) TryRefetchLock(ctx context.Context, k Key) (*Lock, error) {
	return s.tryLock(ctx, RefetchLockKey(s.prefix, k))
}

// RefetchLocked reports whether anybody holds the lock for refetching k.
func (s *Store) RefetchLocked(ctx context.Context, k Key) (bool, error) {
	n, err := bounded(ctx, s, func(ctx context.Context) (int64, error) {
		return s.client.Exists(ctx, RefetchLockKey(s.prefix, k)).Result()
	})
	return n > 0, err
}

func (s *Store) tryLock(ctx context.Context, key string) (*Lock, error) {
	lock := &Lock{store: s, key: key, token: newToken()}
	_, err := bounded(ctx, s, func(ctx context.Context) (string, error) {
		return s.client.Do(ctx, "SET", key, lock.token, "PX", lockMillis, "NX").Text()
	})
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return lock, err
}

// lock takes a lock, trying again as long as ctx allows.
func (s *Store) lock(ctx context.Context, key string) (*Lock, error) {
	for tries := 0; ; tries++ {
		lock, err := s.tryLock(ctx, key)
		switch {
		case err != nil:
			lock.releaseLate(ctx)
			if tries > 0 && deadline.Err(ctx) != nil {
				return nil, ErrLocked
			}
			return nil, err
		case lock != nil:
			return lock, nil
		}
		wait := time.NewTimer(50*time.Millisecond + mathrand.N(100*time.Millisecond))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, ErrLocked
		case <-wait.C:
		}
	}
}

// Extend makes the lock live for LockTTL from now. It reports false if the
// lock is not ours any more.
func (l *Lock) Extend(ctx context.Context) (bool, error) {
	n, err := l.run(ctx, extendScript, l.token, lockMillis)
	return n == 1, err
}

// Release gives the lock back. A lock that is not ours any more stays as it is.
func (l *Lock) Release(ctx context.Context) error {
	_, err := l.run(ctx, releaseScript, l.token)
	return err
}

// releaseLate gives a lock back whose taking was not answered, if it was taken.
func (l *Lock) releaseLate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), LockTTL)
	defer cancel()
	_ = l.Release(ctx) // it ends by itself
}

func (l *Lock) run(ctx context.Context, script *redis.Script, args ...any) (int, error) {
	return bounded(ctx, l.store, func(ctx context.Context) (int, error) {
		return script.Run(ctx, l.store.client, []string{l.key}, args...).Int()
	})
}

// bounded runs a command for no longer than the store's timeout, whatever the
// client makes of deadlines.
func bounded[T any](ctx context.Context, s *Store, command func(context.Context) (T, error)) (T, error) {
	var none T
	ctx, err := s.Bound(ctx)
	if err != nil {
		return none, err
	}
	if !s.detach {
		return command(ctx)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := command(ctx)
		done <- result{value, err}
	}()
	var timeout <-chan time.Time
	if deadline, ok := ctx.Deadline(); ok {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-timeout:
		return none, ErrNoAnswer
	}
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
