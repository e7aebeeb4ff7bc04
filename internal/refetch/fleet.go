package refetch

import (
	"context"
	"fmt"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

const (
	// extendEvery is how often the refetch lock is extended while a fetch runs.
	extendEvery = cache.LockTTL / 3
	// pollEvery is how often a waiter looks whether the owner's lock is gone.
	pollEvery = 250 * time.Millisecond
	// waitSlack is how much longer than a fetch may take a waiter waits for
	// the owner's announcement.
	waitSlack = 500 * time.Millisecond
	// farewell bounds each of the last things to do when a fetch is over or the
	// client closed: note what it settled, release the lock, announce.
	farewell = 500 * time.Millisecond
)

// fleetFlight is a flight among all processes that share the Redis: one of
// them fetches, the others wait for its announcement.
//
// The order is: take the lock; who gets it looks at the cache once more, then
// fetches; who does not listens for the announcement, looks at the cache once
// more, tries the lock once more, then waits. What ends the wait: an
// announcement; the lock being gone without one (the owner died or its
// announcement was lost), after which the waiter takes over; Redis not
// answering, or the bound, after which it asks the API itself.
func (g *Group) fleetFlight(f *flight, k cache.Key, cause Cause) {
	ctx, cancel := context.WithTimeout(g.base, g.config.Timeout+waitSlack)
	defer cancel()
	if g.takeLock(ctx, f, k, cause) {
		return
	}
	g.event(Event{Kind: Waited, Key: k})
	announcements, stop := g.listen(ctx, k)
	defer stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		if g.found(ctx, f, k, cause) {
			return
		}
		select {
		case success := <-announcements: // made while the cache was looked at
			if g.announced(f, k, success) {
				return
			}
		default:
		}
		if g.takeLock(ctx, f, k, cause) || !g.waitForLock(ctx, f, k, cause, announcements, poll.C) {
			return
		}
	}
}

// takeLock tries to take the refetch lock, and to finish the flight as its
// owner. It reports false if somebody else has the lock.
func (g *Group) takeLock(ctx context.Context, f *flight, k cache.Key, cause Cause) bool {
	lock, err := g.config.Store.TryRefetchLock(ctx, k)
	switch {
	case err != nil:
		_ = g.fetchAlone(f, k, cause) // without Redis there is no fleet
		g.release(lock)               // it may have been taken although the answer was lost
	case lock != nil:
		g.fetchForAll(ctx, f, k, cause, lock)
	default:
		return false
	}
	return true
}

// waitForLock waits until nobody holds the refetch lock any more, as far as can
// be told. It reports false if the flight came to its end in another way.
func (g *Group) waitForLock(ctx context.Context, f *flight, k cache.Key, cause Cause, announcements <-chan bool, poll <-chan time.Time) bool {
	for {
		select {
		case success := <-announcements:
			return !g.announced(f, k, success)
		case <-poll:
			held, err := g.config.Store.RefetchLocked(ctx, k)
			switch {
			case err != nil:
				_ = g.fetchAlone(f, k, cause)
				return false
			case !held:
				return true
			}
		case <-g.closing:
			f.finish(nil, fmt.Errorf("%w while waiting for another process", apierr.ErrClosed))
			return false
		case <-ctx.Done():
			_ = g.fetchAlone(f, k, cause)
			return false
		}
	}
}

// listen begins to wait for announcements about k. Without a connection for
// them the waiter still looks for itself.
func (g *Group) listen(ctx context.Context, k cache.Key) (<-chan bool, func()) {
	wait, err := g.announcements.Wait(ctx, k)
	if err != nil {
		return nil, func() {}
	}
	return wait.C, wait.Close
}

// announced ends a flight whose end another process has announced: its callers
// look at the cache, which alone tells, because ids that collide share a
// channel. It reports false if the announcement may be of an earlier fetch by
// this process, which had written its answer before this flight's callers found
// something missing: then it is no answer to them.
func (g *Group) announced(f *flight, k cache.Key, success bool) bool {
	if f.echo {
		f.echo = false
		return false
	}
	if success {
		g.settleAnnounced(f, k)
	}
	f.finish(nil, nil)
	return true
}

// settleAnnounced remembers that another process has fetched k a moment ago:
// what that settled holds for this process too. A usage that Redis does not
// have just after it is one that the API did not give.
func (g *Group) settleAnnounced(f *flight, k cache.Key) {
	ctx, cancel := context.WithTimeout(g.base, farewell)
	defer cancel()
	r, err := g.config.Store.ReadState(ctx, k)
	if err != nil {
		return
	}
	var withoutUsage map[cache.Ref]struct{}
	for i := range r.Entitlements {
		if e := &r.Entitlements[i]; e.Faults&cache.UsageAbsent != 0 {
			if withoutUsage == nil {
				withoutUsage = make(map[cache.Ref]struct{})
			}
			withoutUsage[cache.RefOf(e.Definition)] = struct{}{}
		}
	}
	f.valueTime = r.Times.Value
	g.settled.update(k, func(m *settlement) {
		now := time.Now()
		m.settle(now, now, r.Times, withoutUsage)
		m.writtenAt = now
	})
}

// fetchForAll fetches as the owner of the refetch lock, unless the cache has
// the answer meanwhile: it goes to the callers as soon as it is known, then to
// Redis; then the lock is released and the end announced, whatever it was.
func (g *Group) fetchForAll(ctx context.Context, f *flight, k cache.Key, cause Cause, lock *cache.Lock) {
	var err error
	if !g.found(ctx, f, k, cause) {
		stopExtending := g.keepExtending(lock)
		err = g.fetchAlone(f, k, cause)
		stopExtending()
	}
	g.release(lock)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	// An announcement that cannot be made is made up for by the waiters' own looking.
	_ = g.config.Store.Announce(ctx, k, publicError(err))
}

// release gives a lock back if it is ours. One that cannot be given back ends
// by itself.
func (g *Group) release(lock *cache.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.base), farewell)
	defer cancel()
	_ = lock.Release(ctx)
}

// publicError is what is announced of a failure: its kind, not its text, which
// may name the customer.
func publicError(err error) error {
	if err == nil {
		return nil
	}
	return kindOf(err)
}

// keepExtending extends a lock until stop is called or the lock is lost.
func (g *Group) keepExtending(lock *cache.Lock) (stop func()) {
	ctx, cancel := context.WithCancel(g.base)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(extendEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// A failure is tried again at the next tick; there are two before the lock ends.
			if ours, err := lock.Extend(ctx); err == nil && !ours {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
