package cache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ofValue is an entry of a customer value with the given timestamp and length.
func ofValue(e *Entry, at int64, size int) *Entry {
	e.Times.Value, e.ValueSize = at, size
	return e
}

// putAllOf is putAll of a customer value with the given timestamp and length.
func putAllOf(m *Memory, at int64, size int, began time.Time) {
	r := &StateReading{Entitlements: memoryRecords(), Times: Times{Value: at}, ValueSize: size}
	list, entries := NewList(r, began)
	m.PutList(m.Begin(acme), list, entries)
}

// putCalls keeps one of the three entitlements as it was read alone. missing:
// the customer value has none.
func putCalls(m *Memory, at int64, size int, missing bool, began time.Time) *Entry {
	e := ofValue(entryAt(began), at, size)
	if !missing {
		e.Facts.Definition = memoryRecords()[0].Definition
	}
	m.Put(m.Begin(acme), callsRef, e)
	return e
}

// What was read alone of another customer value than the list is not taken for
// a part of it, before the change of the value is heard of nor after.
func TestListTakesNothingFromAnotherValue(t *testing.T) {
	const at, size = 1, 100
	for name, put := range map[string]func(*Memory) *Entry{
		"of a later value":          func(m *Memory) *Entry { return putCalls(m, at+1, size, false, memoryStart) },
		"of one of another length":  func(m *Memory) *Entry { return putCalls(m, at, size+1, false, memoryStart) },
		"no more a part of it":      func(m *Memory) *Entry { return putCalls(m, at+1, 2, true, memoryStart) },
		"not there though the same": func(m *Memory) *Entry { return putCalls(m, at, size, true, memoryStart) },
	} {
		t.Run(name, func(t *testing.T) {
			m := trackedMemory(100, 0)
			putAllOf(m, at, size, memoryStart)
			m.Changed("acme:f_calls", memoryStart)
			alone := put(m)
			list, _ := m.GetList(acme, memoryStart)
			require.Nil(t, list)
			got, trusted := m.Get(acme, callsRef, memoryStart)
			require.Same(t, alone, got)
			require.True(t, trusted)

			whole := func() {
				t.Helper()
				list, entries, _ := m.StaleList(acme, memoryStart, time.Hour)
				require.Equal(t, []Ref{callsRef, videoRef, tokensRef}, list.List)
				for i, e := range entries {
					require.Equal(t, list.List[i], RefOf(e.Facts.Definition))
					require.Equal(t, Times{Value: at}, e.Times)
					require.Equal(t, size, e.ValueSize)
				}
			}
			whole()
			m.Changed("acme", memoryStart)
			whole()
			putCalls(m, at+2, size, false, memoryStart)
			whole()
			putAllOf(m, at+3, size, memoryStart)
			_, entries := m.GetList(acme, memoryStart)
			require.Len(t, entries, 3)
			s, _ := m.lru.Peek(entryKey{acme, callsRef})
			require.Nil(t, s.listed, "the older list is gone, and what it knew")
		})
	}
}

// What a list knew is as old as it was when it was last known to be so: what
// was read alone since does not renew it.
func TestWhatAListKnewGrowsOld(t *testing.T) {
	const maxStale = 5 * time.Minute
	at := func(minutes int) time.Time { return memoryStart.Add(time.Duration(minutes) * time.Minute) }
	for name, before := range map[string]func(*Memory){
		"its change was heard of":    func(m *Memory) { m.Changed("acme", at(10)) },
		"so was that of its usage":   func(m *Memory) { m.Changed("acme:f_calls", at(10)); m.Changed("acme", at(12)) },
		"changes were not heard of":  func(m *Memory) { m.Untracked(at(10)) },
		"its change is not heard of": func(m *Memory) { putCalls(m, 2, 100, false, at(10)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := trackedMemory(100, 0)
			putAllOf(m, 1, 100, at(0))
			before(m)
			putCalls(m, 3, 100, false, at(13))
			m.Changed("acme:f_calls", at(13))
			putCalls(m, 4, 100, false, at(14))
			_, entries, confirmed := m.StaleList(acme, at(15), maxStale)
			require.Len(t, entries, 3)
			require.Equal(t, at(10), confirmed)
			list, _, _ := m.StaleList(acme, at(15).Add(1), maxStale)
			require.Nil(t, list)
		})
	}
}

// What a list knew goes with the list's entry, and takes no place of its own.
func TestWhatAListKnewIsBounded(t *testing.T) {
	m := trackedMemory(4, 0)
	putAllOf(m, 1, 100, memoryStart)
	for at := range int64(10) {
		putCalls(m, 2+at, 100, false, memoryStart)
		s, _ := m.lru.Peek(entryKey{acme, callsRef})
		require.Equal(t, int64(1), s.listed.entry.Times.Value)
		require.Nil(t, s.listed.listed)
	}
	require.Equal(t, 4, m.Len())
	_, entries, _ := m.StaleList(acme, memoryStart, time.Hour)
	require.Len(t, entries, 3)

	// A later list of the value that the entry is of, but without it.
	m.PutList(m.Begin(acme), ofValue(&Entry{}, 11, 100), nil)
	putCalls(m, 12, 100, false, memoryStart)
	s, _ := m.lru.Peek(entryKey{acme, callsRef})
	require.Equal(t, int64(11), s.listed.entry.Times.Value)
	require.Nil(t, s.listed.listed, "no more than one is kept")

	putAllOf(m, 13, 100, memoryStart)
	putOne(m, bob, callsRef, memoryStart) // pushes the list out
	putCalls(m, 20, 100, false, memoryStart)
	s, _ = m.lru.Peek(entryKey{acme, callsRef})
	require.Nil(t, s.listed)
}
