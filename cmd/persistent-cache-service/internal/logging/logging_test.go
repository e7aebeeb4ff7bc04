package logging_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/logging"
)

func TestKeysAndLevels(t *testing.T) {
	var out strings.Builder
	log := logging.New(&out, slog.LevelWarn, "message", "error")
	log.Info("not said")
	log.Warn("said", "err", errors.New("why"), slog.Group("g", "err", "kept", "msg", "kept"))
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(out.String()), &line))
	require.NotEmpty(t, line["time"])
	delete(line, "time")
	require.Equal(t, map[string]any{"level": "warn", "message": "said", "error": "why", "g": map[string]any{"err": "kept", "msg": "kept"}}, line)
}

func TestRedisClientsLog(t *testing.T) {
	var out strings.Builder
	logging.Redis{Log: logging.New(&out, slog.LevelInfo, "msg", "err")}.Printf(t.Context(), "x %d", 1)
	require.Empty(t, out.String())
	logging.Redis{Log: logging.New(&out, slog.LevelDebug, "msg", "err")}.Printf(t.Context(), "x %d", 1)
	require.Contains(t, out.String(), `"detail":"x 1"`)
}
