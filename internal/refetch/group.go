// Package refetch asks the API for a customer on behalf of everyone who waits
// for it: one fetch at a time per customer or resource, detached from any one
// caller, written back to Redis beside the callers.
//
// What can go wrong, and what happens:
//
//   - a caller gives up: the fetch goes on for the others, and for Redis;
//   - the API fails: everyone who waits is told; for a short time, growing with
//     repeated failures, whoever asks next is told the same at once;
//   - Redis does not take the answer (away, locked, read-only, out of memory):
//     the callers have it all the same; it is held in process for a few seconds;
//   - the client is closed: a fetch under way gets a moment to be finished.
package refetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

// Config configures a Group.
type Config struct {
	// Fetch asks the API.
	Fetch func(context.Context, cache.Key) (entitlements.State, entitlements.Source, error)
	// Store is where answers are written; nil if there is no Redis.
	Store *cache.Store
	// StoreUp reports whether Redis is worth writing to.
	StoreUp func() bool
	// Timeout bounds one fetch.
	Timeout time.Duration
	// HoldFor is how long an answer is held in process that could not be
	// written to Redis.
	HoldFor time.Duration
	// HoldStale is how much longer it is kept for when nothing newer can be had.
	HoldStale time.Duration
	// HoldRecords bounds how many entitlements are held.
	HoldRecords int
	// Alone says not to share fetches with other processes.
	Alone bool
	// OnEvent is told what happens; nil: nobody is.
	OnEvent func(Event)
}

const (
	// writeTimeout bounds a write-back, with the wait for the customer's lock.
	// Whoever holds the lock that long would overwrite what is written after.
	writeTimeout = 2 * time.Second
	// closeGrace is how long a fetch that is under way may go on after Close.
	closeGrace = time.Second
	// failures are not repeated within firstPause, which doubles with each
	// failure in a row up to longestPause.
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// Cause says why a customer is fetched.
type Cause struct {
	Faults  cache.Faults    // what was wrong with the reading
	Times   cache.Times     // what the reading saw
	Damaged []cache.Damaged // what the reading could not read
	// Read is when the reading began: what was written after it, it may have
	// missed. Zero: there was none.
	Read time.Time
	// WithGlobal asks for the resource's global customer as well.
	WithGlobal bool
	// Direct asks the API in any case, not waiting for another process.
	Direct bool
	// Look reports whether the cache has meanwhile what was missing; nil: it
	// is not looked at again.
	Look func(context.Context) bool
}

// NoTimes are the times of a cause that comes from no reading.
var NoTimes = cache.Times{Value: unset, Global: unset}

// Group runs fetches. It is safe for concurrent use.
type Group struct {
	config        Config
	settled       *settled
	holds         *holds
	recent        *recent
	announcements *cache.Announcements // nil: fetches are not shared

	base    context.Context
	cancel  context.CancelFunc
	closing chan struct{}
	wait    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	flights map[flightKey]*flight
	ending  map[cache.Key]int // flights that nobody joins any more, and that are not over
}

// flightKey tells the flights that ask the API from those that may wait for
// another process. One that waited and then asks has both keys.
type flightKey struct {
	cache.Key
	direct bool
}

// flight is one fetch. It stays open until its answer is written back, so that
// whoever comes in between gets the known answer.
type flight struct {
	done chan struct{} // closed when live and err are set
	live *Live         // nil without err: look at the cache, another process has fetched
	err  error
	over chan struct{} // closed when the answer is written back, and valueTime set
	// valueTime is the timestamp that the customer value has when the flight
	// is over; unset if it does not come from the flight.
	valueTime int64
	// after are told valueTime when the flight is over; guarded by Group.mu.
	after []func(valueTime int64)
	// ending says that the flight is counted in Group.ending; guarded by Group.mu.
	ending bool
	// echo says that a flight of this process was ending when this one began:
	// the next announcement may be of that one.
	echo bool
}

// finish gives the outcome to everyone who waits.
func (f *flight) finish(live *Live, err error) {
	f.live, f.err = live, err
	close(f.done)
}

// New makes a Group.
func New(config Config) *Group {
	g := &Group{
		config: config, settled: newSettled(), recent: newRecent(), holds: newHolds(config.HoldFor, config.HoldStale, config.HoldRecords),
		closing: make(chan struct{}), flights: make(map[flightKey]*flight), ending: make(map[cache.Key]int),
	}
	g.base, g.cancel = context.WithCancel(context.Background())
	if config.Store != nil && !config.Alone {
		g.announcements = config.Store.NewAnnouncements()
	}
	return g
}

// Get fetches k, or joins the fetch of it that is under way here or in another
// process, and waits for the answer as long as ctx allows. No answer and no
// error mean that it was fetched meanwhile, by another process or after the
// reading: look at the cache, and if it still misses, ask again with
// Cause.Direct.
func (g *Group) Get(ctx context.Context, k cache.Key, cause Cause) (*Live, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := g.join(k, cause)
	if err != nil || f == nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.live, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join returns the flight for k, which it starts if there is none; nil if the
// cache is to be looked at again first.
func (g *Group) join(k cache.Key, cause Cause) (*flight, error) {
	f, joined, err := g.joinOrStart(k, cause)
	switch {
	case err != nil && !errors.Is(err, apierr.ErrClosed):
		g.event(Event{Kind: Repeated, Key: k, Err: err})
	case f == nil:
	case joined:
		g.event(Event{Kind: Joined, Key: k})
	default:
		g.event(Event{Kind: Started, Key: k, Faults: cause.Faults})
	}
	return f, err
}

func (g *Group) joinOrStart(k cache.Key, cause Cause) (f *flight, joined bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false, apierr.ErrClosed
	}
	if f, ok := g.flights[flightKey{k, cause.Direct}]; ok {
		return f, true, nil
	}
	if m, ok := g.settled.get(k); ok {
		switch {
		case time.Since(m.failedAt) < pause(m.failures):
			return nil, false, m.err
		case !cause.Read.IsZero() && m.writtenAt.After(cause.Read):
			return nil, false, nil
		}
	}
	if cause.WithGlobal && k.ResourceID != "" {
		g.startGlobal(k, cause)
	}
	return g.start(k, cause), false, nil
}

// startGlobal fetches the global customer of a resource beside the resource,
// which is fetched next; the caller holds mu. What it changes is no reason to
// fetch the resource once more.
func (g *Group) startGlobal(k cache.Key, cause Cause) {
	customer := k.Customer()
	global, ok := g.flights[flightKey{customer, cause.Direct}]
	if !ok {
		why := Cause{Times: cache.Times{Value: cause.Times.Global, Global: unset}, Direct: cause.Direct}
		if cause.Times.Global == cache.NoTimestamp {
			why.Look = func(ctx context.Context) bool {
				times, err := g.config.Store.ReadTimes(ctx, customer)
				return err == nil && times.Value != cache.NoTimestamp
			}
		}
		global = g.start(customer, why)
	}
	g.settled.update(k, func(m *settlement) {
		m.globalBegan = time.Now()
		m.globalUnderWay++
	})
	global.after = append(global.after, func(valueTime int64) {
		g.settled.update(k, func(m *settlement) {
			m.globalUnderWay = max(0, m.globalUnderWay-1) // it may have been forgotten meanwhile
			if valueTime != unset {
				m.globalWritten = valueTime
			}
		})
	})
}

// pause is how long a failure stands before the API is asked again.
func pause(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(firstPause<<min(failures-1, 10), longestPause)
}

// start begins a flight; the caller holds mu.
func (g *Group) start(k cache.Key, cause Cause) *flight {
	f := &flight{done: make(chan struct{}), over: make(chan struct{}), valueTime: unset, echo: g.ending[k] > 0}
	g.flights[flightKey{k, cause.Direct}] = f
	g.wait.Add(1)
	go g.run(f, k, cause)
	return f
}

func (g *Group) run(f *flight, k cache.Key, cause Cause) {
	defer g.wait.Done()
	switch {
	case g.announcements == nil || cause.Direct || !g.writable(k):
		_ = g.fetchAlone(f, k, cause)
	default:
		g.fleetFlight(f, k, cause)
	}
	after := g.end(f, k)
	close(f.over)
	for _, tell := range after {
		tell(f.valueTime)
	}
}

// leave lets nobody join the flight any more, though it is not over.
func (g *Group) leave(f *flight, k cache.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlist(f, k)
	f.ending = true
	g.ending[k]++
}

// end ends the flight, and returns who wants to be told of it.
func (g *Group) end(f *flight, k cache.Key) (after []func(int64)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlist(f, k)
	if f.ending {
		if g.ending[k]--; g.ending[k] == 0 {
			delete(g.ending, k)
		}
	}
	return f.after
}

// unlist takes the flight from those that are joined; the caller holds mu.
func (g *Group) unlist(f *flight, k cache.Key) {
	for _, fk := range []flightKey{{k, false}, {k, true}} {
		if g.flights[fk] == f {
			delete(g.flights, fk)
		}
	}
}

// found ends the flight if the cache has meanwhile what was missing.
func (g *Group) found(ctx context.Context, f *flight, k cache.Key, cause Cause) bool {
	if cause.Look == nil || !cause.Look(ctx) {
		return false
	}
	f.finish(nil, nil)
	if times, err := g.config.Store.ReadTimes(ctx, k); err == nil {
		f.valueTime = times.Value
	}
	return true
}

// fetchAlone fetches, gives the answer to everyone who waits, and writes it to
// Redis.
func (g *Group) fetchAlone(f *flight, k cache.Key, cause Cause) error {
	if other := g.fetching(f, k); other != nil {
		<-other.done
		f.finish(other.live, other.err)
		<-other.over
		f.valueTime = other.valueTime
		return other.err
	}
	live, err := g.fetch(k, cause)
	switch {
	case err != nil:
		f.finish(nil, err)
	case g.writable(k):
		f.finish(live, nil)
		f.valueTime, _ = g.write(k, live, cause)
		g.leave(f, k) // Redis has it, or it is held: what else the flight does may take long
	default:
		g.holds.put(k, live) // before the answer, so that nobody asks in between
		f.finish(live, nil)
	}
	return err
}

// fetching makes f the flight that asks the API for k in this process, for
// those as well who want it asked in any case. If another does so already,
// that one is returned.
func (g *Group) fetching(f *flight, k cache.Key) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	other, ok := g.flights[flightKey{k, true}]
	if !ok {
		g.flights[flightKey{k, true}] = f
		return nil
	}
	if other == f {
		return nil
	}
	return other
}

// fetch asks the API and remembers what the answer settles.
func (g *Group) fetch(k cache.Key, cause Cause) (*Live, error) {
	ctx, cancel := context.WithTimeout(g.base, g.config.Timeout)
	defer cancel()
	live, err := g.ask(ctx, k)
	if g.base.Err() != nil && err != nil {
		return nil, fmt.Errorf("%w: %w", apierr.ErrClosed, err)
	}
	g.settled.update(k, func(m *settlement) {
		if err != nil {
			m.failedAt, m.err = time.Now(), err
			m.failures++
			return
		}
		m.settle(live.Began, live.At, cause.Times, live.withoutUsage())
		m.unwritten = g.writable(k)
	})
	return live, err
}

func (g *Group) ask(ctx context.Context, k cache.Key) (*Live, error) {
	began := time.Now()
	state, source, err := g.config.Fetch(ctx, k)
	g.event(Event{Kind: Fetched, Key: k, Source: source, Err: err, Duration: time.Since(began)})
	if err != nil {
		return nil, err
	}
	return g.newLive(k, state, source, began), nil
}

// newLive makes a Live of an answer, with the usages that were heard of since
// over those that the API may not know of yet.
func (g *Group) newLive(k cache.Key, state entitlements.State, source entitlements.Source, began time.Time) *Live {
	now := time.Now()
	g.recent.overlay(k, &state, now)
	live := newLive(state, source, began)
	live.overlaid = now
	return live
}

// amended is a live answer with the usages that were heard of since it was made.
func (g *Group) amended(k cache.Key, l *Live) *Live {
	now := time.Now()
	if len(g.recent.since(k, l.overlaid, now)) == 0 {
		return l
	}
	state := l.State
	state.Records = slices.Clone(state.Records) // l is shared
	g.recent.overlay(k, &state, now)
	amended := newLive(state, l.Source, l.Began)
	amended.At, amended.overlaid = l.At, now
	return amended
}

func (g *Group) writable(k cache.Key) bool {
	return g.config.Store != nil && !k.Ambiguous() && g.config.StoreUp()
}

// write writes a live answer to Redis and returns the timestamp that the
// customer value has then, unset if it is not this answer's. An answer that
// Redis does not take is held.
func (g *Group) write(k cache.Key, live *Live, cause Cause) (int64, error) {
	ctx, cancel := context.WithTimeout(g.base, writeTimeout)
	defer cancel()
	result, err := g.config.Store.WriteState(ctx, k, live.State, cache.WriteOptions{
		FetchBegan: live.Began, Heal: true, Damaged: cause.Damaged,
	})
	g.event(Event{Kind: Written, Key: k, Result: result, Err: err})
	if err != nil {
		g.holds.put(k, live)
		return unset, err
	}
	g.holds.drop(k)
	if updates := g.recent.since(k, live.overlaid, time.Now()); len(updates) > 0 {
		// They came before there was a customer to update.
		_, err := g.config.Store.UpdateUsages(ctx, k, updates)
		g.event(Event{Kind: Written, Key: k, Err: err})
	}
	at := result.ValueTime
	if result.ValueKept {
		at = unset // it may have been written after the API was asked
	}
	g.settled.update(k, func(m *settlement) {
		m.valueWritten, m.writtenAt, m.unwritten = at, time.Now(), false
	})
	return at, nil
}

// Reload fetches k with fetch, not sharing any fetch that began before, and
// waits until the answer is in Redis, or until it is held in process where
// Redis is away. It fails where Redis is there and does not take the answer:
// what it holds of k goes on being read.
func (g *Group) Reload(ctx context.Context, k cache.Key, fetch func(context.Context, cache.Key) (entitlements.State, entitlements.Source, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return apierr.ErrClosed
	}
	g.wait.Add(1)
	g.mu.Unlock()

	done := make(chan error, 1)
	go func() {
		defer g.wait.Done()
		fetchCtx, cancel := context.WithTimeout(g.base, g.config.Timeout)
		defer cancel()
		seen := NoTimes
		if g.writable(k) {
			if times, err := g.config.Store.ReadTimes(fetchCtx, k); err == nil {
				seen = times
			}
		}
		began := time.Now()
		state, source, err := fetch(fetchCtx, k)
		g.event(Event{Kind: Fetched, Key: k, Source: source, Err: err, Duration: time.Since(began)})
		if err != nil {
			done <- err
			return
		}
		live := g.newLive(k, state, source, began)
		g.settled.update(k, func(m *settlement) { m.settle(began, live.At, seen, live.withoutUsage()) })
		g.detach(k, began)
		if !g.writable(k) {
			g.holds.put(k, live)
			done <- nil
			return
		}
		var refusal redis.Error
		_, err = g.write(k, live, Cause{Times: NoTimes})
		if errors.As(err, &refusal) || errors.Is(err, cache.ErrLocked) {
			done <- fmt.Errorf("redis does not take what was fetched: %w", err)
			return
		}
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Held returns the live answer that is held in process for k; nil if there is
// none, or if what ref names (nothing: all) has ended in it and the API may be
// asked about that again. One that is older than refreshAfter (0: never) is
// fetched anew beside the caller.
func (g *Group) Held(k cache.Key, ref cache.Ref, now time.Time, refreshAfter time.Duration) *Live {
	live := g.holds.get(k, now)
	if live != nil && now.Sub(live.At) >= ExpiryRefetch && live.ended(ref, now) {
		return nil
	}
	if live != nil && refreshAfter > 0 && now.Sub(live.At) >= refreshAfter {
		// An error means that it failed a moment ago, or that the group is closed.
		_, _, _ = g.joinOrStart(k, Cause{Times: NoTimes, Direct: true})
	}
	return live
}

// HeldStale returns the answer that is held in process for k although it is
// out of date, if it is no older than maxAge; nil if there is none.
func (g *Group) HeldStale(k cache.Key, now time.Time, maxAge time.Duration) *Live {
	if maxAge <= 0 {
		return nil
	}
	return g.holds.getStale(k, now, maxAge)
}

// Changed says that usages of k have changed just now: what is held in process
// is let go, no check joins a fetch that began before, and no fetch that began
// before brings back the usages from before.
//
// It waits, as long as ctx allows, until the answers of those fetches are in
// Redis: they do not know of the change, and what is written after them stands.
func (g *Group) Changed(ctx context.Context, k cache.Key, updates []cache.UsageUpdate) {
	now := time.Now()
	g.recent.add(k, updates, now)
	for _, f := range g.detach(k, now) {
		select {
		case <-f.over:
		case <-ctx.Done():
			return
		}
	}
}

// detach lets go of what is held for k from before a time, and of the fetches
// under way, which nobody joins any more.
func (g *Group) detach(k cache.Key, before time.Time) (detached []*flight) {
	g.holds.change(k, before, func(l *Live) *Live { return g.amended(k, l) })
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, direct := range []bool{false, true} {
		if f, ok := g.flights[flightKey{k, direct}]; ok {
			detached = append(detached, f)
			delete(g.flights, flightKey{k, direct})
		}
	}
	return detached
}

// Remaining takes off the faults of a reading that the last live fetch of k
// settled. usage and wallet name the entitlements whose usage the reading
// wanted. forNow says that the reading is not to be remembered: whether it is
// up to date is for a fetch to say that is under way.
func (g *Group) Remaining(k cache.Key, faults cache.Faults, times cache.Times, usage, wallet cache.Ref) (rest cache.Faults, forNow bool) {
	return g.settled.remaining(k, faults, times, usage, wallet)
}

// Expired says what to do about a cached answer of k in which something has
// ended: stands means that the API said the same a moment ago; an error means
// that it was asked a moment ago and failed; neither, that it is to be asked,
// or that there is a newer answer already, which Get or Held gives.
func (g *Group) Expired(k cache.Key, now time.Time) (stands bool, err error) {
	m, ok := g.settled.get(k)
	if !ok {
		return false, nil
	}
	if m.err != nil && now.Sub(m.failedAt) < ExpiryRefetch {
		return false, m.err
	}
	if m.unwritten && g.atHand(k, now) {
		return false, nil
	}
	return !m.at.IsZero() && now.Sub(m.at) < ExpiryRefetch, nil
}

// atHand reports whether this process has a live answer for k that Redis does
// not have, or will have one in a moment.
func (g *Group) atHand(k cache.Key, now time.Time) bool {
	if g.holds.get(k, now) != nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, fetching := g.flights[flightKey{k, true}]
	return fetching
}

// Close ends the group: what is under way gets a moment to be finished, then
// is cancelled. It returns when no goroutine is left.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	close(g.closing)
	g.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		g.wait.Wait()
		close(idle)
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-idle:
	case <-grace.C:
	}
	g.cancel()
	<-idle
	if g.announcements != nil {
		g.announcements.Close()
	}
}
