package entitlements

import "github.com/stiggio/server-sdk-go/credits"

// The fallbacks answer when no source could be asked. A nil fallback denies,
// like the zero value. A denial carries the given reason, Unknown when it is
// empty; a grant carries none. A fallback's limits are reported, not enforced:
// HasAccess is the caller's decision.

// FallbackBoolean answers for a feature that is on or off.
func FallbackBoolean(featureID string, fb *EntitlementFallback, reason AccessDeniedReason) BooleanEntitlement {
	return BooleanEntitlement{
		Answer:  fallbackAnswer(fb != nil && fb.HasAccess, reason),
		Feature: Feature{ID: featureID},
	}
}

// FallbackNumeric answers for a configuration value.
func FallbackNumeric(featureID string, fb *EntitlementFallback, reason AccessDeniedReason) NumericEntitlement {
	e := NumericEntitlement{
		Answer:  fallbackAnswer(fb != nil && fb.HasAccess, reason),
		Feature: Feature{ID: featureID},
	}
	if fb != nil {
		e.Value = fb.bounded(fb.Value)
		e.IsUnlimited = fb.IsUnlimited
	}
	return e
}

// FallbackEnum answers for a list of allowed values. A fallback that names
// values denies a request for others with RequestedValuesMismatch.
func FallbackEnum(featureID string, requestedValues []string, fb *EntitlementFallback, reason AccessDeniedReason) EnumEntitlement {
	e := EnumEntitlement{
		Answer:          fallbackAnswer(fb != nil && fb.HasAccess, reason),
		Feature:         Feature{ID: featureID},
		RequestedValues: requestedValues,
	}
	if fb != nil {
		e.EnumValues = fb.EnumValues
		e.Answer = fb.restrictedTo(e.Answer, requestedValues)
	}
	return e
}

// FallbackMetered answers for a feature whose usage is counted.
func FallbackMetered(featureID string, requestedUsage float64, fb *EntitlementFallback, reason AccessDeniedReason) MeteredEntitlement {
	e := MeteredEntitlement{
		Answer:         fallbackAnswer(fb != nil && fb.HasAccess, reason),
		Feature:        Feature{ID: featureID},
		RequestedUsage: requestedUsage,
	}
	if fb != nil {
		e.UsageLimit = fb.bounded(fb.UsageLimit)
		e.IsUnlimited = fb.IsUnlimited
	}
	return e
}

// FallbackCredit answers for a wallet.
func FallbackCredit(currencyID string, requestedUsage float64, fb *CreditFallback, reason AccessDeniedReason) CreditEntitlement {
	e := CreditEntitlement{
		Answer:         fallbackAnswer(fb != nil && fb.HasAccess, reason),
		Currency:       credits.Currency{ID: currencyID},
		RequestedUsage: requestedUsage,
	}
	if fb != nil {
		e.UsageLimit = fb.UsageLimit
		e.CurrentUsage = fb.CurrentUsage
		e.Remaining = credits.Wallet{Granted: fb.UsageLimit, Consumed: fb.CurrentUsage}.Remaining()
	}
	return e
}

// FallbackEntitlement answers for a feature or credit of any kind: for the
// credit when currencyID is set, from cfb; else for the feature, from fb. The
// kind of a feature is not known then: the answer is of KindUnknown, carries
// whatever the fallback gives, and is restricted to its EnumValues as
// [FallbackEnum] is.
func FallbackEntitlement(featureID, currencyID string, req Request, fb *EntitlementFallback, cfb *CreditFallback, reason AccessDeniedReason) Entitlement {
	if currencyID != "" {
		return anyCredit(FallbackCredit(currencyID, req.RequestedUsage, cfb, reason))
	}
	e := unjudged(fallbackAnswer(fb != nil && fb.HasAccess, reason), featureID, false, req)
	if fb != nil {
		e.Answer = fb.restrictedTo(e.Answer, req.RequestedValues)
		e.Value = fb.bounded(fb.Value)
		e.UsageLimit = fb.bounded(fb.UsageLimit)
		e.IsUnlimited = fb.IsUnlimited
		e.EnumValues = fb.EnumValues
	}
	return e
}

func fallbackAnswer(allowed bool, reason AccessDeniedReason) Answer {
	switch {
	case allowed:
		reason = ""
	case reason == "":
		reason = Unknown
	}
	return Answer{HasAccess: allowed, IsFallback: true, AccessDeniedReason: reason, Source: SourceFallback}
}

// bounded returns a number of the fallback; 0 when unlimited or not given.
func (fb *EntitlementFallback) bounded(v *float64) float64 {
	if fb.IsUnlimited {
		return 0
	}
	return orZero(v)
}

// restrictedTo turns a grant into a denial when values are requested that the
// fallback does not name. A fallback that names none allows all.
func (fb *EntitlementFallback) restrictedTo(a Answer, requested []string) Answer {
	if a.HasAccess && len(fb.EnumValues) > 0 && !containsAll(fb.EnumValues, requested) {
		return fallbackAnswer(false, RequestedValuesMismatch)
	}
	return a
}
