package entitlements

import "time"

// Ended reports whether the usage period is over: it has an end, which is now
// or before. A period's end belongs to the next period.
func (u Usage) Ended(now time.Time) bool {
	return !u.PeriodEnd.IsZero() && !u.PeriodEnd.After(now)
}

// Ended reports whether something that an answer depends on has ended: the
// entitlement itself, or the usage period of a credit, which has then probably
// been granted anew.
func (d *Definition) Ended(u Usage, now time.Time) bool {
	return d != nil && (d.Expired(now) || d.IsCredit && u.Ended(now))
}

// RollOver returns the usage of the period that contains now. A metered
// feature whose usage period has ended starts a new one: nothing is used, and
// start and end are counted from the definition's anchor and reset period, or
// unset where [PeriodAt] cannot tell. Any other usage is returned as it is; a
// credit's too, since only a new grant renews it.
func RollOver(d *Definition, u Usage, now time.Time) Usage {
	if !u.Ended(now) || d.Kind() != KindMetered {
		return u
	}
	u.Current = 0
	u.PeriodStart, u.PeriodEnd, _ = PeriodAt(d.UsagePeriodAnchor, d.ResetPeriod, now)
	return u
}
