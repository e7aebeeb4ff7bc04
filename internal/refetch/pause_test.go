package refetch

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPauseGrowsToItsLimit(t *testing.T) {
	require.Zero(t, pause(0), "nothing failed")
	require.Equal(t, time.Second, pause(1))
	require.Equal(t, 2*time.Second, pause(2))
	require.Equal(t, 16*time.Second, pause(5))
	for _, failures := range []int{6, 11, 63, 64, 1000, math.MaxInt} {
		require.Equal(t, 30*time.Second, pause(failures), failures)
	}
}
