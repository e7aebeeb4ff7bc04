package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func site(n int) Key { return Key{CustomerID: "acme", ResourceID: fmt.Sprint("site-", n)} }

// undoubtedOf counts what the next change of a customer has to go through.
func undoubtedOf(m *Memory, customerID string) (groups, entries int) {
	c := m.customers[customerID]
	for _, g := range c.resources {
		entries += len(g.entries)
	}
	return len(c.resources), entries
}

// A change of a customer goes through what was kept since the last one, and
// through nothing else.
func TestAChangeConcernsWhatWasKeptSince(t *testing.T) {
	const sites = 50
	m := trackedMemory(1000, 0)
	requireUndoubted := func(groups, entries int) {
		t.Helper()
		g, e := undoubtedOf(m, "acme")
		require.Equal(t, [2]int{groups, entries}, [2]int{g, e})
	}
	for n := range sites {
		putAll(m, site(n), memoryStart)
	}
	putAll(m, acme, memoryStart)
	requireUndoubted(sites, 4*sites)
	m.Changed("acme", memoryStart)
	requireUndoubted(0, 0)
	m.Changed("acme#timestamp", memoryStart)
	for n := range sites {
		require.Equal(t, "doubtful", condition(m, site(n), callsRef, memoryStart))
	}

	putOne(m, site(7), callsRef, memoryStart)
	putOne(m, site(8), callsRef, memoryStart)
	putOne(m, site(8), tokensRef, memoryStart)
	requireUndoubted(2, 3)
	m.Changed("acme:r_site-8:f_calls", memoryStart)
	requireUndoubted(2, 2)
	m.Changed("acme:r_site-8", memoryStart)
	requireUndoubted(2, 1)
	require.Equal(t, "trusted", condition(m, site(7), callsRef, memoryStart))
	m.Changed("acme", memoryStart)
	requireUndoubted(0, 0)
	require.Equal(t, "doubtful", condition(m, site(7), callsRef, memoryStart))
	require.Equal(t, "to be read", condition(m, site(8), callsRef, memoryStart), "a later change takes nothing back")
}

// A change is not passed over because there was one before: neither what was
// kept between them nor a read that began between them is trusted after it.
func TestNoChangeIsPassedOver(t *testing.T) {
	is := func(m *Memory, want string) {
		t.Helper()
		require.Equal(t, want, condition(m, acmeSite, callsRef, memoryStart))
	}
	changes := map[string]func(*Memory){
		"heard of": func(m *Memory) { m.Changed("acme#timestamp", memoryStart) },
		"own":      func(m *Memory) { m.Forget(acme, memoryStart) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			m := trackedMemory(100, 0)
			for range 3 {
				putOne(m, acmeSite, callsRef, memoryStart)
				is(m, "trusted")
				change(m)
				is(m, "doubtful")

				early := m.Begin(acmeSite)
				change(m)
				late := m.Begin(acmeSite)
				m.Put(early, callsRef, entryAt(memoryStart))
				is(m, "doubtful")
				m.Put(late, callsRef, entryAt(memoryStart))
				is(m, "trusted")

				early = m.Begin(acmeSite)
				m.Changed("acme:r_site:f_calls", memoryStart)
				is(m, "doubtful")
				m.Put(m.Begin(acmeSite), callsRef, entryAt(memoryStart))
				change(m)
				m.Put(early, callsRef, entryAt(memoryStart))
				is(m, "doubtful")
			}
		})
	}
	t.Run("after everything was let go", func(t *testing.T) {
		m := trackedMemory(1, 0)
		for range 3 {
			putOne(m, acmeSite, callsRef, memoryStart)
			putOne(m, bob, callsRef, memoryStart)
			require.Len(t, m.customers, 1)
			putOne(m, acmeSite, callsRef, memoryStart)
			m.Changed("acme", memoryStart)
			is(m, "doubtful")
		}
	})
}

// An own write of a usage concerns what a foreign one does, and the value is
// not read again for it.
func TestOwnUsageConcernsWhatAForeignOneDoes(t *testing.T) {
	for ref, key := range map[Ref]string{
		callsRef: "acme:f_calls", videoRef: "acme:f_video", tokensRef: "acme:credit_tokens", {ID: "other"}: "acme:f_other",
	} {
		t.Run(key, func(t *testing.T) {
			own, foreign := trackedMemory(100, 0), trackedMemory(100, 0)
			for _, m := range []*Memory{own, foreign} {
				putAll(m, acme, memoryStart)
				putAll(m, acmeSite, memoryStart)
			}
			own.ForgetUsage(acme, ref, memoryStart.Add(time.Second))
			foreign.Changed(key, memoryStart.Add(time.Second))
			for _, k := range []Key{acme, acmeSite} {
				for _, kept := range []Ref{callsRef, videoRef, tokensRef} {
					want := condition(foreign, k, kept, memoryStart)
					require.Equal(t, want, condition(own, k, kept, memoryStart), kept)
					require.NotEqual(t, "to be read", want)
					require.True(t, k == acme || want == "trusted")
				}
			}
			if ref.ID != "other" {
				require.Equal(t, "doubtful", condition(own, acme, ref, memoryStart))
			}
		})
	}
}

// A change costs the same however much is kept that it does not concern.
func BenchmarkCustomerChanges(b *testing.B) {
	for _, sites := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(sites, " resources"), func(b *testing.B) {
			m := trackedMemory(sites, 0)
			for n := range sites {
				putOne(m, site(n), callsRef, memoryStart)
			}
			m.Changed("acme", memoryStart)
			b.ReportAllocs()
			for b.Loop() {
				putOne(m, site(0), callsRef, memoryStart)
				m.Changed("acme", memoryStart)
				m.Changed("acme#timestamp", memoryStart)
			}
		})
	}
}
