package httpx

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/stiggio/server-sdk-go/internal/apierr"
)

const (
	backoffBase = 50 * time.Millisecond
	backoffCap  = time.Second
	// backoffDoublings are enough to reach the cap and too few to overflow.
	backoffDoublings = 10
	// maxWait bounds what an API may ask to wait when the caller's context has
	// no deadline.
	maxWait = 30 * time.Second
	// maxRetryAfter bounds what is believed of an API's wish to wait.
	maxRetryAfter = 365 * 24 * time.Hour
)

// wait sleeps before attempt n+1: for what the API asked, plus a random part
// of an exponentially growing time, so that clients that failed together do
// not come back together. It reports false when the sleep does not fit into
// ctx, at once, or when ctx ended during it.
func wait(ctx context.Context, n int, asked time.Duration) bool {
	d := asked + rand.N(min(backoffCap, backoffBase<<min(n, backoffDoublings)))
	if deadline, ok := ctx.Deadline(); ok && d >= time.Until(deadline) || !ok && d > maxWait+backoffCap {
		return false
	}
	if ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// blame adds the error of the caller's context to what an operation failed
// with, if the context has ended and is not named yet.
func blame(ctx context.Context, err *apierr.Error) *apierr.Error {
	ended := ctx.Err()
	switch {
	case ended == nil || errors.Is(err.Err, ended):
	case err.Err == nil:
		err.Err = ended
	default:
		err.Err = fmt.Errorf("%w, after: %w", ended, err.Err)
	}
	return err
}

// retryAfter reads the header of that name: seconds, or a date. A date counts
// from the answer's own Date, so that the clocks need not agree.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil {
		return min(time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second)))*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
