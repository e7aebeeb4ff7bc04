package entitlements

import (
	"time"

	"github.com/stiggio/server-sdk-go/credits"
)

// Request is what is asked of an entitlement of any kind. Kinds ignore what is
// not theirs.
type Request struct {
	RequestedUsage  float64  // metered: units; credit: credits
	RequestedValues []string // enum
}

// Decide answers for a feature or credit of any kind; id and isCredit say
// which one was asked for. A feature whose type this SDK does not know is
// denied with the reason that it carries, else with FeatureTypeMismatch: what
// cannot be judged is not granted. An answer of KindUnknown repeats the whole
// request.
func Decide(f *Facts, id string, isCredit bool, req Request, now time.Time) Entitlement {
	d := f.Definition
	if d == nil {
		return unjudged(f.answer(f.missing(isCredit)), id, isCredit, req)
	}
	if d.IsCredit != isCredit {
		return unjudged(f.answer(FeatureTypeMismatch), id, isCredit, req)
	}
	switch d.Kind() {
	case KindBoolean:
		e, _ := DecideBoolean(f, id, now)
		return Entitlement{Answer: e.Answer, Kind: KindBoolean, Feature: e.Feature}
	case KindNumeric:
		e, _ := DecideNumeric(f, id, now)
		return Entitlement{
			Answer: e.Answer, Kind: KindNumeric, Feature: e.Feature,
			Value: e.Value, IsUnlimited: e.IsUnlimited,
		}
	case KindEnum:
		e, _ := DecideEnum(f, id, req.RequestedValues, now)
		return Entitlement{
			Answer: e.Answer, Kind: KindEnum, Feature: e.Feature,
			EnumValues: e.EnumValues, RequestedValues: e.RequestedValues,
		}
	case KindMetered:
		e, _ := DecideMetered(f, id, req.RequestedUsage, now)
		return Entitlement{
			Answer: e.Answer, Kind: KindMetered, Feature: e.Feature,
			IsUnlimited: e.IsUnlimited, UsageLimit: e.UsageLimit, HasSoftLimit: e.HasSoftLimit,
			CurrentUsage: e.CurrentUsage, RequestedUsage: e.RequestedUsage,
			ResetPeriod: e.ResetPeriod, UsagePeriodAnchor: e.UsagePeriodAnchor,
			UsagePeriodStart: e.UsagePeriodStart, UsagePeriodEnd: e.UsagePeriodEnd,
		}
	case KindCredit:
		e, _ := DecideCredit(f, id, req.RequestedUsage, now)
		return anyCredit(e)
	}
	reason := d.AccessDeniedReason
	if reason == "" {
		reason = FeatureTypeMismatch
	}
	e := unjudged(f.answer(reason), id, false, req)
	e.Feature = d.Feature
	return e
}

// unjudged is the answer that knows no more than what was asked.
func unjudged(a Answer, id string, isCredit bool, req Request) Entitlement {
	if isCredit {
		return Entitlement{
			Answer: a, Kind: KindCredit, Currency: credits.Currency{ID: id},
			RequestedUsage: req.RequestedUsage,
		}
	}
	return Entitlement{
		Answer: a, Feature: Feature{ID: id},
		RequestedUsage: req.RequestedUsage, RequestedValues: req.RequestedValues,
	}
}

func anyCredit(e CreditEntitlement) Entitlement {
	return Entitlement{
		Answer: e.Answer, Kind: KindCredit, Currency: e.Currency,
		UsageLimit: e.UsageLimit, CurrentUsage: e.CurrentUsage, Remaining: e.Remaining,
		RequestedUsage: e.RequestedUsage, HasSoftLimit: e.HasSoftLimit,
		UsagePeriodEnd: e.UsagePeriodEnd,
	}
}
