package refetch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// An answer that is larger than all that may be held pushes no other out, and
// what was held of the same customer, which is older, goes.
func TestHoldsRefuseWhatIsTooLarge(t *testing.T) {
	now := time.Now()
	answer := func(records int) *Live {
		return &Live{State: entitlements.State{Records: make([]entitlements.Record, records)}, Began: now, At: now}
	}
	acme, other := cache.Key{CustomerID: "acme"}, cache.Key{CustomerID: "other"}
	h := newHolds(time.Minute, 0, 10)
	h.put(acme, answer(5))
	h.put(other, answer(5))
	require.NotNil(t, h.get(acme, now))

	h.put(acme, answer(11))
	require.Nil(t, h.get(acme, now))
	require.NotNil(t, h.get(other, now))
	require.Equal(t, 5, h.records)

	// That something has changed is remembered all the same.
	h.change(acme, now.Add(time.Second))
	h.put(acme, answer(11))
	h.put(acme, answer(1))
	require.Nil(t, h.get(acme, now), "it is older than the change")
	require.Equal(t, 6, h.records)
	require.NotNil(t, h.get(other, now))
}
