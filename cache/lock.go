package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// lockTTL is how long a lock lives unless it is extended. All programs that
// share the cache use the same.
const lockTTL = 5 * time.Second

// ErrLocked says that somebody else held a lock for as long as could be waited.
var ErrLocked = errors.New("locked by another writer")

// releaseScript gives a lock back, if it is still ours.
var releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`)

// heldLock is a lock that this process holds.
type heldLock struct {
	client redis.UniversalClient
	key    string
	token  string
}

// tryLock takes a lock if nobody holds it; nil if somebody does.
func (s *Store) tryLock(ctx context.Context, key string) (*heldLock, error) {
	token := newToken()
	ok, err := s.client.SetNX(ctx, key, token, lockTTL).Result()
	if err != nil || !ok {
		return nil, err
	}
	return &heldLock{client: s.client, key: key, token: token}, nil
}

// lock takes a lock, trying again as long as ctx allows.
func (s *Store) lock(ctx context.Context, key string) (*heldLock, error) {
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

func (l *heldLock) release(ctx context.Context) error {
	return releaseScript.Run(ctx, l.client, []string{l.key}, l.token).Err()
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
