package refetch

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/cache"
)

// maxHeldRecords bounds how many entitlements the outage memory keeps.
const maxHeldRecords = 50_000

// holds is the outage memory: live answers that could not be written to Redis,
// kept for a few seconds so that its absence does not become a request to the
// API for every check.
type holds struct {
	ttl time.Duration

	mu      sync.Mutex
	lru     *simplelru.LRU[cache.Key, *Live]
	records int
}

func newHolds(ttl time.Duration) *holds {
	h := &holds{ttl: ttl}
	// Bounded by records, in put; the limit here only has to be large enough.
	h.lru, _ = simplelru.NewLRU(1<<20, func(_ cache.Key, l *Live) { h.records -= weight(l) })
	return h
}

func weight(l *Live) int { return len(l.State.Records) + 1 }

// put keeps an answer, unless it already has one whose fetch began later.
func (h *holds) put(k cache.Key, l *Live) {
	if h.ttl <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.lru.Peek(k); ok && old.Began.After(l.Began) {
		return
	}
	h.lru.Remove(k)
	h.lru.Add(k, l)
	h.records += weight(l)
	for h.records > maxHeldRecords {
		h.lru.RemoveOldest()
	}
}

// get returns the answer that is held for k, if it is young enough.
func (h *holds) get(k cache.Key, now time.Time) *Live {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.lru.Get(k)
	if !ok {
		return nil
	}
	if now.Sub(l.At) >= h.ttl {
		h.lru.Remove(k)
		return nil
	}
	return l
}

// drop forgets what is held for k.
func (h *holds) drop(k cache.Key) {
	h.mu.Lock()
	h.lru.Remove(k)
	h.mu.Unlock()
}
