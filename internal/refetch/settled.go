package refetch

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/cache"
)

// ExpiryRefetch is the least time between two refetches of a customer that are
// made because something in its cached state has ended.
const ExpiryRefetch = 30 * time.Second

// maxSettlements bounds what is remembered of live fetches.
const maxSettlements = 1 << 15

// unset is no timestamp that a reading can have.
const unset int64 = -2

// settlement is what the last live fetch of a customer or resource settled, so
// that the same question is not asked again on every read.
type settlement struct {
	at        time.Time // of the last live fetch; zero: none
	began     time.Time // when that fetch began
	unwritten bool      // its answer is to go to Redis and is not there, or not yet
	writtenAt time.Time // when the answer of a live fetch was last seen to be in Redis
	failedAt  time.Time // of the last fetch that failed; zero: none since the last live fetch
	failures  int       // fetches that failed in a row
	err       error     // of the last fetch that failed

	valueSeen, valueWritten   int64 // the customer value's timestamp before and after
	globalSeen, globalWritten int64 // the global customer's
	withoutUsage              map[cache.Ref]struct{}

	// Fetches of the global customer that accompany one of the resource.
	globalBegan    time.Time // the last of them
	globalUnderWay int       // how many are not over
}

// settle notes a live fetch. What earlier fetches of the global customer wrote
// is settled by it as well.
func (m *settlement) settle(began, at time.Time, seen cache.Times, withoutUsage map[cache.Ref]struct{}) {
	m.began, m.at, m.unwritten = began, at, false
	m.failedAt, m.failures, m.err = time.Time{}, 0, nil
	m.valueSeen, m.valueWritten = seen.Value, unset
	m.globalSeen, m.withoutUsage = seen.Global, withoutUsage
}

// settlesGlobal reports whether the last live fetch of a resource stands
// although its global customer has the given timestamp: it is the one seen
// then, or comes from the fetch that accompanied it. That fetch alone settles
// nothing: the resource itself has to be fetched, and what a reading saw is to
// be the answer. As long as the accompanying fetch is under way there is no
// telling whose the timestamp is: the last one stands for now.
func (m *settlement) settlesGlobal(timestamp int64) (settles, forNow bool) {
	switch {
	case m.unwritten:
		return false, false
	case timestamp == m.globalSeen:
		return true, false
	case m.began.Before(m.globalBegan):
		return false, false
	case timestamp == m.globalWritten:
		return true, false
	}
	underWay := m.globalUnderWay > 0
	return underWay, underWay
}

// settled remembers settlements; the least recently used are forgotten.
type settled struct {
	mu  sync.Mutex
	lru *simplelru.LRU[cache.Key, *settlement]
}

func newSettled() *settled {
	lru, _ := simplelru.NewLRU[cache.Key, *settlement](maxSettlements, nil) // fails only for a size of 0
	return &settled{lru: lru}
}

// update changes what is remembered of k.
func (s *settled) update(k cache.Key, change func(*settlement)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, ok := s.lru.Get(k)
	if !ok {
		entry = &settlement{valueSeen: unset, valueWritten: unset, globalSeen: unset, globalWritten: unset}
		s.lru.Add(k, entry)
	}
	change(entry)
}

// get returns a copy of what is remembered of k.
func (s *settled) get(k cache.Key) (settlement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, ok := s.lru.Get(k)
	if !ok {
		return settlement{}, false
	}
	return *entry, true
}

// remaining takes off the faults that the last live fetch of k settled:
// a resource's relation to its global customer, and usages that do not exist.
// usage and wallet name the entitlements whose usage is absent. forNow says
// that a fetch under way decides whether something was rightly taken off.
func (s *settled) remaining(k cache.Key, faults cache.Faults, times cache.Times, usage, wallet cache.Ref) (rest cache.Faults, forNow bool) {
	const settles = cache.GlobalAbsent | cache.GlobalNewer | cache.UsageAbsent | cache.WalletUsageAbsent
	if faults&settles == 0 {
		return faults, false
	}
	m, ok := s.get(k)
	if !ok || m.at.IsZero() {
		return faults, false
	}
	if faults&(cache.GlobalAbsent|cache.GlobalNewer) != 0 {
		var settled bool
		if settled, forNow = m.settlesGlobal(times.Global); settled {
			faults &^= cache.GlobalAbsent | cache.GlobalNewer
		}
	}
	if times.Value == m.valueSeen || times.Value == m.valueWritten {
		if _, none := m.withoutUsage[usage]; none {
			faults &^= cache.UsageAbsent
		}
		if _, none := m.withoutUsage[wallet]; none {
			faults &^= cache.WalletUsageAbsent
		}
	}
	return faults, forNow
}
