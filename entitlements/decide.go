package entitlements

import (
	"slices"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
)

// The decisions follow one order; the first rule that applies decides:
//
//  1. the customer does not have the entitlement: denied;
//  2. the entitlement carries a denial reason: denied with it, except that for
//     usage that ran out the numbers decide where there are any;
//  3. the rule of its kind, below.
//
// A denial is its reason, and an empty reason is a grant. Requested usage is
// taken as not negative: whoever takes it from outside checks it. All decisions
// take the time, though so far only a metered feature's depends on it.

// DecideBoolean answers for a feature that is on or off. It reports false,
// with a denial as answer, when the feature is of another kind.
func DecideBoolean(f *Facts, featureID string, _ time.Time) (BooleanEntitlement, bool) {
	d := f.Definition
	if d == nil {
		return BooleanEntitlement{Answer: f.answer(f.missing(false)), Feature: Feature{ID: featureID}}, true
	}
	if d.Kind() != KindBoolean {
		return FallbackBoolean(featureID, nil, FeatureTypeMismatch), false
	}
	return BooleanEntitlement{Answer: f.answer(d.AccessDeniedReason), Feature: d.Feature}, true
}

// DecideNumeric answers for a configuration value. It reports false, with a
// denial as answer, when the feature is of another kind.
func DecideNumeric(f *Facts, featureID string, _ time.Time) (NumericEntitlement, bool) {
	d := f.Definition
	if d == nil {
		return NumericEntitlement{Answer: f.answer(f.missing(false)), Feature: Feature{ID: featureID}}, true
	}
	if d.Kind() != KindNumeric {
		return FallbackNumeric(featureID, nil, FeatureTypeMismatch), false
	}
	return NumericEntitlement{
		Answer:      f.answer(d.AccessDeniedReason),
		Feature:     d.Feature,
		Value:       d.boundedLimit(),
		IsUnlimited: d.HasUnlimitedUsage,
	}, true
}

// DecideEnum answers whether every requested value is allowed; none requested
// is allowed. It reports false, with a denial as answer, when the feature is of
// another kind.
func DecideEnum(f *Facts, featureID string, requestedValues []string, _ time.Time) (EnumEntitlement, bool) {
	d := f.Definition
	if d == nil {
		return EnumEntitlement{
			Answer:          f.answer(f.missing(false)),
			Feature:         Feature{ID: featureID},
			RequestedValues: requestedValues,
		}, true
	}
	if d.Kind() != KindEnum {
		return FallbackEnum(featureID, requestedValues, nil, FeatureTypeMismatch), false
	}
	return EnumEntitlement{
		Answer:          f.answer(d.enumDenial(requestedValues)),
		Feature:         d.Feature,
		EnumValues:      d.EnumValues,
		RequestedValues: requestedValues,
	}, true
}

// DecideMetered answers whether requestedUsage units more may be used, in the
// usage period that contains now. For a credit-backed feature the wallet
// decides, whatever the feature's own limit, when the customer has it. It
// reports false, with a denial as answer, when the feature is of another kind.
func DecideMetered(f *Facts, featureID string, requestedUsage float64, now time.Time) (MeteredEntitlement, bool) {
	d := f.Definition
	if d == nil {
		return MeteredEntitlement{
			Answer:         f.answer(f.missing(false)),
			Feature:        Feature{ID: featureID},
			RequestedUsage: requestedUsage,
		}, true
	}
	if d.Kind() != KindMetered {
		return FallbackMetered(featureID, requestedUsage, nil, FeatureTypeMismatch), false
	}
	usage := RollOver(d, f.Usage, now)
	return MeteredEntitlement{
		Answer:            f.answer(f.meteredDenial(usage.Current, requestedUsage)),
		Feature:           d.Feature,
		UsageLimit:        d.boundedLimit(),
		IsUnlimited:       d.HasUnlimitedUsage,
		HasSoftLimit:      d.HasSoftLimit,
		CurrentUsage:      usage.Current,
		RequestedUsage:    requestedUsage,
		ResetPeriod:       d.ResetPeriod,
		UsagePeriodAnchor: d.UsagePeriodAnchor,
		UsagePeriodStart:  usage.PeriodStart,
		UsagePeriodEnd:    usage.PeriodEnd,
	}, true
}

// DecideCredit answers whether a wallet covers requestedUsage credits. It
// reports false, with a denial as answer, when the definition is a feature's.
func DecideCredit(f *Facts, currencyID string, requestedUsage float64, _ time.Time) (CreditEntitlement, bool) {
	d := f.Definition
	if d == nil {
		return CreditEntitlement{
			Answer:         f.answer(f.missing(true)),
			Currency:       credits.Currency{ID: currencyID},
			RequestedUsage: requestedUsage,
		}, true
	}
	if d.Kind() != KindCredit {
		return FallbackCredit(currencyID, requestedUsage, nil, FeatureTypeMismatch), false
	}
	wallet := d.wallet(f.Usage)
	return CreditEntitlement{
		Answer:         f.answer(walletDenial(d, wallet, requestedUsage)),
		Currency:       d.Currency,
		UsageLimit:     wallet.Granted,
		CurrentUsage:   wallet.Consumed,
		Remaining:      wallet.Remaining(),
		RequestedUsage: requestedUsage,
		HasSoftLimit:   wallet.HasSoftLimit,
		UsagePeriodEnd: wallet.PeriodEnd,
	}, true
}

// answer returns the common part of an answer that is denied for the reason,
// or granted when there is none.
func (f *Facts) answer(denial AccessDeniedReason) (a Answer) {
	f.answerInto(&a, denial)
	return a
}

// answerInto is answer, into an Answer that is zero.
func (f *Facts) answerInto(a *Answer, denial AccessDeniedReason) {
	a.HasAccess, a.AccessDeniedReason = denial == "", denial
	a.Source, a.Stale, a.DataTime = f.Source, f.Stale, f.DataTime
}

// enumDenial returns why not all of the requested values may be used.
func (d *Definition) enumDenial(requested []string) AccessDeniedReason {
	if d.AccessDeniedReason == "" && !containsAll(d.EnumValues, requested) {
		return RequestedValuesMismatch
	}
	return d.AccessDeniedReason
}

// missing returns why an entitlement that the customer does not have is denied.
func (f *Facts) missing(isCredit bool) AccessDeniedReason {
	switch {
	case f.StateDeniedReason != "":
		return f.StateDeniedReason
	case f.NoEntitlements:
		return CustomerNotFound
	case isCredit:
		return EntitlementNotFound
	}
	return NoFeatureEntitlementInSubscription
}

func (f *Facts) meteredDenial(used, requested float64) AccessDeniedReason {
	d := f.Definition
	if reason := d.lastingDenial(); reason != "" {
		return reason
	}
	if d.CreditRate != nil && f.Wallet != nil {
		wallet := f.Wallet.wallet(f.WalletUsage)
		wallet.HasSoftLimit = wallet.HasSoftLimit || d.HasSoftLimit
		return walletDenial(f.Wallet, wallet, d.CreditRate.Cost(requested))
	}
	if d.HasUnlimitedUsage || d.HasSoftLimit || credits.Within(used+requested, d.limit()) {
		return ""
	}
	return RequestedUsageExceedingLimit
}

func walletDenial(d *Definition, w credits.Wallet, amount float64) AccessDeniedReason {
	if reason := d.lastingDenial(); reason != "" {
		return reason
	}
	if w.Covers(amount) {
		return ""
	}
	return InsufficientCredits
}

func containsAll(allowed, requested []string) bool {
	for _, v := range requested {
		if !slices.Contains(allowed, v) {
			return false
		}
	}
	return true
}
