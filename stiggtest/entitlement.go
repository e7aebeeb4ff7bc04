package stiggtest

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// Entitlement is one entitlement as the API serves it. Make one with
// [Boolean], [Numeric], [Enum], [Metered], [CreditBacked], [Credit] or [Raw].
// It is a value: each method returns a changed copy. A method whose field the
// API does not have on that kind of entitlement has no effect.
type Entitlement struct {
	isCredit    bool
	id          string
	displayName string
	description string
	singular    string
	plural      string
	featureType entitlements.FeatureType
	meterType   entitlements.MeterType
	tracksUsage bool // a metered feature or a credit

	limit      *float64
	unlimited  bool
	softLimit  bool
	used       *float64
	enumValues []string
	reason     entitlements.AccessDeniedReason
	rate       *credits.Rate
	metadata   map[string]any
	transform  *unitTransformation

	resetPeriod entitlements.ResetPeriod
	anchor      time.Time
	periodStart time.Time
	periodEnd   time.Time
	validUntil  time.Time

	entitlementUpdatedAt time.Time
	usageUpdatedAt       time.Time

	raw string
}

// Boolean is a feature that is on.
func Boolean(featureID string) Entitlement {
	return Entitlement{
		id: featureID, displayName: featureID,
		featureType: entitlements.FeatureBoolean, meterType: entitlements.MeterNone,
	}
}

// Numeric is a configuration value.
func Numeric(featureID string, value float64) Entitlement {
	return Entitlement{
		id: featureID, displayName: featureID, singular: "unit", plural: "units",
		featureType: entitlements.FeatureNumber, meterType: entitlements.MeterNone, limit: &value,
	}
}

// Enum is a feature with a list of allowed values.
func Enum(featureID string, values ...string) Entitlement {
	return Entitlement{
		id: featureID, displayName: featureID,
		featureType: entitlements.FeatureEnum, enumValues: append([]string{}, values...),
	}
}

// Metered is a feature whose usage is counted: used of limit units, with an
// incremental meter, no soft limit, and no reset.
func Metered(featureID string, limit, used float64) Entitlement {
	return Entitlement{
		id: featureID, displayName: featureID, singular: "unit", plural: "units",
		featureType: entitlements.FeatureNumber, meterType: entitlements.MeterIncremental,
		limit: &limit, used: &used, tracksUsage: true,
	}
}

// CreditBacked is a metered feature that is paid with credits: one unit costs
// rate credits of the currency. It is unlimited in itself and unused so far;
// see [Entitlement.Limit] and [Entitlement.Used]. The wallet is a [Credit]
// beside it. When that wallet is empty and has no soft limit, the feature is
// served as denied with InsufficientCredits.
func CreditBacked(featureID string, rate float64, currencyID string) Entitlement {
	e := Metered(featureID, 0, 0).Unlimited()
	e.rate = &credits.Rate{Amount: rate, CurrencyID: currencyID}
	return e
}

// Credit is a wallet: the credits granted and the credits consumed in total.
// When nothing remains and it has no soft limit, it is served as denied with
// InsufficientCredits.
func Credit(currencyID string, granted, consumed float64) Entitlement {
	return Entitlement{
		isCredit: true, id: currencyID, displayName: currencyID, singular: "credit", plural: "credits",
		limit: &granted, used: &consumed, tracksUsage: true,
	}
}

// Raw is an entitlement that is served as it is written, such as one of a type
// that clients do not know yet, or one that is broken. No method changes it.
func Raw(json string) Entitlement { return Entitlement{raw: json} }

// Named sets the display name; without it the id is the display name.
func (e Entitlement) Named(displayName string) Entitlement {
	e.displayName = displayName
	return e
}

// Described sets the description; without it there is none.
func (e Entitlement) Described(description string) Entitlement {
	e.description = description
	return e
}

// Units sets the names of one and of several units. Empty is null.
func (e Entitlement) Units(singular, plural string) Entitlement {
	e.singular, e.plural = singular, plural
	return e
}

// UnitTransformation says that usage is counted in units of divide, rounded UP
// or DOWN. It is only served: the fake does not calculate with it.
func (e Entitlement) UnitTransformation(divide float64, round string) Entitlement {
	e.transform = &unitTransformation{Divide: divide, Round: round}
	return e
}

// Metadata sets a currency's additional metadata.
func (e Entitlement) Metadata(metadata map[string]any) Entitlement {
	e.metadata = maps.Clone(metadata)
	return e
}

// Fluctuating gives a metered feature a meter that can go down as well.
func (e Entitlement) Fluctuating() Entitlement {
	e.meterType = entitlements.MeterFluctuating
	return e
}

// Limit sets the limit, the value or the granted credits, and ends Unlimited.
func (e Entitlement) Limit(limit float64) Entitlement {
	e.limit, e.unlimited = &limit, false
	return e
}

// NoLimit serves no limit (null) without making the feature unlimited.
func (e Entitlement) NoLimit() Entitlement {
	e.limit = nil
	return e
}

// Unlimited makes a feature unlimited: no limit, and the flag that says so.
func (e Entitlement) Unlimited() Entitlement {
	e.limit, e.unlimited = nil, true
	return e
}

// SoftLimit allows usage and consumption beyond the limit.
func (e Entitlement) SoftLimit() Entitlement {
	e.softLimit = true
	return e
}

// Used sets the units used or the credits consumed.
func (e Entitlement) Used(n float64) Entitlement {
	e.used = &n
	return e
}

// NoUsage serves no usage and no time of its change (both null). The first
// report of usage counts from zero.
func (e Entitlement) NoUsage() Entitlement {
	e.used, e.usageUpdatedAt = nil, time.Time{}
	return e
}

// Denied serves the entitlement as not granted for this reason. It may be a
// reason that clients do not know.
func (e Entitlement) Denied(reason entitlements.AccessDeniedReason) Entitlement {
	e.reason = reason
	return e
}

// Resets makes a metered feature's usage reset each period: anchor is where
// periods are counted from, start and end bound the current one. A zero time
// is served as null. The fake does not begin a new period by itself.
func (e Entitlement) Resets(period entitlements.ResetPeriod, anchor, start, end time.Time) Entitlement {
	e.resetPeriod, e.anchor, e.periodStart, e.periodEnd = period, anchor, start, end
	return e
}

// RenewsAt sets when the current usage period ends; of a wallet, when its
// credits are granted anew.
func (e Entitlement) RenewsAt(end time.Time) Entitlement {
	e.periodEnd = end
	return e
}

// ValidUntil sets when the entitlement ends.
func (e Entitlement) ValidUntil(end time.Time) Entitlement {
	e.validUntil = end
	return e
}

// EntitlementUpdatedAt sets when the entitlement changed, in place of the time
// of the Set call that adds it.
func (e Entitlement) EntitlementUpdatedAt(t time.Time) Entitlement {
	e.entitlementUpdatedAt = t
	return e
}

// UsageUpdatedAt sets when the usage changed, in place of the time of the Set
// call that adds it.
func (e Entitlement) UsageUpdatedAt(t time.Time) Entitlement {
	e.usageUpdatedAt = t
	return e
}

// grants reports whether the wallet covers anything at all.
func (e Entitlement) grants() bool {
	return e.softLimit || value(e.limit) > value(e.used)
}

// wire returns the entitlement as JSON. The wallet is the one that a
// credit-backed feature draws on, or nil.
func (e Entitlement) wire(wallet *Entitlement) ([]byte, error) {
	if e.raw != "" {
		return []byte(e.raw), nil
	}
	reason := e.reason
	if e.isCredit && reason == "" && !e.grants() || wallet != nil && reason == "" && !wallet.grants() {
		reason = entitlements.InsufficientCredits
	}
	if e.isCredit {
		return json.Marshal(creditEntitlement{
			Typename:             "CreditEntitlement",
			IsGranted:            reason == "",
			AccessDeniedReason:   optional(reason),
			Currency:             e.currency(),
			UsageLimit:           e.limit,
			CurrentUsage:         e.used,
			HasSoftLimit:         e.softLimit,
			UsageUpdatedAt:       wireTime(e.usageUpdatedAt),
			EntitlementUpdatedAt: wireTime(e.entitlementUpdatedAt),
			UsagePeriodEnd:       wireTime(e.periodEnd),
			ValidUntil:           wireTime(e.validUntil),
		})
	}
	return json.Marshal(featureEntitlement{
		Typename:                 "FeatureEntitlement",
		IsGranted:                reason == "",
		AccessDeniedReason:       optional(reason),
		UsageLimit:               e.limit,
		HasUnlimitedUsage:        e.unlimited,
		HasSoftLimit:             e.wireSoftLimit(),
		CurrentUsage:             e.used,
		EnumValues:               slices.Clone(e.enumValues),
		EntitlementUpdatedAt:     wireTime(e.entitlementUpdatedAt),
		UsageUpdatedAt:           wireTime(e.usageUpdatedAt),
		UsagePeriodAnchor:        wireTime(e.anchor),
		UsagePeriodStart:         wireTime(e.periodStart),
		UsagePeriodEnd:           wireTime(e.periodEnd),
		ResetPeriod:              optional(e.resetPeriod),
		ResetPeriodConfiguration: resetConfiguration(e.resetPeriod),
		Feature: feature{
			Typename:           "EntitlementFeature",
			FeatureType:        e.featureType,
			MeterType:          optional(e.meterType),
			FeatureUnits:       optional(e.singular),
			FeatureUnitsPlural: optional(e.plural),
			Description:        optional(e.description),
			DisplayName:        e.displayName,
			RefID:              e.id,
			UnitTransformation: e.transform,
		},
		CreditRate: wireRate(e.rate),
		ValidUntil: wireTime(e.validUntil),
	})
}

// wireSoftLimit is null where a limit has no meaning.
func (e Entitlement) wireSoftLimit() *bool {
	if !e.tracksUsage && !e.softLimit {
		return nil
	}
	return &e.softLimit
}

func (e Entitlement) currency() currency {
	return currency{
		CurrencyID:         e.id,
		DisplayName:        e.displayName,
		Description:        optional(e.description),
		UnitSingular:       optional(e.singular),
		UnitPlural:         optional(e.plural),
		AdditionalMetaData: e.metadata,
	}
}
