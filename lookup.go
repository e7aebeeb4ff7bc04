package stigg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
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
	if c.redisUp() && !k.Ambiguous() {
		began := time.Now()
		var r cache.Reading
		err := c.store.Read(ctx, k, ref, withUsage, &r)
		if err == nil {
			c.health.Succeeded()
			return c.judge(ctx, k, ref, &r, f)
		}
		if ended := c.redisFailed(ctx, began, err); ended != nil {
			return false, ended
		}
		return c.ask(ctx, k, ref, nil, err, f)
	}
	c.bypassed(k)
	return c.ask(ctx, k, ref, nil, nil, f)
}

// judge answers from a reading if it is a hit, else asks the API.
func (c *Client) judge(ctx context.Context, k cache.Key, ref cache.Ref, r *cache.Reading, f *entitlements.Facts) (found bool, err error) {
	faults := r.Faults
	if faults != 0 {
		if faults&cache.Unreadable != 0 {
			c.counters.unreadableValues.Add(1)
			c.report.unreadable(k, faults)
		}
		faults = c.refetch.Remaining(k, faults, r.Times, ref, walletRef(&r.Facts))
	}
	if faults == 0 {
		ended := factsEnded(&r.Facts, time.Now())
		var stands bool
		if ended {
			if stands, err = c.refetch.Expired(k, time.Now()); err != nil {
				*f = r.Facts
				return true, c.stale(f, err)
			}
		}
		if !ended || stands {
			c.counters.redisHits.Add(1)
			*f = r.Facts
			return true, nil
		}
	}
	c.counters.redisMisses.Add(1)
	return c.ask(ctx, k, ref, r, nil, f)
}

// factsEnded reports whether something that an answer depends on has ended: the
// entitlement or its wallet (validUntil), or the usage period of a credit,
// which has then probably been granted anew.
func factsEnded(f *entitlements.Facts, now time.Time) bool {
	return definitionEnded(f.Definition, f.Usage, now) || definitionEnded(f.Wallet, f.WalletUsage, now)
}

func definitionEnded(d *entitlements.Definition, u entitlements.Usage, now time.Time) bool {
	return d != nil && (d.Expired(now) || d.IsCredit && u.Ended(now))
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
	ended := ctx.Err()
	if ended == nil || errors.Is(ended, context.DeadlineExceeded) && time.Since(began) >= slowWait {
		c.counters.redisErrors.Add(1)
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
	}
}

// ask answers from what is held in process, else from the API, else from what
// was read although it is out of date. r is what Redis holds, nil if it was
// not asked or did not answer; redisErr is why.
func (c *Client) ask(ctx context.Context, k cache.Key, ref cache.Ref, r *cache.Reading, redisErr error, f *entitlements.Facts) (found bool, err error) {
	live, source, err := c.live(ctx, k, cause(k, r))
	if err == nil {
		liveFacts(live, ref, source, f)
		if r != nil {
			keepNewerUsage(f, &r.Facts)
		}
		return true, nil
	}
	if redisErr != nil {
		err = fmt.Errorf("%w (redis: %w)", err, redisErr)
	}
	if r != nil && r.Faults.Usable() {
		*f = r.Facts
		return true, c.stale(f, err)
	}
	return false, err
}

// live gives the answer that is held in process, else asks the API.
func (c *Client) live(ctx context.Context, k cache.Key, why refetch.Cause) (*refetch.Live, entitlements.Source, error) {
	if held := c.refetch.Held(k); held != nil {
		c.counters.memoryHits.Add(1)
		return held, SourceMemory, nil
	}
	live, err := c.refetch.Get(ctx, k, why)
	if err != nil {
		return nil, "", fmt.Errorf("stigg: %w", err)
	}
	c.counters.liveAnswers.Add(1)
	return live, live.Source, nil
}

// cause says why k is fetched, given what was read of it.
func cause(k cache.Key, r *cache.Reading) refetch.Cause {
	if r == nil {
		return refetch.Cause{Times: refetch.NoTimes}
	}
	return refetch.Cause{Times: r.Times, Damaged: r.Damaged, WithGlobal: withGlobal(k, r.Faults)}
}

// withGlobal reports whether a resource's global customer is to be fetched
// with it. Where the resource itself is missing that is so only if the global
// customer is missing too.
func withGlobal(k cache.Key, faults cache.Faults) bool {
	return k.ResourceID != "" && faults&(cache.GlobalAbsent|cache.GlobalNewer) != 0
}

func (c *Client) stale(f *entitlements.Facts, err error) error {
	f.Stale = true
	c.counters.staleAnswers.Add(1)
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
