package cache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// Whatever the order in which changes arrive, how often, and from how many
// writers at once: the state of the newest of each key is what is left.
func TestNewestOfEachKeyIsLeft(t *testing.T) {
	t.Parallel()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		checkInterleavings(t, client)
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		checkInterleavings(t, redistest.Start(t).Client())
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		checkInterleavings(t, redistest.StartCluster(t, 3).Client())
	})
}

// change is one change as it reaches a writer: of a customer with the usage
// that it had at the time, or of a usage alone.
type change struct {
	usageOnly bool
	n, u      int64
}

func (c change) write(ctx context.Context, s *cache.Store, k cache.Key) error {
	if c.usageOnly {
		_, err := s.UpdateUsage(ctx, k, meter, numberedUsage(c.u), changeTime(c.u))
		return err
	}
	_, err := s.WriteState(ctx, k, numberedState(c.n, c.u), cache.WriteOptions{})
	return err
}

func checkInterleavings(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	checks := 0
	rapid.Check(t, func(t *rapid.T) {
		checks++
		k := cache.Key{CustomerID: fmt.Sprint("customer", checks)}
		number := rapid.Int64Range(1, 20)
		changes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) change {
			return change{usageOnly: rapid.Bool().Draw(t, "usage only"), n: number.Draw(t, "n"), u: number.Draw(t, "u")}
		}), 1, 8).Draw(t, "changes")
		first := change{}
		newest := first
		for _, c := range changes {
			newest.u = max(newest.u, c.u)
			if !c.usageOnly {
				newest.n = max(newest.n, c.n)
			}
		}
		// Delivered at least once each, some of them twice, in any order.
		again := rapid.SliceOfN(rapid.SampledFrom(changes), 0, 4).Draw(t, "delivered again")
		arrivals := rapid.Permutation(append(append([]change(nil), changes...), again...)).Draw(t, "arrivals")
		writers := rapid.IntRange(1, 4).Draw(t, "writers")

		store := func() *cache.Store { return cache.NewStore(cache.Options{Client: client, Prefix: "lab"}) }
		require.NoError(t, first.write(context.Background(), store(), k))
		var wg sync.WaitGroup
		errs := make([]error, len(arrivals))
		for w := range writers {
			s := store()
			wg.Go(func() {
				for i := w; i < len(arrivals); i += writers {
					errs[i] = arrivals[i].write(context.Background(), s, k)
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		requireNumbers(t, store(), k, newest.n, newest.u)
	})
}
