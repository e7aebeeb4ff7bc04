package stigg

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/refetch"
)

// GetEntitlements answers for everything that a customer, or one of its
// resources if resourceID is not empty, is entitled to. Errors are as for
// GetBooleanEntitlement; a fallback lists the configured fallbacks.
func (c *Client) GetEntitlements(ctx context.Context, customerID, resourceID string) (EntitlementsState, error) {
	if err := checkQuery(customerID, resourceID, "CustomerID", customerID, 0); err != nil {
		c.counters.invalidCalls.Add(1)
		c.countFallback(key(customerID, resourceID), err)
		return EntitlementsState{IsFallback: true, Source: SourceFallback, AccessDeniedReason: Unknown}, err
	}
	state, found, err := c.state(ctx, key(customerID, resourceID))
	if !found {
		c.countFallback(key(customerID, resourceID), err)
		return c.fallbackState(), err
	}
	return state.answer(time.Now()), err
}

// knownState is what a source knows about a customer or a resource as a whole.
type knownState struct {
	entitlements []cache.CachedEntitlement
	reason       AccessDeniedReason
	source       Source
	stale        bool
	dataTime     time.Time
}

func (c *Client) state(ctx context.Context, k cache.Key) (s knownState, found bool, err error) {
	if err := c.usable(); err != nil {
		return s, false, err
	}
	began := time.Now()
	if s, ok := c.rememberedState(k, began); ok {
		return s, true, nil
	}
	if !c.redisUp() || k.Ambiguous() {
		c.bypassed(k)
		return c.askStateWithout(ctx, k, nil)
	}
	token := c.beginRead(k)
	r, err := c.store.ReadState(ctx, k)
	if err != nil {
		c.endRead(token)
		if ended := c.redisFailed(ctx, began, err); ended != nil {
			return s, false, ended
		}
		return c.askStateWithout(ctx, k, err)
	}
	c.health.Succeeded()
	switch verdict, err := c.judgeState(k, r, began); verdict {
	case hit, hitForNow:
		if verdict == hit {
			c.keepState(token, r, began)
		} else {
			c.endRead(token)
		}
		c.hit(SourceRedis, k)
		return readState(r), true, nil
	case outdated:
		c.endRead(token)
		return c.staleState(k, r, err), true, err
	}
	c.endRead(token)
	c.miss(k, r.Faults)
	return c.askStateWith(ctx, k, r, began)
}

// judgeState tells what a reading of a whole customer or resource is good for.
func (c *Client) judgeState(k cache.Key, r *cache.StateReading, now time.Time) (verdict, error) {
	if r.Faults&cache.Unreadable != 0 {
		c.counters.unreadableValues.Add(1)
		c.report.unreadable(k, r.Faults)
	}
	good := hit
	if rest, forNow := c.remainingState(k, r); rest != 0 {
		return miss, nil
	} else if forNow {
		good = hitForNow
	}
	for i := range r.Entitlements {
		if e := &r.Entitlements[i]; e.Definition.Ended(e.Usage, now) {
			return c.judgeEnded(k, good, now)
		}
	}
	return good, nil
}

// remainingState takes off the faults of a reading that the last live fetch
// settled, as Group.Remaining does.
func (c *Client) remainingState(k cache.Key, r *cache.StateReading) (rest cache.Faults, forNow bool) {
	if r.Faults == 0 {
		return 0, false
	}
	rest, forNow = c.refetch.Remaining(k, r.Faults&^cache.UsageAbsent, r.Times, cache.Ref{}, cache.Ref{})
	for i := range r.Entitlements {
		if e := &r.Entitlements[i]; e.Faults&cache.UsageAbsent != 0 {
			more, _ := c.refetch.Remaining(k, cache.UsageAbsent, r.Times, cache.RefOf(e.Definition), cache.Ref{})
			rest |= more
		}
	}
	return rest, forNow
}

func readState(r *cache.StateReading) knownState {
	return knownState{entitlements: r.Entitlements, reason: r.DeniedReason, source: SourceRedis, dataTime: millisTime(r.Times.Value)}
}

func (c *Client) staleState(k cache.Key, r *cache.StateReading, err error) knownState {
	c.counters.staleAnswers.Add(1)
	c.observe(Event{Type: EventStale, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Err: err})
	s := readState(r)
	s.stale = true
	return s
}

// askStateWithout answers without anything from Redis, as askWithout does.
func (c *Client) askStateWithout(ctx context.Context, k cache.Key, redisErr error) (s knownState, found bool, err error) {
	live, source, err := c.live(ctx, k, cache.Ref{}, refetch.Cause{Times: refetch.NoTimes, Direct: true})
	if err != nil {
		err = c.withRedis(err, redisErr)
		if s, ok := c.rememberedStaleState(k, err); ok {
			return s, true, err
		}
		return s, false, err
	}
	return liveState(live, source, nil), true, nil
}

// askStateWith answers where Redis misses, as askWith does.
func (c *Client) askStateWith(ctx context.Context, k cache.Key, r *cache.StateReading, began time.Time) (s knownState, found bool, err error) {
	why := c.missed(k, r.Faults, r.Times, r.Damaged, began)
	why.Look = func(ctx context.Context) bool {
		var again *cache.StateReading
		if !c.readAgain(ctx, func() (err error) { again, err = c.store.ReadState(ctx, k); return err }) {
			return false
		}
		v, _ := c.judgeState(k, again, time.Now())
		return v.answers()
	}
	live, source, err := c.liveOr(ctx, k, cache.Ref{}, why, func() (found bool, why refetch.Cause) {
		now := time.Now()
		var again *cache.StateReading
		if c.readAgain(ctx, func() (err error) { again, err = c.store.ReadState(ctx, k); return err }) {
			r, began = again, now
			v, _ := c.judgeState(k, r, began)
			found = v.answers()
		}
		return found, c.missed(k, r.Faults, r.Times, r.Damaged, began)
	})
	if err == nil && live == nil {
		c.hit(SourceRedis, k)
		return readState(r), true, nil
	}
	if err == nil {
		return liveState(live, source, r), true, nil
	}
	if r.Faults.Usable() {
		return c.staleState(k, r, err), true, err
	}
	if s, ok := c.rememberedStaleState(k, err); ok {
		return s, true, err
	}
	return s, false, err
}

// liveState is what a live answer says, with the usages that Redis holds over
// it where they are newer.
func liveState(live *refetch.Live, source Source, r *cache.StateReading) knownState {
	s := knownState{reason: live.State.AccessDeniedReason, source: source, dataTime: live.ChangedAt()}
	newer := make(map[cache.Ref]entitlements.Usage)
	if r != nil {
		for _, e := range r.Entitlements {
			newer[cache.RefOf(e.Definition)] = e.Usage
		}
	}
	seen := make(map[cache.Ref]struct{}, len(live.State.Records))
	for i := range live.State.Records {
		record := &live.State.Records[i]
		ref := cache.RefOf(&record.Definition)
		if _, twice := seen[ref]; twice {
			continue
		}
		seen[ref] = struct{}{}
		usage := record.Usage
		if read, ok := newer[ref]; ok && read.UpdatedAt.After(usage.UpdatedAt) {
			usage = read
		}
		at := later(record.Definition.UpdatedAt, usage.UpdatedAt)
		e := cache.CachedEntitlement{Definition: &record.Definition, Usage: usage}
		if !at.IsZero() {
			e.DataTime = at.UnixMilli()
		}
		s.entitlements = append(s.entitlements, e)
	}
	return s
}

// answer decides every entitlement.
func (s *knownState) answer(now time.Time) EntitlementsState {
	state := EntitlementsState{
		Entitlements:       make([]Entitlement, len(s.entitlements)),
		AccessDeniedReason: s.reason, Source: s.source, Stale: s.stale, DataTime: s.dataTime,
	}
	wallets := make(map[string]*cache.CachedEntitlement)
	for i := range s.entitlements {
		if e := &s.entitlements[i]; e.Definition.IsCredit {
			wallets[e.Definition.Currency.ID] = e
		}
	}
	f := entitlements.Facts{StateDeniedReason: s.reason, Source: s.source, Stale: s.stale}
	for i := range s.entitlements {
		e := &s.entitlements[i]
		f.Definition, f.Usage, f.DataTime = e.Definition, e.Usage, millisTime(e.DataTime)
		f.Wallet = nil
		if rate := e.Definition.CreditRate; rate != nil {
			if wallet := wallets[rate.CurrencyID]; wallet != nil {
				f.Wallet, f.WalletUsage = wallet.Definition, wallet.Usage
				f.DataTime = later(f.DataTime, millisTime(wallet.DataTime))
			}
		}
		ref := cache.RefOf(e.Definition)
		entitlements.DecideInto(&state.Entitlements[i], &f, ref.ID, ref.IsCredit, entitlements.Request{}, now)
	}
	return state
}

// fallbackState lists the configured fallbacks, in the order of their ids.
func (c *Client) fallbackState() EntitlementsState {
	state := EntitlementsState{IsFallback: true, Source: SourceFallback, AccessDeniedReason: Unknown}
	for id, fb := range c.config.EntitlementsFallback {
		state.Entitlements = append(state.Entitlements, entitlements.FallbackEntitlement(id, "", entitlements.Request{}, &fb, nil, Unknown))
	}
	for id, fb := range c.config.CreditEntitlementsFallback {
		state.Entitlements = append(state.Entitlements, entitlements.FallbackEntitlement("", id, entitlements.Request{}, nil, &fb, Unknown))
	}
	if len(state.Entitlements) > 0 {
		state.AccessDeniedReason = ""
	}
	slices.SortFunc(state.Entitlements, func(a, b Entitlement) int {
		return cmp.Or(cmp.Compare(a.Feature.ID, b.Feature.ID), cmp.Compare(a.Currency.ID, b.Currency.ID))
	})
	return state
}

func millisTime(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
