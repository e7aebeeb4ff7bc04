// Package entitlements holds what a customer may use and how a request for it
// is decided: the definition of an entitlement, its usage, its usage period,
// and the rules that turn them into an answer. It is pure: values in, values
// out, with the time passed in.
package entitlements

import (
	"encoding/json"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
)

// Source says where the data behind an answer came from.
type Source string

// The sources of an answer.
const (
	SourceMemory   Source = "memory"   // this process
	SourceRedis    Source = "redis"    // the shared persistent cache
	SourceEdge     Source = "edge"     // Stigg's Edge API
	SourceGraphQL  Source = "graphql"  // Stigg's GraphQL API
	SourceFallback Source = "fallback" // nobody answered: the caller's or the configured fallback
)

// AccessDeniedReason says why access was denied. Values that this package
// does not name can occur: they are passed on as the API sent them.
type AccessDeniedReason string

// The reasons that the API and this SDK give.
const (
	BudgetExceeded                     AccessDeniedReason = "BudgetExceeded"
	CustomerIsArchived                 AccessDeniedReason = "CustomerIsArchived"
	CustomerNotFound                   AccessDeniedReason = "CustomerNotFound"
	CustomerResourceNotFound           AccessDeniedReason = "CustomerResourceNotFound"
	EntitlementNotFound                AccessDeniedReason = "EntitlementNotFound"
	FeatureNotFound                    AccessDeniedReason = "FeatureNotFound"
	FeatureTypeMismatch                AccessDeniedReason = "FeatureTypeMismatch"
	InsufficientCredits                AccessDeniedReason = "InsufficientCredits"
	NoActiveSubscription               AccessDeniedReason = "NoActiveSubscription"
	NoFeatureEntitlementInSubscription AccessDeniedReason = "NoFeatureEntitlementInSubscription"
	RequestedUsageExceedingLimit       AccessDeniedReason = "RequestedUsageExceedingLimit"
	RequestedValuesMismatch            AccessDeniedReason = "RequestedValuesMismatch"
	Revoked                            AccessDeniedReason = "Revoked"
	Unknown                            AccessDeniedReason = "Unknown"
)

// FeatureType is the API's type of a feature.
type FeatureType string

// The types of a feature.
const (
	FeatureBoolean FeatureType = "BOOLEAN"
	FeatureEnum    FeatureType = "ENUM"
	FeatureNumber  FeatureType = "NUMBER"
)

// MeterType says how a NUMBER feature is metered. Empty and MeterNone mean a
// configuration value that is not metered.
type MeterType string

// The meter types.
const (
	MeterNone        MeterType = "None"
	MeterFluctuating MeterType = "Fluctuating"
	MeterIncremental MeterType = "Incremental"
)

// ResetPeriod is the length of a usage period.
type ResetPeriod string

// The reset periods. Months and years are calendar steps in UTC.
const (
	ResetHour  ResetPeriod = "HOUR"
	ResetDay   ResetPeriod = "DAY"
	ResetWeek  ResetPeriod = "WEEK"
	ResetMonth ResetPeriod = "MONTH"
	ResetYear  ResetPeriod = "YEAR"
)

// Kind is the type of an answer.
type Kind string

// The kinds of answers. KindUnknown is the kind of a feature whose type this
// SDK does not know, and of a feature that the customer does not have.
const (
	KindUnknown Kind = ""
	KindBoolean Kind = "boolean"
	KindNumeric Kind = "numeric"
	KindEnum    Kind = "enum"
	KindMetered Kind = "metered"
	KindCredit  Kind = "credit"
)

// Feature describes a feature.
type Feature struct {
	ID          string
	DisplayName string
	Description string
	Type        FeatureType
	MeterType   MeterType
	Units       string
	UnitsPlural string
}

// Definition is what a customer is entitled to in one feature or one credit
// currency, without its usage. Definitions are shared and never changed once
// made.
type Definition struct {
	// IsCredit tells a credit (Currency is set) from a feature (Feature is set).
	IsCredit bool
	Feature  Feature
	Currency credits.Currency

	UsageLimit         *float64 // nil: no limit was given, which counts as 0 unless unlimited
	HasUnlimitedUsage  bool
	HasSoftLimit       bool
	AccessDeniedReason AccessDeniedReason
	EnumValues         []string
	ValidUntil         time.Time     // zero: no end
	CreditRate         *credits.Rate // set for a credit-backed feature
	UsagePeriodAnchor  time.Time     // zero: none
	ResetPeriod        ResetPeriod   // empty: never reset
	UpdatedAt          time.Time     // when the entitlement changed; zero: unknown. Not kept in Redis' value.

	// The API's own objects as they came, for writing them on unchanged; nil
	// when absent or null.
	RawResetPeriodConfiguration json.RawMessage
	RawCurrency                 json.RawMessage
	RawUnitTransformation       json.RawMessage
}

// Usage is the usage of a metered feature or the consumption of a credit.
type Usage struct {
	Current     float64
	PeriodStart time.Time // zero: none
	PeriodEnd   time.Time // zero: the usage never resets
	UpdatedAt   time.Time // when the usage changed; zero: unknown
}

// Record is one entitlement as a source gave it: the definition and the usage
// that came with it, if any.
type Record struct {
	Definition Definition
	Usage      Usage
	HasUsage   bool // false: no usage came with the entitlement
}

// State is everything that a source knows about a customer or a resource.
type State struct {
	Records            []Record
	AccessDeniedReason AccessDeniedReason // CustomerNotFound, CustomerIsArchived, NoActiveSubscription, or empty
}

// Facts is what a source knows about the one entitlement that is asked for.
// The zero value says: the customer has no such entitlement.
type Facts struct {
	Definition *Definition // nil: the customer does not have it
	Usage      Usage
	// Wallet is the credit entitlement that a credit-backed feature draws on;
	// nil when the feature is not credit-backed or the customer has no such
	// wallet.
	Wallet      *Definition
	WalletUsage Usage

	StateDeniedReason AccessDeniedReason // the reason that covers the whole customer or resource
	NoEntitlements    bool               // the customer or resource has no entitlement at all

	Source   Source
	Stale    bool
	DataTime time.Time // the change that the data reflects
}

// Answer is what all answers have in common.
type Answer struct {
	HasAccess          bool
	IsFallback         bool
	AccessDeniedReason AccessDeniedReason // empty when access is granted
	Source             Source             // where the data came from
	Stale              bool               // the data is known to be out of date, and nothing newer could be reached
	DataTime           time.Time          // when the data last changed at its origin; zero: unknown
}

// BooleanEntitlement answers for a feature that is on or off.
type BooleanEntitlement struct {
	Answer
	Feature Feature
}

// NumericEntitlement answers for a configuration value.
type NumericEntitlement struct {
	Answer
	Feature     Feature
	Value       float64 // the configured value; 0 when unlimited or not given
	IsUnlimited bool
}

// EnumEntitlement answers for a feature with a list of allowed values.
type EnumEntitlement struct {
	Answer
	Feature Feature
	// EnumValues are the allowed values. The slice is shared with the cache:
	// read it, do not change it.
	EnumValues      []string
	RequestedValues []string
}

// MeteredEntitlement answers for a feature whose usage is counted.
type MeteredEntitlement struct {
	Answer
	Feature           Feature
	UsageLimit        float64 // units; 0 when unlimited or not given
	IsUnlimited       bool
	HasSoftLimit      bool
	CurrentUsage      float64 // units used in the current usage period
	RequestedUsage    float64
	ResetPeriod       ResetPeriod
	UsagePeriodAnchor time.Time // zero: none
	UsagePeriodStart  time.Time // zero: none
	UsagePeriodEnd    time.Time // zero: the usage never resets
}

// CreditEntitlement answers for a wallet.
type CreditEntitlement struct {
	Answer
	Currency       credits.Currency
	UsageLimit     float64 // credits granted in total
	CurrentUsage   float64 // credits consumed in total
	Remaining      float64 // UsageLimit - CurrentUsage; negative is overdraft
	RequestedUsage float64
	HasSoftLimit   bool
	UsagePeriodEnd time.Time // next reset; zero: none
}

// Entitlement answers for a feature or credit of any kind. The fields of the
// other kinds are zero.
type Entitlement struct {
	Answer
	Kind     Kind
	Feature  Feature          // set unless Kind is KindCredit
	Currency credits.Currency // set if Kind is KindCredit

	Value           float64 // KindNumeric
	IsUnlimited     bool
	EnumValues      []string // KindEnum; shared with the cache: read only
	RequestedValues []string

	UsageLimit        float64 // KindMetered, KindCredit
	CurrentUsage      float64
	RequestedUsage    float64
	Remaining         float64 // KindCredit
	HasSoftLimit      bool
	ResetPeriod       ResetPeriod
	UsagePeriodAnchor time.Time
	UsagePeriodStart  time.Time
	UsagePeriodEnd    time.Time
}

// EntitlementFallback is the answer for a feature when no source can be
// reached. The zero value denies.
type EntitlementFallback struct {
	HasAccess   bool
	UsageLimit  *float64 // metered: the limit to report
	Value       *float64 // numeric: the value to report
	IsUnlimited bool
	EnumValues  []string // enum: the values to report; a request for others is denied
}

// CreditFallback is the answer for a credit when no source can be reached.
// The zero value denies.
type CreditFallback struct {
	HasAccess    bool
	UsageLimit   float64
	CurrentUsage float64
}
