package refetch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/credits"
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

// An answer in which something has ended is not used for longer than that is
// the API's word: neither for what has ended, nor for all, but for the rest; and
// for that as well if nothing newer can be had.
func TestHeldAnswerInWhichSomethingHasEnded(t *testing.T) {
	now := time.Now()
	soon := now.Add(time.Second)
	feature := func(id string, d entitlements.Definition) entitlements.Record {
		d.Feature = entitlements.Feature{ID: id, Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental}
		return entitlements.Record{Definition: d}
	}
	state := entitlements.State{Records: []entitlements.Record{
		feature("stays", entitlements.Definition{}),
		feature("ends", entitlements.Definition{ValidUntil: soon}),
		feature("draws", entitlements.Definition{CreditRate: &credits.Rate{Amount: 1, CurrencyID: "tokens"}}),
		{
			Definition: entitlements.Definition{IsCredit: true, Currency: credits.Currency{ID: "tokens"}},
			Usage:      entitlements.Usage{PeriodEnd: soon},
		},
	}}
	state.Records[0].Usage.PeriodEnd = soon // a metered feature's period starts anew
	g := New(Config{HoldFor: time.Hour, HoldStale: time.Minute, HoldRecords: 100})
	t.Cleanup(g.Close)
	acme := cache.Key{CustomerID: "acme"}
	g.holds.put(acme, &Live{State: state, Began: now, At: now, records: newLive(state, "", now).records})
	for ref, ends := range map[cache.Ref]bool{
		{ID: "stays"}: false, {ID: "other"}: false, {ID: "ends"}: true, {ID: "draws"}: true, {IsCredit: true, ID: "tokens"}: true, {}: true,
	} {
		require.NotNil(t, g.Held(acme, ref, now.Add(ExpiryRefetch-time.Millisecond), 0), ref)
		require.Equal(t, ends, g.Held(acme, ref, now.Add(ExpiryRefetch), 0) == nil, ref)
	}
	require.NotNil(t, g.HeldStale(acme, now.Add(2*time.Minute), time.Minute))
}
