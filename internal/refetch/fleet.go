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
	// farewell bounds what an owner still does when its fetch is over or its
	// client closed: release the lock, announce.
	farewell = 500 * time.Millisecond
)

// fleetFlight is a flight among all processes that share the Redis: one of
// them fetches, the others wait for its announcement.
//
// The order is: take the lock; who does not get it listens for the
// announcement, looks at the cache once more, tries the lock once more, then
// waits. What ends the wait: an announcement; the lock being gone without one
// (the owner died or its announcement was lost), after which the waiter takes
// over; the bound, after which it asks the API itself.
func (g *Group) fleetFlight(f *flight, k cache.Key, cause Cause) {
	ctx, cancel := context.WithTimeout(g.base, g.config.Timeout+waitSlack)
	defer cancel()
	lock, err := g.config.Store.TryRefetchLock(ctx, k)
	switch {
	case err != nil:
		g.fetchAlone(f, k, cause) // without Redis there is no fleet
		return
	case lock != nil:
		g.fetchForAll(f, k, cause, lock)
		return
	}
	g.event(Event{Kind: Waited, Key: k})
	announcements, stop := g.listen(ctx, k)
	defer stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for first := true; ; first = false {
		if !first {
			select {
			case success := <-announcements:
				// Ids that collide share a channel: only the cache tells.
				if success {
					g.settleAnnounced(f, k)
				}
				f.finish(nil, nil)
				return
			case <-poll.C:
				held, err := g.config.Store.RefetchLocked(ctx, k)
				if err != nil {
					g.fetchAlone(f, k, cause)
					return
				}
				if held {
					continue
				}
			case <-g.closing:
				f.finish(nil, fmt.Errorf("%w while waiting for another process", apierr.ErrClosed))
				return
			case <-ctx.Done():
				g.fetchAlone(f, k, cause)
				return
			}
		}
		if cause.Look != nil && cause.Look(ctx) {
			f.finish(nil, nil)
			return
		}
		if lock, err := g.config.Store.TryRefetchLock(ctx, k); err == nil && lock != nil {
			g.fetchForAll(f, k, cause, lock)
			return
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

// settleAnnounced remembers that another process has fetched k a moment ago:
// what that settled holds for this process too.
func (g *Group) settleAnnounced(f *flight, k cache.Key) {
	ctx, cancel := context.WithTimeout(g.base, farewell)
	defer cancel()
	times, err := g.config.Store.ReadTimes(ctx, k)
	if err != nil {
		return
	}
	f.valueTime = times.Value
	g.settled.update(k, func(m *settlement) {
		*m = settlement{
			at:        time.Now(),
			valueSeen: times.Value, valueWritten: unset,
			globalSeen: times.Global, globalWritten: unset,
		}
	})
}

// fetchForAll fetches as the owner of the refetch lock: the answer goes to the
// callers as soon as it is known, then to Redis; then the lock is released and
// the end announced, whatever it was.
func (g *Group) fetchForAll(f *flight, k cache.Key, cause Cause, lock *cache.Lock) {
	stopExtending := g.keepExtending(lock)
	err := g.fetchAlone(f, k, cause)
	stopExtending()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.base), farewell)
	defer cancel()
	// A lock that cannot be released ends by itself, and an announcement that
	// cannot be made is made up for by the waiters' own looking.
	_ = lock.Release(ctx)
	_ = g.config.Store.Announce(ctx, k, publicError(err))
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
