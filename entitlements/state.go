package entitlements

import "time"

// EntitlementsState is everything that a customer or a resource is entitled to.
type EntitlementsState struct {
	// Entitlements is the answer for each entitlement, as GetEntitlement with
	// no requested usage gives it, in the order in which the source lists them.
	Entitlements []Entitlement
	// AccessDeniedReason says why there are none: CustomerNotFound,
	// CustomerIsArchived or NoActiveSubscription, and Unknown in a fallback;
	// empty if there are some, or if the source does not say why.
	AccessDeniedReason AccessDeniedReason
	IsFallback         bool
	Source             Source
	Stale              bool      // the data is known to be out of date, and nothing newer could be reached
	DataTime           time.Time // when the list last changed at its origin; zero: unknown
}
