package cache

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// within reports whether part shares the memory of whole.
func within(part, whole string) bool {
	p, w := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	return p >= w && p < w+uintptr(len(whole))
}

func mustParse(t testing.TB, text string) *parsed {
	t.Helper()
	v, err := parse(text, 4)
	require.NoError(t, err)
	return v
}

// requireCounted checks that the memo's count of bytes is that of what it keeps.
func requireCounted(t testing.TB, m *memo) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := 0
	for _, k := range m.lru.Keys() {
		v, ok := m.lru.Peek(k)
		require.True(t, ok)
		sum += v.size(k)
	}
	require.Equal(t, sum, m.bytes)
	require.LessOrEqual(t, m.bytes, memoBytes)
}

func TestMemoIsBoundedByBytes(t *testing.T) {
	m := newMemo()
	text := sampleValue(t, 50)
	v := mustParse(t, text)
	fit := memoBytes / v.size(Key{CustomerID: "customer 00000"})
	for i := range 2 * fit {
		m.put(Key{CustomerID: fmt.Sprintf("customer %05d", i)}, v)
	}
	requireCounted(t, m)
	require.Equal(t, fit, m.lru.Len())
	require.Nil(t, m.get(Key{CustomerID: "customer 00000"}), "the oldest went")
	require.NotNil(t, m.get(Key{CustomerID: fmt.Sprintf("customer %05d", 2*fit-1)}))

	// What is used stays.
	kept := Key{CustomerID: fmt.Sprintf("customer %05d", fit)}
	for i := range 2 * fit {
		require.NotNil(t, m.get(kept))
		m.put(Key{CustomerID: fmt.Sprintf("another  %05d", i)}, v)
	}
	requireCounted(t, m)
}

func TestMemoCountsWhatIsReplacedOnce(t *testing.T) {
	m := newMemo()
	k := Key{CustomerID: "customer"}
	small, large := mustParse(t, sampleValue(t, 1)), mustParse(t, sampleValue(t, 200))
	for range 10 {
		m.put(k, small)
		require.Equal(t, small.size(k), m.bytes)
		m.put(k, large)
		require.Equal(t, large.size(k), m.bytes)
	}
	require.Same(t, large, m.get(k))
	require.Equal(t, 1, m.lru.Len())
}

// One huge customer does not push out all the others.
func TestMemoDoesNotKeepHugeValues(t *testing.T) {
	m := newMemo()
	k := Key{CustomerID: "customer"}
	m.put(k, mustParse(t, sampleValue(t, 1)))
	m.put(Key{CustomerID: "huge"}, mustParse(t, `{"a":{"text":"`+strings.Repeat("x", memoBytes/8)+`"}}`))
	require.Nil(t, m.get(Key{CustomerID: "huge"}))
	require.NotNil(t, m.get(k))
	requireCounted(t, m)
}

// What is counted is near to what is used: with every entitlement decoded,
// which few checks lead to, it is less than four times as much.
func TestMemoMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	use := func(decodeAll bool) float64 {
		text := sampleValue(t, 50)
		before := heap()
		m := newMemo()
		for i := range 200 {
			v := mustParse(t, strings.Clone(text))
			_, err := v.find(middle(50))
			if decodeAll {
				_, err = v.list([]string{"value"})
			}
			require.NoError(t, err)
			m.put(Key{CustomerID: fmt.Sprint(i)}, v)
		}
		used := float64(heap()-before) / float64(m.bytes)
		runtime.KeepAlive(m)
		return used
	}
	few, all := use(false), use(true)
	t.Logf("used: %.2f of what is counted; with everything decoded %.2f", few, all)
	require.Less(t, few, 1.5)
	require.Less(t, all, 4.0)
}

func TestMemoIsSafeForConcurrentUse(t *testing.T) {
	m := newMemo()
	const users, rounds = 8, 200
	texts := []string{sampleValue(t, 10), sampleValue(t, 50)}
	var wg sync.WaitGroup
	for u := range users {
		wg.Go(func() {
			for i := range rounds {
				k := Key{CustomerID: fmt.Sprint(i % 7)}
				v := m.get(k)
				if v == nil || i%10 == u {
					var err error
					if v, err = parse(texts[i%2], 4); err != nil {
						t.Error(err)
						return
					}
					m.put(k, v)
				}
				if it, err := v.find(middle(10)); err != nil || it == nil {
					t.Errorf("%v, %v", it, err)
					return
				}
				if all, err := v.list([]string{"value"}); err != nil || len(all) != len(v.entries) {
					t.Errorf("%d of %d, %v", len(all), len(v.entries), err)
					return
				}
			}
		})
	}
	wg.Wait()
	requireCounted(t, m)
}

// A value that changed is noticed even if it is as long as before and has the
// same timestamp.
func TestChangedValueOfTheSameLengthIsNoticed(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	s := NewStore(Options{Client: client, Prefix: "lab"})
	k := Key{CustomerID: "customer"}
	value := func(limit string) string {
		return `{"f":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"f","featureType":"NUMBER"},"usageLimit":` + limit + `}}}`
	}
	require.NoError(t, client.Set(t.Context(), "lab:c_customer#timestamp", "1780308000000", 0).Err())
	for _, limit := range []string{"100", "200", "200", "100"} {
		require.NoError(t, client.Set(t.Context(), "lab:c_customer", value(limit), 0).Err())
		var r Reading
		require.NoError(t, s.Read(t.Context(), k, Ref{ID: "f"}, false, &r))
		require.Zero(t, r.Faults)
		require.Equal(t, map[string]float64{"100": 100, "200": 200}[limit], *r.Facts.Definition.UsageLimit)
		state, err := s.ReadState(t.Context(), k)
		require.NoError(t, err)
		require.Same(t, r.Facts.Definition, state.Entitlements[0].Definition, "decoded once")
	}
}

// Which usages there are is learnt from the value, so that everything is read
// at once; a value that names others is followed all the same.
func TestStateFollowsAChangedValue(t *testing.T) {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	s := NewStore(Options{Client: client, Prefix: "lab"})
	k := Key{CustomerID: "customer"}
	write := func(at int, ids ...string) {
		var entries []string
		for i, id := range ids {
			entries = append(entries, `"`+id+`":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"`+id+
				`","featureType":"NUMBER","meterType":"Incremental"},"usageLimit":9}}`)
			usage := UsageKey("lab", k, Ref{ID: id})
			require.NoError(t, server.Set(usage, fmt.Sprintf(`{"currentUsage":%d}`, 100*at+i)))
			require.NoError(t, server.Set(TimestampKey(usage), fmt.Sprint(1780308000000+at)))
		}
		require.NoError(t, server.Set("lab:c_customer", "{"+strings.Join(entries, ",")+"}"))
		require.NoError(t, server.Set("lab:c_customer#timestamp", fmt.Sprint(1780308000000+at)))
	}
	for at, ids := range [][]string{{"a", "b"}, {"a", "b"}, {"b", "c", "d"}, {"d"}, {}, {"a", "b", "c"}} {
		write(at, ids...)
		for again := range 3 {
			before := server.CommandCount()
			state, err := s.ReadState(t.Context(), k)
			require.NoError(t, err)
			require.Zero(t, state.Faults)
			require.Len(t, state.Entitlements, len(ids))
			for i, id := range ids {
				require.Equal(t, id, state.Entitlements[i].Definition.Feature.ID)
				require.Equal(t, float64(100*at+i), state.Entitlements[i].Usage.Current, id)
			}
			if again > 0 {
				require.Equal(t, before+1, server.CommandCount())
			}
		}
	}
}
