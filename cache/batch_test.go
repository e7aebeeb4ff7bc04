package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// batchBed is a Redis in which the value of each key names the key.
func batchBed(t *testing.T, timeout time.Duration) (*redistest.Server, *batcher) {
	t.Helper()
	server := redistest.Start(t)
	options := server.Options()
	options.ContextTimeoutEnabled, options.DialTimeout, options.PoolTimeout = true, timeout, timeout
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for i := range knownKeys {
		require.NoError(t, client.Set(t.Context(), batchKey(i), batchValue(i), 0).Err())
	}
	return server, newBatcher(client, timeout)
}

const knownKeys = 200

func batchKey(i int) string   { return fmt.Sprintf("key-%d", i) }
func batchValue(i int) string { return fmt.Sprintf("%0*d", i+1, i) } // of i+1 bytes, or more

// readSome reads some keys, one of which is absent, in one of the two ways, and
// checks what comes back.
func readSome(ctx context.Context, b *batcher, random *rand.Rand) error {
	var keys []string
	var numbers []int
	for range []int{1, 2, 3, 2 * batchKeys}[random.IntN(4)] {
		i := random.IntN(knownKeys)
		keys, numbers = append(keys, batchKey(i)), append(numbers, i)
	}
	keys = append(keys, "absent")
	if random.IntN(2) == 0 {
		values, err := b.get(ctx, keys, nil)
		if err != nil {
			return err
		}
		return isValues(values, numbers)
	}
	size, values, err := b.sizeAndGet(ctx, keys)
	if err != nil {
		return err
	}
	if want := len(batchValue(numbers[0])); size != want {
		return fmt.Errorf("%s has %d bytes, not %d", keys[0], size, want)
	}
	return isValues(values, numbers[1:])
}

func isValues(values []any, numbers []int) error {
	if len(values) != len(numbers)+1 || values[len(numbers)] != nil {
		return fmt.Errorf("%d values came back, the last is %v", len(values), values[len(values)-1])
	}
	for at, i := range numbers {
		if values[at] != batchValue(i) {
			return fmt.Errorf("%s is %q, not %q", batchKey(i), values[at], batchValue(i))
		}
	}
	return nil
}

func isIdle(t *testing.T, b *batcher) {
	t.Helper()
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.readers+b.callers+b.larges+len(b.waiting) == 0
	}, 5*time.Second, time.Millisecond)
}

// Whoever reads together with others, be they few or many, gets the values of
// its own keys. A caller that can give up has its read run in a goroutine of
// its own, since the timeout is long.
func TestEachCallerGetsItsOwnValues(t *testing.T) {
	for name, cancellable := range map[string]bool{"inline": false, "detached": true} {
		t.Run(name, func(t *testing.T) {
			_, b := batchBed(t, 10*time.Second)
			for _, callers := range []int{1, 3, batchFew, 4 * batchFew, 2 * batchMany} {
				var group sync.WaitGroup
				errs := make([]error, callers)
				for caller := range callers {
					group.Go(func() {
						random := rand.New(rand.NewPCG(uint64(caller), 1))
						for range 100 {
							ctx, cancel := context.Background(), func() {}
							if cancellable {
								ctx, cancel = context.WithCancel(ctx)
							}
							errs[caller] = errors.Join(errs[caller], readSome(ctx, b, random))
							cancel()
						}
					})
				}
				group.Wait()
				require.NoError(t, errors.Join(errs...), "%d callers", callers)
				isIdle(t, b)
			}
		})
	}
}

// Callers that cancel at any moment, or whose deadline is too short, fail alone.
func TestOneCallerFailsAlone(t *testing.T) {
	_, b := batchBed(t, 10*time.Second)
	var group sync.WaitGroup
	errs := make([]error, 64)
	for caller := range errs {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 2))
			for range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				given := caller%2 == 0
				if given {
					ctx, cancel = context.WithTimeout(context.Background(), time.Duration(random.IntN(500))*time.Microsecond)
				}
				err := readSome(ctx, b, random)
				cancel()
				late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoAnswer) || errors.Is(err, os.ErrDeadlineExceeded)
				if given && late {
					continue // the connection, which has the same deadline, can be the first to tell
				}
				errs[caller] = errors.Join(errs[caller], err)
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	isIdle(t, b)
}

// A Redis that falls silent under many callers fails each of them in its time,
// and leaves nothing behind that the next ones would wait for.
func TestManyCallersOfASilentRedis(t *testing.T) {
	const timeout = 100 * time.Millisecond
	server, b := batchBed(t, timeout)
	server.Pause()
	var group sync.WaitGroup
	for caller := range 2 * batchMany {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			began := time.Now()
			err := readSome(ctx, b, rand.New(rand.NewPCG(uint64(caller), 3)))
			if err == nil || time.Since(began) > 30*timeout {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		})
	}
	group.Wait()
	server.Resume()
	isIdle(t, b)
	require.Eventually(t, func() bool {
		return readSome(t.Context(), b, rand.New(rand.NewPCG(1, 3))) == nil
	}, 5*time.Second, 10*time.Millisecond)
}
