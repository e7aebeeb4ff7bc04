package stigg

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/stiggio/server-sdk-go/cache"
)

// BooleanQuery asks whether a feature is on.
type BooleanQuery struct {
	CustomerID string // required, at most 255 characters
	ResourceID string // optional: the resource of the customer that is meant
	FeatureID  string // required, at most 255 characters
	Fallback   *EntitlementFallback
}

// NumericQuery asks for the value of a configuration feature.
type NumericQuery struct {
	CustomerID string // required, at most 255 characters
	ResourceID string // optional: the resource of the customer that is meant
	FeatureID  string // required, at most 255 characters
	Fallback   *EntitlementFallback
}

// EnumQuery asks whether values of a feature are allowed.
type EnumQuery struct {
	CustomerID      string   // required, at most 255 characters
	ResourceID      string   // optional: the resource of the customer that is meant
	FeatureID       string   // required, at most 255 characters
	RequestedValues []string // all must be allowed; none: access if there is the entitlement
	Fallback        *EntitlementFallback
}

// MeteredQuery asks whether some usage of a metered feature is allowed.
type MeteredQuery struct {
	CustomerID     string  // required, at most 255 characters
	ResourceID     string  // optional: the resource of the customer that is meant
	FeatureID      string  // required, at most 255 characters
	RequestedUsage float64 // units on top of the current usage; 0 asks whether the limit is kept
	Fallback       *EntitlementFallback
}

// CreditQuery asks whether a wallet covers some consumption.
type CreditQuery struct {
	CustomerID     string  // required, at most 255 characters
	ResourceID     string  // optional: the resource of the customer that is meant
	CurrencyID     string  // required, at most 255 characters
	RequestedUsage float64 // credits to be consumed; 0 asks whether any are left
	Fallback       *CreditFallback
}

// EntitlementQuery asks for a feature, or for a credit, of any kind.
type EntitlementQuery struct {
	CustomerID      string // required, at most 255 characters
	ResourceID      string // optional: the resource of the customer that is meant
	FeatureID       string // this or CurrencyID is required
	CurrencyID      string
	RequestedUsage  float64  // for a metered feature or a credit
	RequestedValues []string // for an enum feature
	Fallback        *EntitlementFallback
	CreditFallback  *CreditFallback
}

// checkQuery checks what all queries have. name names the field that id is of.
func checkQuery(customerID, resourceID, name, id string, requestedUsage float64) error {
	if problem := idProblem(customerID); problem != "" {
		return invalidArgument("CustomerID %s", problem)
	}
	if resourceID != "" {
		if problem := idProblem(resourceID); problem != "" {
			return invalidArgument("ResourceID %s", problem)
		}
	}
	if problem := idProblem(id); problem != "" {
		return invalidArgument("%s %s", name, problem)
	}
	if !(requestedUsage >= 0) || math.IsInf(requestedUsage, 1) { // NaN fails every comparison
		return invalidArgument("RequestedUsage must be a number that is not negative")
	}
	return nil
}

// idProblem says what is wrong with an id; empty if nothing is.
func idProblem(id string) string {
	switch {
	case id == "":
		return "is empty"
	case len(id) > maxIDLength && utf8.RuneCountInString(id) > maxIDLength:
		return fmt.Sprintf("is longer than %d characters", maxIDLength)
	case !utf8.ValidString(id):
		return "is not valid UTF-8"
	}
	return ""
}

func invalidArgument(format string, args ...any) error {
	return fmt.Errorf("stigg: %w: %w", ErrInvalidArgument, fmt.Errorf(format, args...))
}

func key(customerID, resourceID string) cache.Key {
	return cache.Key{CustomerID: customerID, ResourceID: resourceID}
}
