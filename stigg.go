// Package stigg answers what a customer may use, how much of it is left, and
// how many credits are in the wallet: from a Redis that Stigg's programs
// share, else from Stigg's API, else from a fallback of your own.
//
//	client, err := stigg.Initialize(stigg.Config{
//		APIKey: os.Getenv("STIGG_SERVER_API_KEY"),
//		Redis:  &stigg.RedisConfig{Host: "localhost", Port: 6379, EnvironmentPrefix: "production"},
//	})
//	if err != nil {
//		log.Fatal(err) // the Config is wrong; nothing else fails here
//	}
//	defer client.Close()
//
//	tokens, err := client.GetCreditEntitlement(ctx, stigg.CreditQuery{
//		CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 20,
//	})
//	if !tokens.HasAccess {
//		// out of credits: tokens.Remaining are left, for tokens.AccessDeniedReason
//	}
//
// Every getter returns a usable answer and an error. The error is nil when a
// source answered, and says what failed when the answer is a fallback or is
// stale; whoever ignores it still has a safe answer. "Not entitled" is an
// answer, not an error.
package stigg

import (
	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

// Version is the version of this SDK.
const Version = "0.1.0"

// The answers, and what they are made of.
type (
	// BooleanEntitlement answers for a feature that is on or off.
	BooleanEntitlement = entitlements.BooleanEntitlement
	// NumericEntitlement answers for a configuration value.
	NumericEntitlement = entitlements.NumericEntitlement
	// EnumEntitlement answers for a feature with a list of allowed values.
	EnumEntitlement = entitlements.EnumEntitlement
	// MeteredEntitlement answers for a feature whose usage is counted.
	MeteredEntitlement = entitlements.MeteredEntitlement
	// CreditEntitlement answers for a wallet.
	CreditEntitlement = entitlements.CreditEntitlement
	// Entitlement answers for a feature or credit of any kind.
	Entitlement = entitlements.Entitlement
	// EntitlementsState is everything a customer or resource is entitled to.
	EntitlementsState = entitlements.EntitlementsState
	// EntitlementFallback is the answer for a feature when no source can be reached.
	EntitlementFallback = entitlements.EntitlementFallback
	// CreditFallback is the answer for a credit when no source can be reached.
	CreditFallback = entitlements.CreditFallback
	// Feature describes a feature.
	Feature = entitlements.Feature
	// Currency describes a credit currency.
	Currency = credits.Currency
	// Source says where the data behind an answer came from.
	Source = entitlements.Source
	// AccessDeniedReason says why access was denied.
	AccessDeniedReason = entitlements.AccessDeniedReason
	// Kind is the type of an Entitlement.
	Kind = entitlements.Kind
	// ResetPeriod is the length of a usage period.
	ResetPeriod = entitlements.ResetPeriod
	// FeatureType is the API's type of a feature.
	FeatureType = entitlements.FeatureType
	// MeterType says how a feature is metered.
	MeterType = entitlements.MeterType
	// Error is a failed operation: who failed, how, and the API's code and
	// trace id. Reach it with errors.As.
	Error = apierr.Error
)

// The sources of an answer.
const (
	SourceMemory   = entitlements.SourceMemory   // this process
	SourceRedis    = entitlements.SourceRedis    // the shared persistent cache
	SourceEdge     = entitlements.SourceEdge     // Stigg's Edge API
	SourceGraphQL  = entitlements.SourceGraphQL  // Stigg's GraphQL API
	SourceFallback = entitlements.SourceFallback // nobody answered
)

// The kinds of an Entitlement.
const (
	KindUnknown = entitlements.KindUnknown
	KindBoolean = entitlements.KindBoolean
	KindNumeric = entitlements.KindNumeric
	KindEnum    = entitlements.KindEnum
	KindMetered = entitlements.KindMetered
	KindCredit  = entitlements.KindCredit
)

// The types of a feature.
const (
	FeatureBoolean = entitlements.FeatureBoolean
	FeatureEnum    = entitlements.FeatureEnum
	FeatureNumber  = entitlements.FeatureNumber
)

// The meter types.
const (
	MeterNone        = entitlements.MeterNone
	MeterFluctuating = entitlements.MeterFluctuating
	MeterIncremental = entitlements.MeterIncremental
)

// The reset periods.
const (
	ResetHour  = entitlements.ResetHour
	ResetDay   = entitlements.ResetDay
	ResetWeek  = entitlements.ResetWeek
	ResetMonth = entitlements.ResetMonth
	ResetYear  = entitlements.ResetYear
)

// The reasons for denying access that the API and this SDK give. The API can
// give others, which are passed on.
const (
	BudgetExceeded                     = entitlements.BudgetExceeded
	CustomerIsArchived                 = entitlements.CustomerIsArchived
	CustomerNotFound                   = entitlements.CustomerNotFound
	CustomerResourceNotFound           = entitlements.CustomerResourceNotFound
	EntitlementNotFound                = entitlements.EntitlementNotFound
	FeatureNotFound                    = entitlements.FeatureNotFound
	FeatureTypeMismatch                = entitlements.FeatureTypeMismatch
	InsufficientCredits                = entitlements.InsufficientCredits
	NoActiveSubscription               = entitlements.NoActiveSubscription
	NoFeatureEntitlementInSubscription = entitlements.NoFeatureEntitlementInSubscription
	RequestedUsageExceedingLimit       = entitlements.RequestedUsageExceedingLimit
	RequestedValuesMismatch            = entitlements.RequestedValuesMismatch
	Revoked                            = entitlements.Revoked
	Unknown                            = entitlements.Unknown
)

// The errors that a caller can act on. Test with errors.Is.
var (
	// ErrInvalidConfig: fix the Config; every wrong field is named.
	ErrInvalidConfig = apierr.ErrInvalidConfig
	// ErrInvalidArgument: the call was wrong and nothing was sent. Fix the caller.
	ErrInvalidArgument = apierr.ErrInvalidArgument
	// ErrUnauthenticated: the API key is wrong or revoked. Retrying does not help.
	ErrUnauthenticated = apierr.ErrUnauthenticated
	// ErrForbidden: the API key may not do this. Retrying does not help.
	ErrForbidden = apierr.ErrForbidden
	// ErrNotFound: the API answered 404; its URL may be wrong. What a report or
	// a consumption names and the API does not know is an ErrRejected.
	ErrNotFound = apierr.ErrNotFound
	// ErrRejected: the API refused the request; the *Error's Code says why.
	// Retrying does not help.
	ErrRejected = apierr.ErrRejected
	// ErrRateLimited: the API asks to slow down; see the *Error's RetryAfter.
	ErrRateLimited = apierr.ErrRateLimited
	// ErrUnavailable: the API could not be reached, timed out or failed. Try again later.
	ErrUnavailable = apierr.ErrUnavailable
	// ErrMalformedResponse: the API answered something that is not an answer.
	ErrMalformedResponse = apierr.ErrMalformedResponse
	// ErrOffline: the client was configured to make no calls.
	ErrOffline = apierr.ErrOffline
	// ErrClosed: the client was closed. Make a new one.
	ErrClosed = apierr.ErrClosed
)
