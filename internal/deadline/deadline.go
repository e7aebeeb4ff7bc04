// Package deadline tells whether a context has ended.
package deadline

import (
	"context"
	"time"
)

// Err is ctx.Err(), but does not wait for the timer of ctx: the connection to
// Redis, which has the same deadline, can be the first to tell.
func Err(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
