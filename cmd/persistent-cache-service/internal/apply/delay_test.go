package apply

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The delay doubles with each delivery, differs from message to message, and
// is bounded; a count that is not known is the first.
func TestReturnDelay(t *testing.T) {
	for count, least := range map[int]time.Duration{
		-1: time.Minute, 0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 3: 4 * time.Minute, 8: 128 * time.Minute,
		9: 160 * time.Minute, 10: 160 * time.Minute, 64: 160 * time.Minute, 1 << 30: 160 * time.Minute,
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := returnDelay(count)
			require.GreaterOrEqual(t, d, least, count)
			require.LessOrEqual(t, d, least*3/2, count)
			require.LessOrEqual(t, d, maxReturnDelay, count)
			seen[d] = true
		}
		require.Greater(t, len(seen), 50, count)
	}
	var total time.Duration
	for count := 1; count <= 10; count++ {
		total += returnDelay(count)
	}
	require.Greater(t, total, 8*time.Hour, "the outage that ten deliveries bridge")
}
