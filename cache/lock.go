package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// LockTTL is how long a lock lives unless it is extended. All programs that
// share the cache use the same.
const LockTTL = 5 * time.Second

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
	client redis.UniversalClient
	key    string
	token  string
}

// TryRefetchLock takes the lock for refetching k if nobody holds it; nil if
// somebody does.
func (s *Store) TryRefetchLock(ctx context.Context, k Key) (*Lock, error) {
	return s.tryLock(ctx, RefetchLockKey(s.prefix, k))
}

// RefetchLocked reports whether anybody holds the lock for refetching k.
func (s *Store) RefetchLocked(ctx context.Context, k Key) (bool, error) {
	n, err := s.client.Exists(ctx, RefetchLockKey(s.prefix, k)).Result()
	return n > 0, err
}

func (s *Store) tryLock(ctx context.Context, key string) (*Lock, error) {
	token := newToken()
	ok, err := s.client.SetNX(ctx, key, token, LockTTL).Result()
	if err != nil || !ok {
		return nil, err
	}
	return &Lock{client: s.client, key: key, token: token}, nil
}

// lock takes a lock, trying again as long as ctx allows.
func (s *Store) lock(ctx context.Context, key string) (*Lock, error) {
	for {
		held, err := s.tryLock(ctx, key)
		if held != nil || err != nil {
			return held, err
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
	n, err := extendScript.Run(ctx, l.client, []string{l.key}, l.token, strconv.FormatInt(LockTTL.Milliseconds(), 10)).Int()
	return n == 1, err
}

// Release gives the lock back. A lock that is not ours any more stays as it is.
func (l *Lock) Release(ctx context.Context) error {
	return releaseScript.Run(ctx, l.client, []string{l.key}, l.token).Err()
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
