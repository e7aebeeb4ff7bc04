package cache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redispipe"
)

// NewEntry makes an entry for a Memory of a reading that is a hit and began at
// the given time.
func NewEntry(r *Reading, withUsage bool, began time.Time) *Entry {
	e := &Entry{
		Facts: r.Facts, Times: keptTimes(r.Times, r.before), ValueSize: r.ValueSize, WithUsage: withUsage, confirmed: began, whole: began,
		snapshot: r.snapshot, walletSnapshot: r.walletSnapshot,
	}
	if r.kept != nil {
		e.WithUsage, e.whole = r.kept.WithUsage, r.kept.whole
	}
	return e
}

// NewList makes the entries for a Memory of a whole reading that is a hit: the
// list, and an entry for each entitlement that it names.
func NewList(r *StateReading, began time.Time) (list *Entry, entries []*Entry) {
	times := keptTimes(r.Times, r.before)
	list = &Entry{Times: times, ValueSize: r.ValueSize, confirmed: began, whole: began, DeniedReason: r.DeniedReason}
	wallets := make(map[string]*CachedEntitlement)
	for i := range r.Entitlements {
		if c := &r.Entitlements[i]; c.Definition.IsCredit {
			wallets[c.Definition.Currency.ID] = c
		}
	}
	for i := range r.Entitlements {
		c := &r.Entitlements[i]
		e := &Entry{
			Facts: entitlements.Facts{
				Definition: c.Definition, Usage: c.Usage, Source: entitlements.SourceRedis, DataTime: millisTime(c.DataTime),
			},
			Times: times, ValueSize: r.ValueSize, WithUsage: true, confirmed: began, whole: began,
			snapshot: c.snapshot,
		}
		if rate := c.Definition.CreditRate; rate != nil {
			if wallet, ok := wallets[rate.CurrencyID]; ok {
				e.Facts.Wallet, e.Facts.WalletUsage, e.walletSnapshot = wallet.Definition, wallet.Usage, wallet.snapshot
				e.Facts.DataTime = millisTime(max(c.DataTime, wallet.DataTime))
			}
		}
		list.List = append(list.List, RefOf(c.Definition))
		entries = append(entries, e)
	}
	return list, entries
}

// Revalidate reads what may have changed about an entry: the timestamps, the
// metadata, the usages and the length of the customer value, but not the value,
// which is taken as unchanged if its timestamp and length are. It takes one
// round trip, whatever the size of the value. same is false if the value has
// changed: then nothing was read. Else r is as Read fills it in.
func (s *Store) Revalidate(ctx context.Context, k Key, ref Ref, e *Entry, r *Reading) (same bool, err error) {
	ctx, err = s.Bound(ctx)
	if err != nil {
		return false, err
	}
	d := e.Facts.Definition
	withUsage := e.WithUsage && d.UsageTrackable()
	wallet := ""
	if withUsage && e.Facts.Wallet != nil {
		wallet = e.Facts.Wallet.Currency.ID
	}
	keys := s.readKeys(k, ref, withUsage, wallet)
	size, values, err := s.sizeAndGet(ctx, keys)
	if err == nil && len(values) != len(keys)-1 {
		err = errOtherNumber
	}
	if err != nil {
		return false, err
	}
	times := Times{Value: timestampReply(values[1]), Global: NoTimestamp}
	if size != e.ValueSize || times.Value != e.Times.Value || times.Value == NoTimestamp {
		return false, nil
	}
	*r = Reading{Times: times, Facts: e.Facts, ValueSize: size, kept: e, snapshot: e.snapshot, walletSnapshot: e.walletSnapshot}
	f := &r.Facts
	f.Source, f.Stale = entitlements.SourceRedis, false
	rest := 2
	if k.ResourceID != "" {
		r.Times.Global = timestampReply(values[2])
		r.Faults |= globalFaults(true, r.Times)
		rest = 3
	}
	if d == nil {
		metadata := head{metadata: textReply(values[0])}
		var bad bool
		if f.StateDeniedReason, bad = metadata.reason(); bad {
			r.Faults |= MetadataUnreadable
			r.Damaged = append(r.Damaged, damaged(keys[1], metadata.metadata.text))
		}
		return true, nil
	}
	f.DataTime = millisTime(times.Value)
	if withUsage {
		usage := s.readUsage(e.snapshot, keys[1+rest:], values[rest:], &f.Usage)
		f.DataTime = millisTime(max(times.Value, usage.at))
		r.addUsageFaults(usage, UsageAbsent, UsageUnreadable)
	}
	if wallet != "" {
		usage := s.readUsage(e.walletSnapshot, keys[3+rest:], values[rest+2:], &f.WalletUsage)
		if at := millisTime(usage.at); at.After(f.DataTime) {
			f.DataTime = at
		}
		r.addUsageFaults(usage, WalletUsageAbsent, WalletUsageUnreadable)
	}
	return true, nil
}

// sizeAndGet reads the length of the first key and the values of the others,
// in one round trip.
func (s *Store) sizeAndGet(ctx context.Context, keys []string) (size int, values []any, err error) {
	switch {
	case s.detach || s.batch == nil && ctx.Done() != nil:
	case s.batch != nil:
		return s.batch.sizeAndGet(ctx, keys)
	default:
		return s.sizeAndGetNow(ctx, keys)
	}
	// The keys may be parts of the caller's stack; the command may outlive it.
	values, err = detached(ctx, append([]string(nil), keys...), func(ctx context.Context, keys []string) ([]any, error) {
		n, values, err := s.sizeAndGetNow(ctx, keys)
		return append(values, n), err
	})
	if err != nil {
		return 0, nil, err
	}
	last := len(values) - 1
	size, _ = values[last].(int)
	return size, values[:last], nil
}

func (s *Store) sizeAndGetNow(ctx context.Context, keys []string) (int, []any, error) {
	pipe := s.client.Pipeline()
	size := pipe.StrLen(ctx, keys[0])
	if s.single {
		values := pipe.MGet(ctx, keys[1:]...)
		if err := redispipe.Send(ctx, pipe); err != nil && !redis.HasErrorPrefix(size.Err(), "WRONGTYPE") {
			return 0, nil, err
		}
		return int(size.Val()), values.Val(), values.Err()
	}
	commands := make([]*redis.StringCmd, len(keys)-1)
	for i, key := range keys[1:] {
		commands[i] = pipe.Get(ctx, key)
	}
	_ = redispipe.Send(ctx, pipe) // every command has its own error
	if err := size.Err(); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return 0, nil, err
	}
	values, err := replies(commands)
	return int(size.Val()), values, err
}
