package refetch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// An answer that is larger than all that may be held is held alone.
func TestHoldsWhatIsTooLargeAlone(t *testing.T) {
	now := time.Now()
	answer := func(records int) *Live {
		return &Live{State: entitlements.State{Records: make([]entitlements.Record, records)}, Began: now, At: now}
	}
	acme, other := cache.Key{CustomerID: "acme"}, cache.Key{CustomerID: "other"}
	h := newHolds(time.Minute, 0, 10)
	h.put(acme, answer(5))
	h.put(other, answer(5))
	require.NotNil(t, h.get(acme, now))
	require.NotNil(t, h.get(other, now))

	h.put(acme, answer(11))
	require.NotNil(t, h.get(acme, now))
	require.Nil(t, h.get(other, now))
	require.Equal(t, 11, h.records)

	h.put(other, answer(1))
	require.Nil(t, h.get(acme, now))
	require.NotNil(t, h.get(other, now))
	require.Equal(t, 1, h.records)
}
