package redistest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func TestLoadDump(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dump.json")
	require.NoError(t, os.WriteFile(path, []byte(`[
		{"key": "p:a", "value": "{\"x\":1}", "ttlSeconds": 604800},
		{"key": "p:b", "value": "", "ttlSeconds": -1},
		{"key": "p:c", "value": "c"}
	]`), 0o600))
	c := redistest.Start(t).Client()

	require.Equal(t, 3, redistest.LoadDump(t, c, path))
	require.Equal(t, []any{`{"x":1}`, "", "c"}, c.MGet(t.Context(), "p:a", "p:b", "p:c").Val())
	require.InDelta(t, 7*24*time.Hour, c.TTL(t.Context(), "p:a").Val(), float64(time.Minute))
	require.Equal(t, time.Duration(-1), c.TTL(t.Context(), "p:b").Val())
	require.Equal(t, time.Duration(-1), c.TTL(t.Context(), "p:c").Val())
}
