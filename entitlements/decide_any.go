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
	var e Entitlement
	DecideInto(&e, f, id, isCredit, req, now)
	return e
}

// DecideInto is Decide for those who answer for many at once, with the answer
// where it belongs at once. e must be zero.
func DecideInto(e *Entitlement, f *Facts, id string, isCredit bool, req Request, now time.Time) {
	d := f.Definition
	if d == nil {
		*e = unjudged(f.answer(f.missing(isCredit)), id, isCredit, req)
		return
	}
	if d.IsCredit != isCredit {
		*e = unjudged(f.answer(FeatureTypeMismatch), id, isCredit, req)
		return
	}
	e.Kind = d.Kind()
	switch e.Kind {
	case KindBoolean:
		f.answerInto(&e.Answer, d.AccessDeniedReason)
	case KindNumeric:
		f.answerInto(&e.Answer, d.AccessDeniedReason)
		e.Value, e.IsUnlimited = d.boundedLimit(), d.HasUnlimitedUsage
	case KindEnum:
		f.answerInto(&e.Answer, d.enumDenial(req.RequestedValues))
		e.EnumValues, e.RequestedValues = d.EnumValues, req.RequestedValues
	case KindMetered:
		usage := RollOver(d, f.Usage, now)
		f.answerInto(&e.Answer, f.meteredDenial(usage.Current, req.RequestedUsage))
		e.IsUnlimited, e.UsageLimit, e.HasSoftLimit = d.HasUnlimitedUsage, d.boundedLimit(), d.HasSoftLimit
		e.CurrentUsage, e.RequestedUsage = usage.Current, req.RequestedUsage
		e.ResetPeriod, e.UsagePeriodAnchor = d.ResetPeriod, d.UsagePeriodAnchor
		e.UsagePeriodStart, e.UsagePeriodEnd = usage.PeriodStart, usage.PeriodEnd
	case KindCredit:
		answer, _ := DecideCredit(f, id, req.RequestedUsage, now)
		*e = anyCredit(answer)
		return
	default:
		reason := d.AccessDeniedReason
		if reason == "" {
			reason = FeatureTypeMismatch
		}
		*e = unjudged(f.answer(reason), id, false, req)
	}
	e.Feature = d.Feature
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
