package consumer

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
)

const (
	// linger is how long a batch waits to be filled.
	linger = 20 * time.Millisecond
	// batchWorkers is how many batches may be under way.
	batchWorkers = 4
	// batchBacklog is more than can be in hand, so that adding never waits.
	batchBacklog = 4096
)

// batcher gathers items to as many as one call to the queue can take.
type batcher[T any] struct {
	wg   sync.WaitGroup
	left atomic.Int32 // items that were added and are not done

	mu     sync.RWMutex
	closed bool
	items  chan T
}

// newBatcher makes a batcher that hands batches to do.
func newBatcher[T any](do func([]T)) *batcher[T] {
	b := &batcher[T]{items: make(chan T, batchBacklog)}
	for range batchWorkers {
		b.wg.Go(func() { b.work(do) })
	}
	return b
}

// add hands over an item. After close it is dropped.
func (b *batcher[T]) add(item T) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if !b.closed {
		b.left.Add(1)
		b.items <- item
	}
}

// pending is how many items were added and are not done.
func (b *batcher[T]) pending() int { return int(b.left.Load()) }

// close waits until everything that was added is done.
func (b *batcher[T]) close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.items)
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *batcher[T]) work(do func([]T)) {
	for first := range b.items {
		batch := append(make([]T, 0, queue.MaxBatch), first)
		timer := time.NewTimer(linger)
	fill:
		for len(batch) < queue.MaxBatch {
			select {
			case item, ok := <-b.items:
				if !ok {
					break fill
				}
				batch = append(batch, item)
			case <-timer.C:
				break fill
			}
		}
		timer.Stop()
		do(batch)
		b.left.Add(int32(-len(batch)))
	}
}
