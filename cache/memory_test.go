package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

var (
	memoryStart = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	acme        = Key{CustomerID: "acme"}
	acmeSite    = Key{CustomerID: "acme", ResourceID: "site"}
	bob         = Key{CustomerID: "bob"}

	callsRef  = Ref{ID: "calls"}
	videoRef  = Ref{ID: "video"} // draws on tokens
	tokensRef = Ref{IsCredit: true, ID: "tokens"}
)

// memoryRecords are three entitlements: a metered feature, one that draws on a
// wallet, and the wallet.
func memoryRecords() []CachedEntitlement {
	metered := func(id string) *entitlements.Definition {
		return &entitlements.Definition{Feature: entitlements.Feature{ID: id, Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental}}
	}
	video, tokens := metered("video"), &entitlements.Definition{IsCredit: true}
	tokens.Currency.ID = "tokens"
	video.CreditRate = &credits.Rate{Amount: 1, CurrencyID: "tokens"}
	return []CachedEntitlement{{Definition: metered("calls")}, {Definition: video}, {Definition: tokens}}
}

func entryAt(began time.Time) *Entry { return NewEntry(&Reading{}, true, began) }

// putAll keeps the list of k and its three entitlements, as read at the time.
func putAll(m *Memory, k Key, began time.Time) {
	list, entries := NewList(&StateReading{Entitlements: memoryRecords()}, began)
	m.PutList(m.Begin(k), list, entries)
}

func putOne(m *Memory, k Key, ref Ref, began time.Time) { m.Put(m.Begin(k), ref, entryAt(began)) }

// trackedMemory is a memory that hears of every change.
func trackedMemory(entries int, ttl time.Duration) *Memory {
	m := NewMemory(entries, ttl)
	m.Tracked(func() {})
	return m
}

// condition says what has become of an entry.
func condition(m *Memory, k Key, ref Ref, now time.Time) string {
	switch e, trusted := m.Get(k, ref, now); {
	case e == nil:
		return "to be read"
	case trusted:
		return "trusted"
	}
	return "doubtful"
}

func TestWhatAChangeConcerns(t *testing.T) {
	const kept, doubted, reread = "trusted", "doubtful", "to be read"
	all := func(c string) [3]string { return [3]string{c, c, c} }
	for key, want := range map[string]struct{ acme, site [3]string }{ // calls, video, tokens
		"acme":                             {all(reread), all(doubted)},
		"acme#timestamp":                   {all(reread), all(doubted)},
		"acme:metadata":                    {all(reread), all(kept)},
		"acme:metadata#timestamp":          {all(reread), all(kept)},
		"acme:f_calls":                     {[3]string{doubted, kept, kept}, all(kept)},
		"acme:f_calls#timestamp":           {[3]string{doubted, kept, kept}, all(kept)},
		"acme:f_video":                     {[3]string{kept, doubted, kept}, all(kept)},
		"acme:credit_tokens":               {[3]string{kept, doubted, doubted}, all(kept)},
		"acme:credit_tokens#timestamp":     {[3]string{kept, doubted, doubted}, all(kept)},
		"acme:f_tokens":                    {all(kept), all(kept)},
		"acme:f_other":                     {all(kept), all(kept)},
		"acme:r_site":                      {all(kept), all(reread)},
		"acme:r_site#timestamp":            {all(kept), all(reread)},
		"acme:r_site:metadata":             {all(kept), all(reread)},
		"acme:r_site:f_calls":              {all(kept), [3]string{doubted, kept, kept}},
		"acme:r_site:credit_tokens":        {all(kept), [3]string{kept, doubted, doubted}},
		"acme:r_other":                     {all(kept), all(kept)},
		"acme:r_other:f_calls":             {all(kept), all(kept)},
		"bob":                              {all(kept), all(kept)},
		"":                                 {all(kept), all(kept)},
		"acme:f_calls#timestamp#timestamp": {all(kept), all(kept)},
		"acme:f_calls:f_calls":             {all(kept), all(kept)},
	} {
		t.Run(key, func(t *testing.T) {
			m := trackedMemory(100, 0)
			putAll(m, acme, memoryStart)
			putAll(m, acmeSite, memoryStart)
			m.Changed(key, memoryStart)
			for k, want := range map[Key][3]string{acme: want.acme, acmeSite: want.site} {
				var got [3]string
				for i, ref := range []Ref{callsRef, videoRef, tokensRef} {
					got[i] = condition(m, k, ref, memoryStart)
				}
				require.Equal(t, want, got, k)
				list, entries := m.GetList(k, memoryStart)
				if want == all(kept) {
					require.Len(t, entries, 3, k)
				} else {
					require.Nil(t, list, k)
				}
			}
		})
	}
}

// A feature whose id ends like the name of a timestamp is told from the
// timestamp of another.
func TestAFeatureNamedLikeATimestamp(t *testing.T) {
	awkward := Ref{ID: "calls#timestamp"}
	m := trackedMemory(100, 0)
	put := func() {
		putOne(m, acme, callsRef, memoryStart)
		putOne(m, acme, awkward, memoryStart)
	}
	put()
	m.Changed("acme:f_calls#timestamp", memoryStart)
	require.Equal(t, "doubtful", condition(m, acme, callsRef, memoryStart))
	require.Equal(t, "doubtful", condition(m, acme, awkward, memoryStart))
	put()
	m.Changed("acme:f_calls#timestamp#timestamp", memoryStart)
	require.Equal(t, "trusted", condition(m, acme, callsRef, memoryStart))
	require.Equal(t, "doubtful", condition(m, acme, awkward, memoryStart))
}

// What was read before a change was heard of is not kept after it; what
// concerns somebody else does not matter.
func TestNothingReadBeforeAChangeIsKept(t *testing.T) {
	changes := map[string]func(*Memory){
		"value":       func(m *Memory) { m.Changed("acme:r_site", memoryStart) },
		"metadata":    func(m *Memory) { m.Changed("acme:r_site:metadata#timestamp", memoryStart) },
		"usage":       func(m *Memory) { m.Changed("acme:r_site:f_calls", memoryStart) },
		"credit":      func(m *Memory) { m.Changed("acme:r_site:credit_tokens", memoryStart) },
		"customer":    func(m *Memory) { m.Changed("acme#timestamp", memoryStart) },
		"own":         func(m *Memory) { m.Forget(acmeSite, memoryStart) },
		"own usage":   func(m *Memory) { m.ForgetUsage(acmeSite, callsRef, memoryStart) },
		"of customer": func(m *Memory) { m.Forget(acme, memoryStart) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			m := trackedMemory(100, 0)
			one, all := m.Begin(acmeSite), m.Begin(acmeSite)
			change(m)
			m.Put(one, callsRef, entryAt(memoryStart))
			list, entries := NewList(&StateReading{Entitlements: memoryRecords()}, memoryStart)
			m.PutList(all, list, entries)
			require.Zero(t, m.Len())
			require.Empty(t, m.customers)
			putOne(m, acmeSite, callsRef, memoryStart)
			require.Equal(t, "trusted", condition(m, acmeSite, callsRef, memoryStart))
		})
	}
	for _, k := range []Key{acme, bob} {
		m := trackedMemory(100, 0)
		token := m.Begin(acmeSite)
		m.ForgetUsage(k, callsRef, memoryStart)
		m.Put(token, callsRef, entryAt(memoryStart))
		require.Equal(t, "trusted", condition(m, acmeSite, callsRef, memoryStart), k)
	}
	for _, key := range []string{"bob", "acme:metadata", "acme:f_calls", "acme:r_other", "acme:r_other:f_calls"} {
		m := trackedMemory(100, 0)
		token := m.Begin(acmeSite)
		m.Changed(key, memoryStart)
		m.Put(token, callsRef, entryAt(memoryStart))
		require.Equal(t, "trusted", condition(m, acmeSite, callsRef, memoryStart), key)
	}
}

// What was read while changes may have been missed is kept but not trusted, and
// not when changes are heard of again either.
func TestTrustEndsWithTheConnection(t *testing.T) {
	m := NewMemory(100, 0)
	is := func(want string) {
		t.Helper()
		require.Equal(t, want, condition(m, acme, callsRef, memoryStart))
	}
	putOne(m, acme, callsRef, memoryStart)
	is("doubtful")
	early := m.Begin(acme)
	m.Tracked(func() {})
	is("doubtful")
	m.Put(early, callsRef, entryAt(memoryStart))
	is("doubtful")
	putOne(m, acme, callsRef, memoryStart)
	is("trusted")
	m.Doubt(memoryStart)
	is("doubtful")
	putOne(m, acme, callsRef, memoryStart)
	is("trusted")
	before := m.Begin(acme)
	m.Untracked(memoryStart)
	is("doubtful")
	m.Tracked(func() {})
	is("doubtful")
	m.Put(before, callsRef, entryAt(memoryStart))
	is("doubtful")
	putOne(m, acme, callsRef, memoryStart)
	is("trusted")
}

// An entry was confirmed when Redis was last heard while it was trusted, else
// when it was read. What may be stale counts from then, and nothing renews it.
func TestStaleCountsFromTheLastConfirmation(t *testing.T) {
	const maxStale = 5 * time.Minute
	at := func(minutes float64) time.Time { return memoryStart.Add(time.Duration(minutes * float64(time.Minute))) }
	wantStale := func(t *testing.T, m *Memory, now, confirmed time.Time) {
		t.Helper()
		e, got := m.Stale(acme, callsRef, now, maxStale)
		require.NotNil(t, e)
		require.Equal(t, confirmed, got)
		e, _ = m.Stale(acme, callsRef, confirmed.Add(maxStale), maxStale)
		require.NotNil(t, e)
		e, _ = m.Stale(acme, callsRef, confirmed.Add(maxStale+1), maxStale)
		require.Nil(t, e)
	}
	putAt := func(m *Memory, minutes float64) {
		list, entries := NewList(&StateReading{Entitlements: memoryRecords()}, at(minutes))
		m.PutList(m.Begin(acme), list, entries)
	}
	t.Run("never trusted", func(t *testing.T) {
		m := NewMemory(100, 0)
		putAt(m, 0)
		wantStale(t, m, at(4), at(0))
	})
	t.Run("trusted", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		e, confirmed := m.Stale(acme, callsRef, at(100), maxStale)
		require.NotNil(t, e)
		require.Equal(t, at(100), confirmed)
	})
	t.Run("lost", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Untracked(at(60))
		wantStale(t, m, at(64), at(60))
	})
	t.Run("lost, found, lost", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Untracked(at(60))
		m.Tracked(func() {})
		m.Untracked(at(62))
		wantStale(t, m, at(64), at(60))
	})
	t.Run("lost often", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Untracked(at(1))
		for range maxLosses {
			m.Tracked(func() {})
			m.Untracked(at(2))
		}
		require.Len(t, m.losses, maxLosses)
		wantStale(t, m, at(4), at(0))
	})
	t.Run("read after the loss", func(t *testing.T) {
		m := trackedMemory(100, 0)
		m.Untracked(at(1))
		putAt(m, 2)
		m.Doubt(at(3))
		m.Tracked(func() {})
		m.Untracked(at(3))
		wantStale(t, m, at(4), at(2))
	})
	t.Run("usage changed", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Changed("acme:f_calls", at(60))
		wantStale(t, m, at(61), at(60))
		m.Changed("acme:f_calls", at(62))
		wantStale(t, m, at(63), at(60))
		m.Untracked(at(63))
		wantStale(t, m, at(64), at(60))
	})
	t.Run("value changed", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Changed("acme", at(1))
		e, _ := m.Get(acme, callsRef, at(2))
		require.Nil(t, e)
		wantStale(t, m, at(2), at(1))
	})
	t.Run("doubted", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Doubt(at(60))
		wantStale(t, m, at(61), at(60))
	})
	t.Run("not at all", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		e, _ := m.Stale(acme, callsRef, at(0), 0)
		require.Nil(t, e)
		list, _, _ := m.StaleList(acme, at(0), 0)
		require.Nil(t, list)
	})
	t.Run("list", func(t *testing.T) {
		m := trackedMemory(100, 0)
		putAt(m, 0)
		m.Changed("acme:f_calls", at(10))
		m.Untracked(at(12))
		list, entries, confirmed := m.StaleList(acme, at(13), maxStale)
		require.Len(t, entries, len(list.List))
		require.Equal(t, at(10), confirmed)
		list, _, _ = m.StaleList(acme, at(15.1), maxStale)
		require.Nil(t, list)
	})
}

// The TTL is a ceiling: an entry that is confirmed again and again is read anew
// when its value has that age.
func TestTTLIsACeiling(t *testing.T) {
	m := trackedMemory(100, time.Minute)
	putAll(m, acme, memoryStart)
	e, _ := m.Get(acme, callsRef, memoryStart.Add(time.Minute-1))
	require.NotNil(t, e)
	list, _ := m.GetList(acme, memoryStart.Add(time.Minute-1))
	require.NotNil(t, list)

	again := NewEntry(&Reading{Facts: e.Facts, kept: e}, false, memoryStart.Add(time.Minute-1))
	require.True(t, again.WithUsage, "what was revalidated has what it had")
	m.Put(m.Begin(acme), callsRef, again)
	require.Equal(t, "trusted", condition(m, acme, callsRef, memoryStart.Add(time.Minute-1)))
	require.Equal(t, "to be read", condition(m, acme, callsRef, memoryStart.Add(time.Minute)))
	require.Equal(t, "to be read", condition(m, acme, videoRef, memoryStart.Add(time.Minute)))
	list, _ = m.GetList(acme, memoryStart.Add(time.Minute))
	require.Nil(t, list)
	m.Untracked(memoryStart.Add(time.Minute))
	stale, _ := m.Stale(acme, callsRef, memoryStart.Add(2*time.Minute), time.Hour)
	require.Same(t, again, stale, "it may still be used when nothing newer can be had")
}

func TestListNeedsEverythingInIt(t *testing.T) {
	m := trackedMemory(4, 0)
	putAll(m, acme, memoryStart)
	require.Equal(t, 4, m.Len())
	list, entries := m.GetList(acme, memoryStart)
	require.Equal(t, []Ref{callsRef, videoRef, tokensRef}, list.List)
	require.Len(t, entries, 3)

	m.Put(m.Begin(acme), callsRef, NewEntry(&Reading{Facts: entries[0].Facts}, false, memoryStart))
	list, _ = m.GetList(acme, memoryStart)
	require.Nil(t, list, "the usage was not read")
	_, stale, _ := m.StaleList(acme, memoryStart, time.Hour)
	require.Equal(t, entries, stale, "as the list knew it")

	putAll(m, acme, memoryStart)
	putOne(m, bob, callsRef, memoryStart) // pushes one out
	require.Equal(t, 4, m.Len())
	list, _ = m.GetList(acme, memoryStart)
	require.Nil(t, list)
}

// A list that is larger than the memory does not push everything else out of it.
func TestListLargerThanTheMemory(t *testing.T) {
	m := trackedMemory(3, 0)
	putOne(m, bob, callsRef, memoryStart)
	putAll(m, acme, memoryStart)
	require.Equal(t, "trusted", condition(m, bob, callsRef, memoryStart))
	require.Equal(t, 1, m.Len())
	require.Len(t, m.customers, 1)
}

func TestSplitKey(t *testing.T) {
	for name, want := range map[string]change{
		"a":                          {key: Key{CustomerID: "a"}},
		"a:b":                        {key: Key{CustomerID: "a:b"}},
		"a#timestamp":                {key: Key{CustomerID: "a"}},
		"a:metadata#timestamp":       {key: Key{CustomerID: "a"}, part: partMetadata},
		"a:r_b:metadata":             {key: Key{CustomerID: "a", ResourceID: "b"}, part: partMetadata},
		"a:r_b:c:f_d":                {key: Key{CustomerID: "a", ResourceID: "b:c"}, part: partUsage, usage: Ref{ID: "d"}, usageOrTime: Ref{ID: "d"}},
		"a:f_b:r_c":                  {key: Key{CustomerID: "a"}, part: partUsage, usage: Ref{ID: "b:r_c"}, usageOrTime: Ref{ID: "b:r_c"}},
		"a:f_:metadata":              {key: Key{CustomerID: "a"}, part: partUsage, usage: Ref{ID: ":metadata"}, usageOrTime: Ref{ID: ":metadata"}},
		"a:f_":                       {key: Key{CustomerID: "a"}, part: partUsage},
		"a:f_#timestamp":             {key: Key{CustomerID: "a"}, part: partUsage, usageOrTime: Ref{ID: "#timestamp"}},
		"a:credit_b#timestamp":       {key: Key{CustomerID: "a"}, part: partUsage, usage: Ref{true, "b"}, usageOrTime: Ref{true, "b#timestamp"}},
		"a:r_b:credit_c_d#timestamp": {key: Key{CustomerID: "a", ResourceID: "b"}, part: partUsage, usage: Ref{true, "c_d"}, usageOrTime: Ref{true, "c_d#timestamp"}},
	} {
		require.Equal(t, want, splitKey(name), name)
	}
}

// Every name that is read for a customer that is not ambiguous leads back to
// it, and to the usage that it holds.
func TestSplitKeyFindsEveryNameThatIsRead(t *testing.T) {
	id := rapid.StringOfN(rapid.SampledFrom([]rune("ab:_#rfc")), 1, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		k := Key{CustomerID: id.Draw(t, "customer"), ResourceID: rapid.OneOf(rapid.Just(""), id).Draw(t, "resource")}
		ref := Ref{IsCredit: rapid.Bool().Draw(t, "credit"), ID: id.Draw(t, "id") + rapid.SampledFrom([]string{"", ":r_a", "#timestamp", ":metadata"}).Draw(t, "suffix")}
		if k.Ambiguous() {
			t.Skip("never kept")
		}
		behind := func(name string) string { return strings.TrimPrefix(name, "p:c_") }
		for _, name := range []string{ValueKey("p", k), TimestampKey(ValueKey("p", k))} {
			require.Equal(t, change{key: k}, splitKey(behind(name)))
		}
		for _, name := range []string{MetadataKey("p", k), TimestampKey(MetadataKey("p", k))} {
			require.Equal(t, change{key: k, part: partMetadata}, splitKey(behind(name)))
		}
		for _, name := range []string{UsageKey("p", k, ref), TimestampKey(UsageKey("p", k, ref))} {
			c := splitKey(behind(name))
			require.Equal(t, k, c.key)
			require.Equal(t, partUsage, c.part)
			require.Contains(t, []Ref{c.usage, c.usageOrTime}, ref)
		}
	})
}

// world is Redis as a Memory knows it: each key has a version, reads take time,
// and changes are heard of in order but late.
type world struct {
	versions map[string]int
	unheard  []string
	reads    []*worldRead
}

type worldRead struct {
	token   Token
	key     Key
	list    *Entry
	entries []*Entry // of all refs; nil: Redis was not asked yet
}

// seen are the versions of everything that an entry depends on.
func (w *world) seen(k Key, ref Ref) entitlements.Usage {
	value := ValueKey("p", k)
	sum := w.versions[value] + w.versions[value+metadataSuffix]
	if k.ResourceID != "" {
		sum += w.versions[ValueKey("p", k.Customer())]
	}
	sum += w.versions[UsageKey("p", k, ref)]
	if ref == videoRef {
		sum += w.versions[UsageKey("p", k, tokensRef)]
	}
	return entitlements.Usage{Current: float64(sum)}
}

// listOf is the list of what a customer or resource has. Of every other version
// of its value the first entitlement is not a part.
func (w *world) listOf(k Key, refs []Ref) *Entry {
	version := w.versions[ValueKey("p", k)]
	return &Entry{List: refs[version%2:], Times: Times{Value: int64(version)}}
}

// Whatever happens in whatever order: an entry that is trusted is what Redis
// held when it was last heard; all of a list is of one value; the memory is
// bounded; and nothing is left of customers of whom nothing is kept.
func TestMemoryModel(t *testing.T) {
	keys := []Key{acme, acmeSite, bob}
	refs := []Ref{callsRef, videoRef, tokensRef}
	records := memoryRecords()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(t, "size")
		m, w := NewMemory(size, 0), &world{versions: make(map[string]int)}
		m.Tracked(func() {})
		connected := true
		anyKey, anyRef := rapid.SampledFrom(keys), rapid.SampledFrom(refs)
		read := func(r *worldRead) {
			r.list = w.listOf(r.key, refs)
			for i, ref := range refs {
				e := &Entry{WithUsage: true, Times: r.list.Times, Facts: entitlements.Facts{Usage: w.seen(r.key, ref)}}
				if slices.Contains(r.list.List, ref) {
					e.Facts.Definition = records[i].Definition
				}
				if ref == videoRef {
					e.Facts.Wallet = records[2].Definition
				}
				r.entries = append(r.entries, e)
			}
		}
		finish := func(t *rapid.T) *worldRead {
			if len(w.reads) == 0 {
				t.Skip("no read under way")
			}
			i := rapid.IntRange(0, len(w.reads)-1).Draw(t, "read")
			r := w.reads[i]
			w.reads = slices.Delete(w.reads, i, i+1)
			if r.entries == nil {
				read(r)
			}
			return r
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				k := anyKey.Draw(t, "key")
				r := &worldRead{token: m.Begin(k), key: k}
				if rapid.Bool().Draw(t, "asked") {
					read(r)
				}
				w.reads = append(w.reads, r)
			},
			"put": func(t *rapid.T) {
				r, i := finish(t), rapid.IntRange(0, 2).Draw(t, "i")
				m.Put(r.token, refs[i], r.entries[i])
			},
			"put list": func(t *rapid.T) {
				r := finish(t)
				m.PutList(r.token, r.list, r.entries[len(refs)-len(r.list.List):])
			},
			"end": func(t *rapid.T) { m.End(finish(t).token) },
			"write": func(t *rapid.T) {
				k := anyKey.Draw(t, "key")
				if len(w.reads) > 0 {
					k = w.reads[0].key
				}
				name := rapid.SampledFrom([]string{ValueKey("p", k), MetadataKey("p", k), UsageKey("p", k, anyRef.Draw(t, "ref"))}).Draw(t, "name")
				w.versions[name]++
				if connected {
					w.unheard = append(w.unheard, name)
				}
			},
			"own write": func(t *rapid.T) {
				k := anyKey.Draw(t, "key")
				w.versions[ValueKey("p", k)]++
				w.versions[UsageKey("p", k, anyRef.Draw(t, "ref"))]++
				m.Forget(k, memoryStart)
			},
			"own usage": func(t *rapid.T) {
				k, ref := anyKey.Draw(t, "key"), anyRef.Draw(t, "ref")
				w.versions[UsageKey("p", k, ref)]++
				m.ForgetUsage(k, ref, memoryStart)
			},
			"hear": func(t *rapid.T) {
				for _, name := range w.unheard {
					m.Changed(strings.TrimPrefix(name, "p:c_"), memoryStart)
				}
				w.unheard = nil
			},
			"disturb": func(t *rapid.T) {
				switch rapid.IntRange(0, 7).Draw(t, "how") {
				case 0:
					for _, k := range keys {
						w.versions[ValueKey("p", k)]++
					}
					w.unheard = nil
					m.Doubt(memoryStart)
				case 1:
					m.Untracked(memoryStart)
					connected, w.unheard = false, nil
				case 2:
					m.Tracked(func() {})
					connected = true
				}
			},
			"": func(t *rapid.T) {
				require.LessOrEqual(t, m.Len(), size)
				tidy(t, m, len(w.reads))
				for _, k := range keys {
					list, entries := m.GetList(k, memoryStart)
					if list != nil {
						require.True(t, connected)
					}
					if list != nil && len(w.unheard) == 0 {
						require.Equal(t, w.listOf(k, refs), list)
					}
					stale, old, _ := m.StaleList(k, memoryStart, time.Hour)
					for i, e := range old {
						require.Equal(t, stale.List[i], RefOf(e.Facts.Definition))
						require.Equal(t, stale.Times, e.Times)
					}
					for _, ref := range refs {
						e, trusted := m.Get(k, ref, memoryStart)
						if list != nil && slices.Contains(list.List, ref) {
							require.Same(t, e, entries[slices.Index(list.List, ref)])
							require.True(t, trusted)
						}
						if !trusted || len(w.unheard) > 0 {
							continue
						}
						require.True(t, connected)
						require.Equal(t, w.seen(k, ref), e.Facts.Usage, fmt.Sprint(k, ref))
					}
				}
			},
		})
	})
}

// tidy requires that the memory knows of its groups what it keeps of them, and
// of no others but those that are being read; and of everything that a change
// has still to concern.
func tidy(t require.TestingT, m *Memory, reads int) {
	kept, undoubted := make(map[*group]int), make(map[*group][]*slot)
	for _, k := range m.lru.Keys() {
		s, _ := m.lru.Peek(k)
		require.Equal(t, k.key, s.group.key)
		kept[s.group]++
		if s.epoch != doubtful {
			undoubted[s.group] = append(undoubted[s.group], s)
		}
	}
	for id, c := range m.customers {
		require.NotEmpty(t, c.groups)
		for resource, g := range c.groups {
			require.Equal(t, Key{CustomerID: id, ResourceID: resource}, g.key)
			require.Same(t, c, g.customer)
			require.Equal(t, kept[g], g.kept)
			require.True(t, g.readers > 0 || g.kept > 0)
			reads -= g.readers
			require.ElementsMatch(t, undoubted[g], g.entries)
			for i, s := range g.entries {
				require.Equal(t, i+1, s.index)
			}
			if resource != "" && len(g.entries) > 0 {
				require.Contains(t, c.resources, g)
			}
			delete(kept, g)
		}
		for i, g := range c.resources {
			require.Same(t, g, c.groups[g.key.ResourceID])
			require.Equal(t, i+1, g.index)
		}
	}
	require.Zero(t, reads)
	require.Empty(t, kept)
}
