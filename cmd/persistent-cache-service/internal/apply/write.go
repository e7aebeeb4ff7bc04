package apply

import (
	"context"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// write writes all entitlements of a customer.
func (e *Engine) write(ctx context.Context, job Job) (Result, bool) {
	m := &job.Message
	for {
		known, err := e.ask(ctx, m.Key)
		switch {
		case err != nil:
			return unfinished(err), false
		case known.purgedAt >= job.At.UnixMilli():
			return done(SkippedOlder), false
		case known.at == 0:
			// An empty list is kept without a time: there is no telling
			// whether the message is from before or after it.
			job.Message.State = entitlements.State{}
			if job.Shrunk != nil {
				job.Shrunk()
			}
			return e.refetcher.submit(job)
		case known.cached() || e.config.Policy == cache.Upsert:
			result, err := e.writeState(ctx, m.Key, m.State, job.At)
			if err != nil {
				return unfinished(err), false
			}
			if result.Applied > 0 {
				purged, err := e.takeBack(ctx, m.Key, known)
				switch {
				case err != nil:
					return unfinished(err), false
				case purged:
					continue
				}
			}
			return e.written(result), false
		}
		waited, err := e.awaitReader(ctx, m.Key)
		if err != nil {
			return unfinished(err), false
		}
		if !waited {
			return done(NotCached), false
		}
	}
}

// writeState writes a state, however often it takes.
func (e *Engine) writeState(ctx context.Context, k cache.Key, state entitlements.State, at time.Time) (cache.WriteResult, error) {
	var result cache.WriteResult
	err := e.redisOp(ctx, true, func(ctx context.Context) (err error) {
		result, err = e.config.Store.WriteState(ctx, k, state, cache.WriteOptions{Policy: e.config.Policy, FetchBegan: at})
		return err
	})
	return result, err
}

// takeBack deletes what was just written of k if there was a purge since Redis
// was asked before the write, and reports whether there was. A purge says so
// before it looks at the first key: one that says so only from here on deletes
// what was written itself.
func (e *Engine) takeBack(ctx context.Context, k cache.Key, before knowledge) (purged bool, err error) {
	now, err := e.ask(ctx, k)
	if err != nil || now.purgedAt == before.purgedAt {
		return false, err
	}
	return true, e.redisOp(ctx, true, func(ctx context.Context) error { return e.config.Store.Purge(ctx, k) })
}

// updateUsage writes the usage of one entitlement, if the customer is cached.
func (e *Engine) updateUsage(ctx context.Context, k cache.Key, ref cache.Ref, usage entitlements.Usage, at time.Time) Result {
	for {
		var result cache.WriteResult
		err := e.redisOp(ctx, true, func(ctx context.Context) (err error) {
			result, err = e.config.Store.UpdateUsage(ctx, k, ref, usage, at)
			return err
		})
		if err != nil {
			return unfinished(err)
		}
		if result.Applied+result.Skipped > 0 {
			return e.written(result)
		}
		waited, err := e.awaitReader(ctx, k)
		if err != nil {
			return unfinished(err)
		}
		if !waited {
			return done(NotCached)
		}
	}
}

// updateBalance writes the balance of a wallet, if the customer is cached. The
// credits that were granted in total are a part of the customer's value, which
// a balance does not bring: if they changed, the customer is refetched too.
func (e *Engine) updateBalance(ctx context.Context, job Job) (Result, bool) {
	m := &job.Message
	for {
		var r cache.Reading
		if err := e.redisOp(ctx, false, func(ctx context.Context) error {
			return e.config.Store.Read(ctx, m.Key, m.Ref, true, &r)
		}); err != nil {
			return unfinished(err), false
		}
		switch {
		case r.Faults&(cache.ValueAbsent|cache.TimestampAbsent) != 0:
			waited, err := e.awaitReader(ctx, m.Key)
			if err != nil {
				return unfinished(err), false
			}
			if waited {
				continue
			}
			return done(NotCached), false
		case !r.Faults.Usable() || r.Facts.Definition == nil:
			return e.refetcher.submit(job) // damaged, or a wallet that is new
		}
		usage := entitlements.Usage{Current: m.Balance.Consumed(), PeriodEnd: r.Facts.Usage.PeriodEnd}
		result := e.updateUsage(ctx, m.Key, m.Ref, usage, job.At)
		if result.Outcome != Applied && result.Outcome != SkippedOlder {
			return result, false
		}
		limit := r.Facts.Definition.UsageLimit
		if limit != nil && *limit == m.Balance.Granted {
			return result, false
		}
		// A balance that is newer than the message says nothing of what was
		// granted: an SDK writes one when credits are consumed. A value that is
		// newer does.
		if result.Outcome == Applied || r.Times.Value <= job.At.UnixMilli() {
			return e.refetcher.submit(job)
		}
		return result, false
	}
}
