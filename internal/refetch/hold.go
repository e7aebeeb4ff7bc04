package refetch

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/cache"
)

// holds is the outage memory: live answers that could not be written to Redis,
// kept for a few seconds so that its absence does not become a request to the
// API for every check. Without Redis it is the memory that answers come from.
type holds struct {
	ttl   time.Duration // how long an answer is used
	stale time.Duration // how long after that it may be used if nothing newer can be had
	max   int           // how many entitlements are kept

	mu      sync.Mutex
	lru     *simplelru.LRU[cache.Key, hold]
	records int
}

// hold is an answer that is held, and the time since which no older one may be
// used, unless nothing newer can be had. Either can be there without the other.
type hold struct {
	live     *Live
	outdated bool // live is from before a change
	changed  time.Time
}

func newHolds(ttl, stale time.Duration, maxRecords int) *holds {
	h := &holds{ttl: ttl, stale: stale, max: maxRecords}
	// Bounded by records, in set; the limit here only has to be large enough.
	h.lru, _ = simplelru.NewLRU(1<<20, func(_ cache.Key, old hold) { h.records -= old.weight() })
	return h
}

func (h hold) weight() int {
	if h.live == nil {
		return 1
	}
	return max(1, len(h.live.State.Records))
}

// put keeps an answer, unless something newer is known: an answer whose fetch
// began later, or a change.
func (h *holds) put(k cache.Key, l *Live) {
	if h.ttl <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old, ok := h.lru.Peek(k)
	if ok && (old.changed.After(l.Began) || old.live != nil && !old.outdated && old.live.Began.After(l.Began)) {
		return
	}
	h.set(k, hold{live: l, changed: old.changed})
}

// set replaces what is held for k; the caller holds mu. An answer is held even
// if it is larger than all that may be, alone: else each check of that customer
// would ask the API.
func (h *holds) set(k cache.Key, new hold) {
	h.lru.Remove(k)
	h.lru.Add(k, new)
	h.records += new.weight()
	for h.records > h.max && h.lru.Len() > 1 {
		h.lru.RemoveOldest()
	}
}

// get returns the answer that is held for k, if it is young enough.
func (h *holds) get(k cache.Key, now time.Time) *Live {
	h.mu.Lock()
	defer h.mu.Unlock()
	held, ok := h.lru.Get(k)
	if !ok || held.live == nil || held.outdated {
		return nil
	}
	if age := now.Sub(held.live.At); age >= h.ttl {
		if age >= h.ttl+h.stale {
			h.lru.Remove(k)
		}
		return nil
	}
	return held.live
}

// getStale returns the answer that is held for k, if it is no older than maxAge,
// or young enough to be used as it is.
func (h *holds) getStale(k cache.Key, now time.Time, maxAge time.Duration) *Live {
	h.mu.Lock()
	defer h.mu.Unlock()
	held, ok := h.lru.Peek(k)
	if !ok || held.live == nil {
		return nil
	}
	if age := now.Sub(held.live.At); age > maxAge && (held.outdated || age >= h.ttl) {
		return nil
	}
	return held.live
}

// drop lets go of what is held for k: it is in Redis now.
func (h *holds) drop(k cache.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held, ok := h.lru.Peek(k)
	switch {
	case !ok || held.live == nil:
	case held.outdated:
		h.set(k, hold{changed: held.changed})
	default:
		h.lru.Remove(k)
	}
}

// change lets go of what is held for k, and of what is being fetched: k has
// changed. As amend makes it, it is kept for when nothing newer can be had.
func (h *holds) change(k cache.Key, now time.Time, amend func(*Live) *Live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := hold{changed: now}
	if old, ok := h.lru.Peek(k); ok && old.live != nil && h.stale > 0 {
		changed.live, changed.outdated = amend(old.live), true
	}
	h.set(k, changed)
}
