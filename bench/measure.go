package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"
)

// result is one group, measured with customers of one size and so many reads
// in flight. The floor's figures come first.
type result struct {
	group    group
	size     int
	value    int // bytes of the customer value
	inFlight int
	figures  []figures
}

// figures are the medians over all rounds of one way.
type figures struct {
	way string
	window
	ratio     float64 // of the rate to the floor's, in the same round
	low, high float64 // the quartiles of that ratio
	// Per read, counted with one goroutine.
	allocs, bytes float64
}

// sdk returns the figures of the SDK itself; nil where it is not measured.
func (r *result) sdk() *figures {
	for i := range r.figures {
		if r.figures[i].way == sdkName {
			return &r.figures[i]
		}
	}
	return nil
}

// measureAll measures what the table lists, and says how far it is.
func measureAll(ctx context.Context, b *bed, o options, progress io.Writer) ([]result, error) {
	var results []result
	for _, g := range table() { //nolint:contextcheck // the clients that its ways make live until Close
		if !o.only.MatchString(g.name) {
			continue
		}
		sizes := o.sizes
		if g.inMemory {
			sizes = sizes[:1]
		}
		for _, size := range sizes {
			part, err := measureGroup(ctx, b, o, g, b.customers[size], size)
			if err != nil {
				return nil, fmt.Errorf("%s, %d entitlements: %w", g.name, size, err)
			}
			for _, r := range part {
				for _, f := range r.figures {
					_, err := fmt.Fprintf(progress, "%s, %d entitlements, %d in flight: %s %.0f/s, %.2f of the floor\n",
						g.name, size, r.inFlight, f.way, f.rate, f.ratio)
					if err != nil {
						return nil, err
					}
				}
			}
			results = append(results, part...)
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no group is named like %q", o.only)
	}
	return results, nil
}

// measureGroup measures one group at all numbers in flight.
func measureGroup(ctx context.Context, b *bed, o options, g group, c *customers, size int) ([]result, error) {
	ways := append([]way{g.floor}, g.ways...)
	reads := make([]read, len(ways))
	cost := make([]figures, len(ways))
	for i, w := range ways {
		var err error
		if reads[i], err = w.open(b, c); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		cost[i] = figures{way: w.name}
		if cost[i].allocs, cost[i].bytes, err = countAllocations(ctx, reads[i], o.counted); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	var results []result
	for _, inFlight := range o.inFlight {
		r := result{group: g, size: size, value: len(c.value), inFlight: inFlight, figures: slices.Clone(cost)}
		runners := make([]*runner, len(ways))
		for i := range ways {
			runners[i] = newRunner(reads[i], g.batch, inFlight, len(c.many))
		}
		labels := pprof.Labels("size", strconv.Itoa(size), "in flight", strconv.Itoa(inFlight))
		rounds, err := measureRounds(pprof.WithLabels(ctx, labels), o, ways, runners)
		if err != nil {
			return nil, err
		}
		for i := range ways {
			r.figures[i].summarize(rounds[i], rounds[0])
		}
		results = append(results, r)
	}
	return results, nil
}

// measureRounds lets the ways take turns. Each round begins with another of
// them, so that none is always the one that finds the caches warm. The first
// round only warms up.
func measureRounds(ctx context.Context, o options, ways []way, runners []*runner) ([][]window, error) {
	rounds := make([][]window, len(ways))
	for round := range o.rounds + 1 {
		for turn := range ways {
			i := (round + turn) % len(ways)
			runtime.GC() // nobody pays for another's garbage
			var w window
			var err error
			pprof.Do(ctx, pprof.Labels("way", ways[i].name), func(ctx context.Context) {
				w, err = runners[i].measure(ctx, o.window)
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ways[i].name, err)
			}
			if round > 0 {
				rounds[i] = append(rounds[i], w)
			}
		}
	}
	return rounds, nil
}

// summarize fills in the medians over the rounds.
func (f *figures) summarize(own, floor []window) {
	median := func(of func(window) float64) float64 {
		values := make([]float64, len(own))
		for i, w := range own {
			values[i] = of(w)
		}
		slices.Sort(values)
		return quantile(values, 0.5)
	}
	f.rate = median(func(w window) float64 { return w.rate })
	f.p50 = time.Duration(median(func(w window) float64 { return float64(w.p50) }))
	f.p99 = time.Duration(median(func(w window) float64 { return float64(w.p99) }))
	f.cpu = time.Duration(median(func(w window) float64 { return float64(w.cpu) }))

	ratios := make([]float64, len(own))
	for i := range own {
		ratios[i] = own[i].rate / floor[i].rate
	}
	slices.Sort(ratios)
	f.ratio, f.low, f.high = quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75)
}

// countAllocations returns the allocations and bytes of one read. Nothing else
// runs meanwhile, and the garbage collector, which empties pools, is off.
func countAllocations(ctx context.Context, r read, n int) (allocs, bytes float64, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	for i := range 2 * n {
		if i == n {
			runtime.ReadMemStats(&before)
		}
		if err := r(ctx, i); err != nil {
			return 0, 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), float64(after.TotalAlloc-before.TotalAlloc) / float64(n), nil
}
