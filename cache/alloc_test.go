package cache

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Finding an entitlement in a value that is known allocates nothing.
func TestWarmFindAllocatesNothing(t *testing.T) {
	for _, n := range []int{10, 50, 200} {
		m := newMemo()
		k, ref := Key{CustomerID: "customer"}, middle(n)
		v, err := parse(sampleValue(t, n), n)
		require.NoError(t, err)
		m.put(k, v)
		same := sampleValue(t, n) // the same bytes, as a reply of Redis brings them
		found := 0
		allocs := testing.AllocsPerRun(100, func() {
			known := m.get(k)
			if known.raw != same {
				return
			}
			if it, err := known.find(ref); err == nil && it != nil {
				found++
			}
			if it, err := known.find(Ref{ID: "not there"}); err == nil && it == nil {
				found++
			}
		})
		require.Zero(t, allocs, "%d entitlements", n)
		require.Equal(t, 2*101, found)
	}
}

// A check on a customer with many entitlements decodes the one that is asked
// for; what it costs in allocations does not depend on how many there are.
func TestReadDecodesOnlyWhatIsAskedFor(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	for _, n := range []int{10, 200} {
		k, ref := Key{CustomerID: "customer"}, middle(n)
		writer := NewStore(Options{Client: client, Prefix: "lab"})
		_, err := writer.WriteState(t.Context(), k, sampleState(n), WriteOptions{})
		require.NoError(t, err)

		s := NewStore(Options{Client: client, Prefix: "lab"})
		var r Reading
		require.NoError(t, s.Read(t.Context(), k, ref, true, &r))
		require.Zero(t, r.Faults)
		require.Equal(t, ref, RefOf(r.Facts.Definition))
		v := s.memo.get(k)
		require.Len(t, v.entries, n)
		require.Len(t, v.items, 1)
		require.Same(t, r.Facts.Definition, &v.items[ref].definition)

		// The next check decodes nothing at all.
		first := r.Facts.Definition
		require.NoError(t, s.Read(t.Context(), k, ref, true, &r))
		require.Same(t, first, r.Facts.Definition)
		require.Len(t, v.items, 1)
	}
}

func TestParseAllocationsDoNotGrow(t *testing.T) {
	parseAndFind := func(n int) float64 {
		text, ref := sampleValue(t, n), middle(n)
		return testing.AllocsPerRun(50, func() {
			v, err := parse(text, n)
			if err != nil {
				t.Error(err)
				return
			}
			if it, err := v.find(ref); err != nil || it == nil {
				t.Error("not found")
			}
		})
	}
	few, many := parseAndFind(10), parseAndFind(200)
	require.Equal(t, few, many)
	require.LessOrEqual(t, many, 8.0)
	text := sampleValue(t, 200)
	require.LessOrEqual(t, testing.AllocsPerRun(50, func() {
		if _, err := parse(text, 200); err != nil {
			t.Error(err)
		}
	}), 2.0, "the list of entries and what holds it")
}

// What is kept of a value does not keep more of it alive than was asked for.
func TestDecodedEntryIsACopy(t *testing.T) {
	text := sampleValue(t, 50)
	buffer := []byte(text)
	v, err := parse(string(buffer), 50)
	require.NoError(t, err)
	it, err := v.find(middle(50))
	require.NoError(t, err)
	size := 0
	for _, s := range []string{it.definition.Feature.ID, it.definition.Feature.DisplayName, it.definition.Feature.Units, it.definition.Currency.ID} {
		size += len(s)
		if s != "" {
			require.False(t, within(s, v.raw), "%q is a part of the whole value", s)
		}
	}
	require.Positive(t, size)
}
