package stiggtest

import (
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// wireTimeLayout is ISO 8601 with milliseconds, for times in UTC.
const wireTimeLayout = "2006-01-02T15:04:05.000Z"

// The answers on the wire: all fields are always present, null where the API
// has nothing to say.

type featureEntitlement struct {
	Typename                 string            `json:"__typename"`
	IsGranted                bool              `json:"isGranted"`
	AccessDeniedReason       *string           `json:"accessDeniedReason"`
	UsageLimit               *float64          `json:"usageLimit"`
	HasUnlimitedUsage        bool              `json:"hasUnlimitedUsage"`
	HasSoftLimit             *bool             `json:"hasSoftLimit"`
	CurrentUsage             *float64          `json:"currentUsage"`
	EnumValues               []string          `json:"enumValues"`
	EntitlementUpdatedAt     *string           `json:"entitlementUpdatedAt"`
	UsageUpdatedAt           *string           `json:"usageUpdatedAt"`
	UsagePeriodAnchor        *string           `json:"usagePeriodAnchor"`
	UsagePeriodStart         *string           `json:"usagePeriodStart"`
	UsagePeriodEnd           *string           `json:"usagePeriodEnd"`
	ResetPeriod              *string           `json:"resetPeriod"`
	ResetPeriodConfiguration map[string]string `json:"resetPeriodConfiguration"`
	Feature                  feature           `json:"feature"`
	CreditRate               *creditRate       `json:"creditRate"`
	ValidUntil               *string           `json:"validUntil"`
}

type feature struct {
	Typename           string                   `json:"__typename"`
	FeatureType        entitlements.FeatureType `json:"featureType"`
	MeterType          *string                  `json:"meterType"`
	FeatureUnits       *string                  `json:"featureUnits"`
	FeatureUnitsPlural *string                  `json:"featureUnitsPlural"`
	Description        *string                  `json:"description"`
	DisplayName        string                   `json:"displayName"`
	RefID              string                   `json:"refId"`
	UnitTransformation *unitTransformation      `json:"unitTransformation"`
}

type unitTransformation struct {
	Divide float64 `json:"divide"`
	Round  string  `json:"round"`
}

type creditRate struct {
	Amount     float64 `json:"amount"`
	CurrencyID string  `json:"currencyId"`
}

type creditEntitlement struct {
	Typename             string   `json:"__typename"`
	IsGranted            bool     `json:"isGranted"`
	AccessDeniedReason   *string  `json:"accessDeniedReason"`
	Currency             currency `json:"currency"`
	UsageLimit           *float64 `json:"usageLimit"`
	CurrentUsage         *float64 `json:"currentUsage"`
	HasSoftLimit         bool     `json:"hasSoftLimit"`
	UsageUpdatedAt       *string  `json:"usageUpdatedAt"`
	EntitlementUpdatedAt *string  `json:"entitlementUpdatedAt"`
	UsagePeriodEnd       *string  `json:"usagePeriodEnd"`
	ValidUntil           *string  `json:"validUntil"`
}

type currency struct {
	CurrencyID         string         `json:"currencyId"`
	DisplayName        string         `json:"displayName"`
	Description        *string        `json:"description"`
	UnitSingular       *string        `json:"unitSingular"`
	UnitPlural         *string        `json:"unitPlural"`
	AdditionalMetaData map[string]any `json:"additionalMetaData"`
}

// optional returns nil, which is null on the wire, for an empty string.
func optional[S ~string](s S) *string {
	if s == "" {
		return nil
	}
	text := string(s)
	return &text
}

// wireTime returns nil, which is null on the wire, for the zero time.
func wireTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return optional(t.UTC().Format(wireTimeLayout))
}

func wireRate(rate *credits.Rate) *creditRate {
	if rate == nil {
		return nil
	}
	return &creditRate{Amount: rate.Amount, CurrencyID: rate.CurrencyID}
}

// resetConfiguration is what the API says beside a reset period whose start
// could be counted in more than one way.
func resetConfiguration(period entitlements.ResetPeriod) map[string]string {
	switch period {
	case entitlements.ResetYear:
		return map[string]string{"__typename": "YearlyResetPeriodConfig", "yearlyAccordingTo": "SubscriptionStart"}
	case entitlements.ResetMonth:
		return map[string]string{"__typename": "MonthlyResetPeriodConfig", "monthlyAccordingTo": "SubscriptionStart"}
	case entitlements.ResetWeek:
		return map[string]string{"__typename": "WeeklyResetPeriodConfig", "weeklyAccordingTo": "SubscriptionStart"}
	default:
		return nil
	}
}

// value reads a number that may be missing as zero.
func value(n *float64) float64 {
	if n == nil {
		return 0
	}
	return *n
}
