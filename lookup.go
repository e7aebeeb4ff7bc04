package stigg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/deadline"
	"github.com/stiggio/server-sdk-go/internal/refetch"
)

// slowWait is how long a caller whose own deadline ended must have waited for
// Redis for that to say something about Redis.
const slowWait = 10 * time.Millisecond

// lookup finds what is known of one entitlement. It reports whether f can be
// answered from. The error says what failed: with found, that the facts are
// stale; without, why there are none.
func (c *Client) lookup(ctx context.Context, k cache.Key, ref cache.Ref, withUsage bool, f *entitlements.Facts) (found bool, err error) {
	if err := c.usable(); err != nil {
		return false, err
	}
	began := time.Now()
	if c.remembered(k, ref, withUsage, began, f) {
		return true, nil
	}
	if !c.redisUp() || k.Ambiguous() {
		c.bypassed(k)
		return c.askWithout(ctx, k, ref, withUsage, nil, f)
	}
	var r cache.Reading
	token := c.beginRead(k)
	if err := c.read(ctx, k, ref, withUsage, began, &r); err != nil {
		c.endRead(token)
		if ended := c.redisFailed(ctx, began, err); ended != nil {
			return false, ended
		}
		return c.askWithout(ctx, k, ref, withUsage, err, f)
	}
	c.health.Succeeded()
	switch verdict, err := c.judge(k, ref, &r, began); verdict {
	case hit, hitForNow:
		if verdict == hit {
			c.keepRead(token, ref, withUsage, &r, began)
		} else {
			c.endRead(token)
		}
		c.hit(SourceRedis, k)
		*f = r.Facts
		return true, nil
	case outdated:
		c.endRead(token)
		*f = r.Facts
		return true, c.stale(k, f, err)
	}
	c.endRead(token)
	c.miss(k, r.Faults)
	return c.askWith(ctx, k, ref, withUsage, r, began, f)
}

// verdict is what a reading is good for.
type verdict uint8

const (
	miss      verdict = iota // the API is to be asked
	hit                      // the answer
	hitForNow                // the answer, but not one to be remembered
	outdated                 // something in it has ended, and the API was asked a moment ago and failed
)

// answers reports whether the reading is an answer that needs no fetch.
func (v verdict) answers() bool { return v == hit || v == hitForNow }

// judge tells what a reading of one entitlement is good for.
func (c *Client) judge(k cache.Key, ref cache.Ref, r *cache.Reading, now time.Time) (verdict, error) {
	faults, good := r.Faults, hit
	if faults != 0 {
		if faults&cache.Unreadable != 0 {
			c.counters.unreadableValues.Add(1)
			c.report.unreadable(k, faults)
		}
		var forNow bool
		if faults, forNow = c.refetch.Remaining(k, faults, r.Times, ref, walletRef(&r.Facts)); forNow {
			good = hitForNow
		}
	}
	if faults != 0 {
		return miss, nil
	}
	if !factsEnded(&r.Facts, now) {
		return good, nil
	}
	return c.judgeEnded(k, good, now)
}

// judgeEnded tells what a reading is good for in which something has ended, and
// which is good otherwise.
func (c *Client) judgeEnded(k cache.Key, good verdict, now time.Time) (verdict, error) {
	stands, err := c.refetch.Expired(k, now)
	switch {
	case err != nil:
		return outdated, err
	case stands:
		return good, nil
	}
	return miss, nil
}

// factsEnded reports whether something that an answer depends on has ended, of
// the entitlement or of its wallet.
func factsEnded(f *entitlements.Facts, now time.Time) bool {
	return f.Definition.Ended(f.Usage, now) || f.Wallet.Ended(f.WalletUsage, now)
}

func walletRef(f *entitlements.Facts) cache.Ref {
	if f.Wallet == nil {
		return cache.Ref{}
	}
	return cache.RefOf(f.Wallet)
}

// redisFailed counts a failure of Redis. It returns an error if it was the
// caller's context that ended.
func (c *Client) redisFailed(ctx context.Context, began time.Time, err error) error {
	ended := deadline.Err(ctx)
	if ended == nil || errors.Is(ended, context.DeadlineExceeded) && time.Since(began) >= slowWait {
		c.counters.redisErrors.Add(1)
		c.observe(Event{Type: EventRedisFailed, Err: err})
		c.health.Failed(err)
	}
	if ended != nil {
		return fmt.Errorf("stigg: %w", ended)
	}
	return nil
}

// bypassed counts a check that does not ask Redis.
func (c *Client) bypassed(k cache.Key) {
	if c.store == nil {
		return
	}
	c.counters.redisBypassed.Add(1)
	if k.Ambiguous() {
		c.counters.ambiguousChecks.Add(1)
		c.report.ambiguous(k)
		c.observe(Event{Type: EventAmbiguousID, CustomerID: k.CustomerID, ResourceID: k.ResourceID})
	}
}

// askWithout answers without anything from Redis, which was not asked, or did
// not answer because of redisErr.
func (c *Client) askWithout(ctx context.Context, k cache.Key, ref cache.Ref, withUsage bool, redisErr error, f *entitlements.Facts) (found bool, err error) {
	live, source, err := c.live(ctx, k, ref, refetch.Cause{Times: refetch.NoTimes, Direct: true})
	if err != nil {
		err = c.withRedis(err, redisErr)
		if c.rememberedStale(k, ref, withUsage, f) {
			return true, c.stale(k, f, err)
		}
		return false, err
	}
	liveFacts(live, ref, source, f)
	return true, nil
}

// askWith answers where Redis misses: from what is held in process, from the
// API, or, if another process asks the API meanwhile, from Redis after all; if
// nothing better can be had, from what was read although it is out of date.
func (c *Client) askWith(ctx context.Context, k cache.Key, ref cache.Ref, withUsage bool, r cache.Reading, began time.Time, f *entitlements.Facts) (found bool, err error) {
	why := c.missed(k, r.Faults, r.Times, r.Damaged, began)
	why.Look = func(ctx context.Context) bool {
		var again cache.Reading
		if !c.readAgain(ctx, func() error { return c.store.Read(ctx, k, ref, withUsage, &again) }) {
			return false
		}
		v, _ := c.judge(k, ref, &again, time.Now())
		return v.answers()
	}
	live, source, err := c.liveOr(ctx, k, ref, why, func() (found bool, why refetch.Cause) {
		now := time.Now()
		var again cache.Reading
		if c.readAgain(ctx, func() error { return c.store.Read(ctx, k, ref, withUsage, &again) }) {
			r, began = again, now
			v, _ := c.judge(k, ref, &r, began)
			found = v.answers()
		}
		return found, c.missed(k, r.Faults, r.Times, r.Damaged, began)
	})
	if err == nil && live == nil {
		c.hit(SourceRedis, k)
		*f = r.Facts
		return true, nil
	}
	if err == nil {
		liveFacts(live, ref, source, f)
		keepNewerUsage(f, &r.Facts)
		return true, nil
	}
	if r.Faults.Usable() {
		*f = r.Facts
		return true, c.stale(k, f, err)
	}
	if c.rememberedStale(k, ref, withUsage, f) {
		return true, c.stale(k, f, err)
	}
	return false, err
}

// missed says why k is fetched: a reading of Redis that began at the given time
// missed. A resource's global customer is fetched with it unless the last live
// fetch has settled how the two stand. (Where the resource itself is missing a
// reading finds fault with the global customer only if that is missing too.)
func (c *Client) missed(k cache.Key, faults cache.Faults, times cache.Times, damaged []cache.Damaged, began time.Time) refetch.Cause {
	global, _ := c.refetch.Remaining(k, faults&(cache.GlobalAbsent|cache.GlobalNewer), times, cache.Ref{}, cache.Ref{})
	return refetch.Cause{Faults: faults, Times: times, Damaged: damaged, Read: began, WithGlobal: global != 0}
}

// maxLooks is how often one check looks for a live answer. Twice is the rule
// where another process has fetched and Redis still misses; once more where
// something was written under the second look.
const maxLooks = 3

// liveOr gives a live answer, or neither answer nor error if Redis has one
// after all: what again reads is a hit, or else says why to go on. ref is as
// for live.
func (c *Client) liveOr(ctx context.Context, k cache.Key, ref cache.Ref, why refetch.Cause, again func() (hit bool, why refetch.Cause)) (*refetch.Live, Source, error) {
	for looks := 1; ; looks++ {
		if looks == maxLooks {
			why.Read = time.Time{}
		}
		live, source, err := c.live(ctx, k, ref, why)
		if err != nil || live != nil {
			return live, source, err
		}
		hit, next := again()
		if hit {
			return nil, "", nil
		}
		why, why.Direct = next, true
	}
}

// readAgain reads Redis once more for a check that has missed. It reports
// whether Redis answered.
func (c *Client) readAgain(ctx context.Context, read func() error) bool {
	began := time.Now()
	if err := read(); err != nil {
		_ = c.redisFailed(ctx, began, err) // counted; a context that ended is seen where it is waited for
		return false
	}
	return true
}

// prefixed says whose error it is, if it does not say so already.
func prefixed(err error) error {
	if strings.HasPrefix(err.Error(), "stigg: ") {
		return err
	}
	return fmt.Errorf("stigg: %w", err)
}

// withRedis adds why Redis did not answer; if it was not asked because it is
// away, what it last failed with.
func (c *Client) withRedis(err, redisErr error) error {
	if redisErr == nil && c.health != nil && !c.health.Up() {
		redisErr = c.health.State().LastError
	}
	if redisErr == nil {
		return err
	}
	return fmt.Errorf("%w (redis: %w)", err, redisErr)
}

// live gives the answer that is held in process, else asks the API. ref names
// the entitlement that is asked for; none: all. Neither answer nor error mean
// that Redis has it meanwhile.
func (c *Client) live(ctx context.Context, k cache.Key, ref cache.Ref, why refetch.Cause) (*refetch.Live, Source, error) {
	if held := c.refetch.Held(k, ref, time.Now(), c.refreshAhead); held != nil {
		c.hit(SourceMemory, k)
		return held, SourceMemory, nil
	}
	live, err := c.refetch.Get(ctx, k, why)
	switch {
	case err != nil:
		return nil, "", prefixed(err)
	case live == nil:
		return nil, "", nil
	}
	c.counters.liveAnswers.Add(1)
	return live, live.Source, nil
}

func (c *Client) stale(k cache.Key, f *entitlements.Facts, err error) error {
	f.Stale = true
	c.counters.staleAnswers.Add(1)
	c.observe(Event{Type: EventStale, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Err: err})
	return err
}

// liveFacts fills in what a live answer says of one entitlement.
func liveFacts(live *refetch.Live, ref cache.Ref, source entitlements.Source, f *entitlements.Facts) {
	*f = entitlements.Facts{
		StateDeniedReason: live.State.AccessDeniedReason,
		NoEntitlements:    len(live.State.Records) == 0,
		Source:            source,
	}
	record := live.Find(ref)
	if record == nil {
		f.DataTime = live.ChangedAt()
		return
	}
	f.Definition, f.Usage = &record.Definition, record.Usage
	f.DataTime = later(record.Definition.UpdatedAt, record.Usage.UpdatedAt)
	rate := record.Definition.CreditRate
	if rate == nil {
		return
	}
	if wallet := live.Find(cache.Ref{IsCredit: true, ID: rate.CurrencyID}); wallet != nil {
		f.Wallet, f.WalletUsage = &wallet.Definition, wallet.Usage
		f.DataTime = later(f.DataTime, wallet.Usage.UpdatedAt)
	}
}

// keepNewerUsage puts the usages that Redis holds over those of a live answer
// where they are newer: a report of usage reaches Redis before the Edge API
// knows of it.
func keepNewerUsage(f *entitlements.Facts, read *entitlements.Facts) {
	if f.Definition != nil && read.Definition != nil && read.Usage.UpdatedAt.After(f.Usage.UpdatedAt) {
		f.Usage = read.Usage
		f.DataTime = later(f.DataTime, read.Usage.UpdatedAt)
	}
	if f.Wallet != nil && read.Wallet != nil && f.Wallet.Currency.ID == read.Wallet.Currency.ID &&
		read.WalletUsage.UpdatedAt.After(f.WalletUsage.UpdatedAt) {
		f.WalletUsage = read.WalletUsage
		f.DataTime = later(f.DataTime, read.WalletUsage.UpdatedAt)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
