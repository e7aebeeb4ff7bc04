package cache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// Who reads without a lock never sees half of a write, nor the past after the
// present: 10,000 writes of a customer and as many of its usage, under
// continuous reads.
func TestReadersNeverSeeHalfOfAWrite(t *testing.T) {
	const writes = 10_000
	server := redistest.Start(t)
	newStore := func() *cache.Store { return cache.NewStore(cache.Options{Client: server.Client(), Prefix: "lab"}) }
	ctx := context.Background()
	_, err := newStore().WriteState(ctx, numberedKey, numberedState(0, 0), cache.WriteOptions{})
	require.NoError(t, err)

	var done atomic.Bool
	var readers, writers sync.WaitGroup
	reads := make([]int, 3)
	failures := make(chan error, 8)
	for i := range reads {
		s := newStore()
		readers.Go(func() {
			var last numbers
			for !done.Load() {
				n, err := readWhole(ctx, s, i == 0)
				if err == nil && (n.value < last.value || n.usage < last.usage) {
					err = fmt.Errorf("back from %+v to %+v", last, n)
				}
				if err != nil {
					failures <- err
					return
				}
				last = n
				reads[i]++
			}
		})
	}
	writers.Go(func() {
		s := newStore()
		for n := range int64(writes) {
			if r, err := s.WriteState(ctx, numberedKey, numberedState(n, n), cache.WriteOptions{}); err != nil || r.Applied < 2 {
				failures <- fmt.Errorf("write %d: %+v: %w", n, r, err)
				return
			}
		}
	})
	writers.Go(func() {
		s := newStore()
		for u := range int64(writes) {
			if _, err := s.UpdateUsage(ctx, numberedKey, meter, numberedUsage(u), changeTime(u)); err != nil {
				failures <- fmt.Errorf("usage %d: %w", u, err)
				return
			}
		}
	})
	writers.Wait()
	done.Store(true)
	readers.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	t.Logf("reads: %v", reads)
	for _, n := range reads {
		require.Greater(t, n, 500, "reads went on all the time")
	}
	requireNumbers(t, newStore(), numberedKey, writes-1, writes-1)
}

// readWhole reads a numbered customer, alone or with the whole state, and
// fails on a miss and on what does not belong together.
func readWhole(ctx context.Context, s *cache.Store, state bool) (numbers, error) {
	if !state {
		n, ok, err := readNumbers(ctx, s, numberedKey)
		if err == nil && (!ok || !n.whole()) {
			err = fmt.Errorf("torn or missed: %+v", n)
		}
		return n, err
	}
	r, err := s.ReadState(ctx, numberedKey)
	if err != nil {
		return numbers{}, err
	}
	if r.Faults != 0 || len(r.Entitlements) != 1 {
		return numbers{}, fmt.Errorf("state: %v", r.Faults)
	}
	e := r.Entitlements[0]
	n := numbers{
		valueTime: r.Times.Value - epoch, value: int64(*e.Definition.UsageLimit),
		usageTime: e.Usage.UpdatedAt.UnixMilli() - epoch, usage: int64(e.Usage.Current),
	}
	if !n.whole() {
		err = fmt.Errorf("torn: %+v", n)
	}
	return n, err
}
