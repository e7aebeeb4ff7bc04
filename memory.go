package stigg

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// refreshAfter is the part of LRUConfig.TTL after which, without Redis, an
// entry that is in use is fetched anew beside its callers.
const refreshAfter = 0.75

// remember sets up the memory in front of Redis.
func (c *Client) remember(lru *LRUConfig) {
	c.maxStale = lru.MaxStale
	if c.store == nil {
		c.refreshAhead = time.Duration(refreshAfter * float64(lru.TTL))
		return
	}
	c.memory = cache.NewMemory(lru.MaxEntries, lru.TTL)
	if lru.Revalidate {
		return
	}
	tracker, err := c.store.NewTracker(c.memory, c.report.tracking)
	if err != nil {
		c.report.tracking(false, err)
		return
	}
	c.tracker = tracker
}

// remembered answers from memory, if that is as good as asking Redis.
func (c *Client) remembered(k cache.Key, ref cache.Ref, withUsage bool, now time.Time, f *entitlements.Facts) bool {
	if c.memory == nil {
		return false
	}
	e, trusted := c.memory.Get(k, ref, now)
	if !trusted || !covers(e, withUsage) || factsEnded(&e.Facts, now) {
		return false
	}
	c.hit(SourceMemory, k)
	*f = e.Facts
	f.Source = SourceMemory
	return true
}

// covers reports whether an entry has what a check needs.
func covers(e *cache.Entry, withUsage bool) bool {
	return !withUsage || e.WithUsage || !e.Facts.Definition.UsageTrackable()
}

// rememberedStale answers from what is kept in this process, although it is out
// of date, when nothing newer can be had: from what was last read from Redis or
// what the API last said, whichever is newer.
func (c *Client) rememberedStale(k cache.Key, ref cache.Ref, withUsage bool, f *entitlements.Facts) bool {
	now := time.Now()
	held := c.refetch.HeldStale(k, now, c.maxStale)
	if c.memory != nil {
		e, confirmed := c.memory.Stale(k, ref, now, c.maxStale)
		if e != nil && covers(e, withUsage) && (held == nil || confirmed.After(held.At)) {
			*f = e.Facts
			f.Source = SourceMemory
			return true
		}
	}
	if held == nil {
		return false
	}
	liveFacts(held, ref, SourceMemory, f)
	return true
}

func (c *Client) beginRead(k cache.Key) cache.Token {
	if c.memory == nil {
		return cache.Token{}
	}
	return c.memory.Begin(k)
}

func (c *Client) endRead(t cache.Token) {
	if c.memory != nil {
		c.memory.End(t)
	}
}

func (c *Client) keepRead(t cache.Token, ref cache.Ref, withUsage bool, r *cache.Reading, began time.Time) {
	if c.memory != nil {
		c.memory.Put(t, ref, cache.NewEntry(r, withUsage, began))
	}
}

// read reads one entitlement from Redis: what may have changed about it, if
// the rest is remembered, else all of it. Where Redis refuses to tell the
// length of a value, all of it is read too.
func (c *Client) read(ctx context.Context, k cache.Key, ref cache.Ref, withUsage bool, now time.Time, r *cache.Reading) error {
	ctx, err := c.store.Bound(ctx) // for both
	if err != nil {
		return err
	}
	if c.memory != nil {
		if e, _ := c.memory.Get(k, ref, now); e != nil && covers(e, withUsage) {
			same, err := c.store.Revalidate(ctx, k, ref, e, r)
			var refusal redis.Error
			if same || err != nil && !errors.As(err, &refusal) {
				return err
			}
		}
	}
	return c.store.Read(ctx, k, ref, withUsage, r)
}

// rememberedState answers for a whole customer or resource from memory, if
// that is as good as asking Redis.
func (c *Client) rememberedState(k cache.Key, now time.Time) (knownState, bool) {
	if c.memory == nil {
		return knownState{}, false
	}
	list, entries := c.memory.GetList(k, now)
	if list == nil {
		return knownState{}, false
	}
	for _, e := range entries {
		if e.Facts.Definition.Ended(e.Facts.Usage, now) {
			return knownState{}, false
		}
	}
	s, ok := listState(list, entries)
	if ok {
		c.hit(SourceMemory, k)
	}
	return s, ok
}

// rememberedStaleState is rememberedStale for a whole customer or resource. err
// is why nothing newer can be had.
func (c *Client) rememberedStaleState(k cache.Key, err error) (s knownState, ok bool) {
	now := time.Now()
	held := c.refetch.HeldStale(k, now, c.maxStale)
	if c.memory != nil {
		list, entries, confirmed := c.memory.StaleList(k, now, c.maxStale)
		if list != nil && (held == nil || confirmed.After(held.At)) {
			s, ok = listState(list, entries)
		}
	}
	if !ok && held != nil {
		s, ok = liveState(held, SourceMemory, nil), true
	}
	if ok {
		s.stale = true
		c.counters.staleAnswers.Add(1)
		c.observe(Event{Type: EventStale, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Err: err})
	}
	return s, ok
}

// listState is what a remembered list says. ok is false if something that it
// names is not there: what is missing from an answer reads as a denial.
func listState(list *cache.Entry, entries []*cache.Entry) (s knownState, ok bool) {
	s = knownState{
		reason: list.DeniedReason, source: SourceMemory, dataTime: millisTime(list.Times.Value),
		entitlements: make([]cache.CachedEntitlement, len(entries)),
	}
	for i, e := range entries {
		if e.Facts.Definition == nil {
			return knownState{}, false
		}
		c := &s.entitlements[i]
		c.Definition, c.Usage = e.Facts.Definition, e.Facts.Usage
		if !e.Facts.DataTime.IsZero() {
			c.DataTime = e.Facts.DataTime.UnixMilli()
		}
	}
	return s, true
}

func (c *Client) keepState(t cache.Token, r *cache.StateReading, began time.Time) {
	if c.memory != nil {
		list, entries := cache.NewList(r, began)
		c.memory.PutList(t, list, entries)
	}
}

// forget drops what is remembered of a customer or resource that this process
// has just changed in Redis.
func (c *Client) forget(k cache.Key) {
	if c.memory != nil {
		c.memory.Forget(k, time.Now())
	}
}

// forgetUsages has what is remembered of usages that this process has just
// changed in Redis read again, and no more than that.
func (c *Client) forgetUsages(k cache.Key, updates []cache.UsageUpdate) {
	if c.memory == nil {
		return
	}
	now := time.Now()
	for i := range updates {
		c.memory.ForgetUsage(k, updates[i].Ref, now)
	}
}
