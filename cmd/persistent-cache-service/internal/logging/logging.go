// Package logging makes the service's log: JSON, one object a line.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// errorKey is the attribute that this program logs errors under.
const errorKey = "err"

// New makes a logger that writes to w, with the given names for the message
// and the error.
func New(w io.Writer, level slog.Level, messageKey, errorName string) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.MessageKey:
				a.Key = messageKey
			case slog.LevelKey:
				a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
			case errorKey:
				a.Key = errorName
			}
			return a
		},
	}))
}

// Redis passes the Redis client's own log on, as details that are seldom wanted.
type Redis struct{ Log *slog.Logger }

// Printf logs one line of the Redis client's.
func (r Redis) Printf(ctx context.Context, format string, args ...any) {
	if r.Log.Enabled(ctx, slog.LevelDebug) {
		r.Log.DebugContext(ctx, "redis client", "detail", fmt.Sprintf(format, args...))
	}
}
