package refetch

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

const (
	// maxRecent bounds for how many customers and resources changes are remembered.
	maxRecent = 1 << 14
	// recentFor is how long a change is remembered: longer than a fetch and
	// its write-back take, and than the Edge API takes to know of it.
	recentFor = time.Minute
)

// recent remembers the usages that this process was told of as the outcome of
// its own reports. A fetch that began before a report, or from an API that does
// not know of it yet, must not bring back the usage from before.
type recent struct {
	mu  sync.Mutex
	lru *simplelru.LRU[cache.Key, map[cache.Ref]recentUsage]
}

type recentUsage struct {
	update cache.UsageUpdate
	heard  time.Time
}

func newRecent() *recent {
	lru, _ := simplelru.NewLRU[cache.Key, map[cache.Ref]recentUsage](maxRecent, nil) // fails only for a size of 0
	return &recent{lru: lru}
}

// add remembers usages of k.
func (r *recent) add(k cache.Key, updates []cache.UsageUpdate, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	usages, ok := r.lru.Get(k)
	if !ok {
		usages = make(map[cache.Ref]recentUsage, len(updates))
		r.lru.Add(k, usages)
	}
	for ref, u := range usages {
		if now.Sub(u.heard) >= recentFor {
			delete(usages, ref)
		}
	}
	for _, u := range updates {
		if old, ok := usages[u.Ref]; !ok || !old.update.At.After(u.At) {
			usages[u.Ref] = recentUsage{u, now}
		}
	}
}

// since gives the usages of k that were heard of after a time.
func (r *recent) since(k cache.Key, after, now time.Time) []cache.UsageUpdate {
	r.mu.Lock()
	defer r.mu.Unlock()
	usages, _ := r.lru.Peek(k)
	var updates []cache.UsageUpdate
	for _, u := range usages {
		if u.heard.After(after) && now.Sub(u.heard) < recentFor {
			updates = append(updates, u.update)
		}
	}
	return updates
}

// overlay puts the usages that were heard of lately over those of an answer
// where they are newer. The answer must not be shared yet.
func (r *recent) overlay(k cache.Key, state *entitlements.State, now time.Time) {
	for _, u := range r.since(k, time.Time{}, now) {
		for i := range state.Records {
			record := &state.Records[i]
			if cache.RefOf(&record.Definition) != u.Ref || !u.At.After(record.Usage.UpdatedAt) {
				continue
			}
			record.Usage, record.HasUsage = u.Usage, true
			record.Usage.UpdatedAt = u.At
		}
	}
}
