package watch

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d, and reports false if ctx ended before.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Backoff is how long to wait after the nth failure in a row, counted from 0:
// a random part, at least half, of a time that doubles up to most.
func Backoff(n int, first, most time.Duration) time.Duration {
	const doublings = 20 // more would overflow
	d := min(most, first<<min(n, doublings))
	return d/2 + rand.N(d/2+1)
}
