// Package redispipe sends pipelines of Redis commands.
package redispipe

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Send sends what a pipeline has queued, after which every command that failed
// has its error. go-redis leaves all of them without one, and with a zero
// value, where Redis refuses the login of the connection that they need.
func Send(ctx context.Context, pipe redis.Pipeliner) error {
	commands, err := pipe.Exec(ctx)
	if err != nil && !slices.ContainsFunc(commands, func(c redis.Cmder) bool { return c.Err() != nil }) {
		for _, c := range commands {
			c.SetErr(err)
		}
	}
	return err
}
