package entitlements

import (
	"time"

	"github.com/stiggio/server-sdk-go/credits"
)

// Kind returns the kind of answer that the definition leads to. It is
// KindUnknown for nil, and for a feature type or a meter type that this SDK
// does not know.
func (d *Definition) Kind() Kind {
	switch {
	case d == nil:
		return KindUnknown
	case d.IsCredit:
		return KindCredit
	}
	switch d.Feature.Type {
	case FeatureBoolean:
		return KindBoolean
	case FeatureEnum:
		return KindEnum
	case FeatureNumber:
		switch d.Feature.MeterType {
		case "", MeterNone:
			return KindNumeric
		case MeterFluctuating, MeterIncremental:
			return KindMetered
		}
	}
	return KindUnknown
}

// UsageTrackable reports whether the entitlement has a usage of its own: a
// credit, or a metered feature.
func (d *Definition) UsageTrackable() bool {
	k := d.Kind()
	return k == KindCredit || k == KindMetered
}

// Expired reports whether the definition's validity ended at now or before.
// The decisions do not look at it: an expired definition is a reason to ask
// again, and the word of whoever was asked stands.
func (d *Definition) Expired(now time.Time) bool {
	return d != nil && !d.ValidUntil.IsZero() && !d.ValidUntil.After(now)
}

// limit returns the usage limit; 0 when none was given.
func (d *Definition) limit() float64 { return orZero(d.UsageLimit) }

// boundedLimit returns the usage limit as answers report it; 0 when unlimited.
func (d *Definition) boundedLimit() float64 {
	if d.HasUnlimitedUsage {
		return 0
	}
	return d.limit()
}

// lastingDenial returns the denial reason that usage cannot lift. A reason that
// only says that usage ran out is left out: it is as old as the definition,
// while the usage at hand can be newer.
func (d *Definition) lastingDenial() AccessDeniedReason {
	switch d.AccessDeniedReason {
	case RequestedUsageExceedingLimit, InsufficientCredits:
		return ""
	}
	return d.AccessDeniedReason
}

// wallet returns the balance of a credit's definition with its usage.
func (d *Definition) wallet(u Usage) credits.Wallet {
	return credits.Wallet{
		Granted:      d.limit(),
		Consumed:     u.Current,
		HasSoftLimit: d.HasSoftLimit,
		PeriodEnd:    u.PeriodEnd,
	}
}

func orZero(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}
