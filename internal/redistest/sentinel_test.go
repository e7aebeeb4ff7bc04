package redistest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func TestSentinelFailsOver(t *testing.T) {
	s := redistest.StartSentinel(t, 1)
	require.Len(t, s.SentinelAddrs(), 1)
	c := s.Client()
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, c.Wait(t.Context(), 1, 0).Err())
	require.Error(t, s.Replica().Client().Set(t.Context(), "k", "w", 0).Err(), "a replica takes no writes")

	s.KillPrimary()
	s.WaitForFailover()
	require.NoError(t, s.Replica().Client().Set(t.Context(), "k2", "v2", 0).Err())
	require.Eventually(t, func() bool { return c.Get(t.Context(), "k").Val() == "v" },
		10*time.Second, 20*time.Millisecond)
}
