package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRunnerCountsWhatWasRead(t *testing.T) {
	var reads atomic.Int64
	n := newRunner(func(context.Context, int) error {
		reads.Add(1)
		time.Sleep(time.Millisecond)
		return nil
	}, 0, 4, 64)
	began := time.Now()
	w, err := n.measure(t.Context(), 50*time.Millisecond)
	require.NoError(t, err)
	elapsed := time.Since(began)
	require.GreaterOrEqual(t, w.rate, float64(reads.Load())/elapsed.Seconds())
	require.LessOrEqual(t, w.rate, float64(reads.Load())/0.05)
	require.GreaterOrEqual(t, w.p50, time.Millisecond)
	require.GreaterOrEqual(t, w.p99, w.p50)
	require.Positive(t, w.cpu)
	require.Less(t, w.cpu, time.Millisecond, "sleeping takes no processor time")
}

// A window goes on where the one before ended, else a cycle through many
// customers would begin with those that are still remembered.
func TestRunnerGoesOnWhereItWas(t *testing.T) {
	var last, calls int
	n := newRunner(func(_ context.Context, i int) error {
		require.Equal(t, calls, i)
		last, calls = i, calls+1
		return nil
	}, 3, 1, 64)
	for range 2 {
		_, err := n.measure(t.Context(), time.Nanosecond)
		require.NoError(t, err)
	}
	require.Equal(t, 5, last, "two windows of one batch of three")
}

func TestRunnerStopsAtAnError(t *testing.T) {
	broken := errors.New("broken")
	n := newRunner(func(_ context.Context, i int) error {
		if i > 10 {
			return broken
		}
		return nil
	}, 0, 2, 2)
	_, err := n.measure(t.Context(), time.Minute)
	require.ErrorIs(t, err, broken)
}
