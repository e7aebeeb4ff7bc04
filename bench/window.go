package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// window is what one way did in one round.
type window struct {
	rate     float64       // reads per second
	p50, p99 time.Duration // of one read, or of one batch of reads
	cpu      time.Duration // processor time of this process, per read
}

// runner reads with several goroutines at a time. It keeps its memory from
// window to window, so that measuring does not make garbage.
type runner struct {
	read    read
	batch   int
	next    []int // per goroutine: the number of its next read
	samples [][]time.Duration
	all     []time.Duration
}

// newRunner starts the goroutines at places that are spread over the customers.
func newRunner(r read, batch, inFlight, customers int) *runner {
	n := &runner{read: r, batch: max(1, batch), next: make([]int, inFlight), samples: make([][]time.Duration, inFlight)}
	for w := range n.next {
		n.next[w] = w * customers / inFlight
		n.samples[w] = make([]time.Duration, 0, 1024)
	}
	return n
}

// measure reads for d.
func (n *runner) measure(ctx context.Context, d time.Duration) (window, error) {
	errs := make([]error, len(n.next))
	var wait sync.WaitGroup
	began, used := time.Now(), cpuTime()
	for w := range n.next {
		wait.Go(func() { errs[w] = n.work(ctx, w, began.Add(d)) })
	}
	wait.Wait()
	elapsed := time.Since(began)
	used = cpuTime() - used

	n.all = n.all[:0]
	for w, err := range errs {
		if err != nil {
			return window{}, err
		}
		n.all = append(n.all, n.samples[w]...)
	}
	slices.Sort(n.all)
	reads := len(n.all) * n.batch
	return window{
		rate: float64(reads) / elapsed.Seconds(),
		p50:  quantile(n.all, 0.50), p99: quantile(n.all, 0.99),
		cpu: used / time.Duration(reads),
	}, nil
}

// work is what one goroutine does: at least one batch.
func (n *runner) work(ctx context.Context, w int, end time.Time) error {
	samples, i := n.samples[w][:0], n.next[w]
	last := time.Now()
	for {
		for range n.batch {
			if err := n.read(ctx, i); err != nil {
				return err
			}
			i++
		}
		now := time.Now()
		samples = append(samples, now.Sub(last))
		last = now
		if !now.Before(end) {
			n.samples[w], n.next[w] = samples, i
			return ctx.Err()
		}
	}
}

// quantile returns the value below which a share q of the sorted values lies,
// 0 if there are none.
func quantile[T ~int64 | ~float64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}
