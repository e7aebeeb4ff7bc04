package main

import (
	"context"
	"log/slog"
)

// logger writes the client's log lines into the table, each as its message
// alone: what the errors in it say is shown with the checks.
func (t *table) logger() *slog.Logger { return slog.New(&tableLog{table: t}) }

// tableLog is a slog.Handler that prints messages.
type tableLog struct{ table *table }

func (h *tableLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *tableLog) Handle(_ context.Context, r slog.Record) error {
	h.table.note("log: " + r.Message)
	return nil
}

func (h *tableLog) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *tableLog) WithGroup(string) slog.Handler { return h }
