package refetch

import (
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// Live is a state that was fetched from the API. It is shared by everyone who
// waited for it: read it, do not change it.
type Live struct {
	State  entitlements.State
	Source entitlements.Source
	Began  time.Time // when the fetch began
	At     time.Time // when the answer was there

	records  map[cache.Ref]*entitlements.Record
	overlaid time.Time // until when the usages that were heard of are in State
}

// newLive makes a Live of an answer.
func newLive(state entitlements.State, source entitlements.Source, began time.Time) *Live {
	l := &Live{State: state, Source: source, Began: began, At: time.Now()}
	l.records = make(map[cache.Ref]*entitlements.Record, len(state.Records))
	for i := range l.State.Records {
		r := &l.State.Records[i]
		if ref := cache.RefOf(&r.Definition); l.records[ref] == nil {
			l.records[ref] = r
		}
	}
	return l
}

// Find returns the record of one entitlement; nil if the state has none.
func (l *Live) Find(ref cache.Ref) *entitlements.Record { return l.records[ref] }

// ended reports whether the entitlement that ref names, or its wallet, has ended;
// any of them, if it names none.
func (l *Live) ended(ref cache.Ref, now time.Time) bool {
	if ref == (cache.Ref{}) {
		for i := range l.State.Records {
			if r := &l.State.Records[i]; r.Definition.Ended(r.Usage, now) {
				return true
			}
		}
		return false
	}
	r := l.Find(ref)
	if r == nil {
		return false
	}
	if rate := r.Definition.CreditRate; rate != nil {
		if w := l.Find(cache.Ref{IsCredit: true, ID: rate.CurrencyID}); w != nil && w.Definition.Ended(w.Usage, now) {
			return true
		}
	}
	return r.Definition.Ended(r.Usage, now)
}

// ChangedAt is when the list of entitlements changed: the first time that one
// of them carries; zero if none does.
func (l *Live) ChangedAt() time.Time {
	for i := range l.State.Records {
		if at := l.State.Records[i].Definition.UpdatedAt; !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}

// withoutUsage names the entitlements that have a usage and came without one.
func (l *Live) withoutUsage() map[cache.Ref]struct{} {
	var refs map[cache.Ref]struct{}
	for i := range l.State.Records {
		r := &l.State.Records[i]
		if r.HasUsage || !r.Definition.UsageTrackable() {
			continue
		}
		if refs == nil {
			refs = make(map[cache.Ref]struct{})
		}
		refs[cache.RefOf(&r.Definition)] = struct{}{}
	}
	return refs
}
