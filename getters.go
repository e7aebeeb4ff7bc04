package stigg

import (
	"context"
	"errors"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// GetBooleanEntitlement answers whether a feature is on for a customer.
//
// The error is nil when a source answered; with a fallback or a stale answer
// it says what failed. ErrInvalidArgument: the call is wrong, nothing was
// asked, and access is denied whatever the fallback says.
func (c *Client) GetBooleanEntitlement(ctx context.Context, q BooleanQuery) (BooleanEntitlement, error) {
	var f entitlements.Facts
	found, err := c.facts(ctx, featureCheck(q.CustomerID, q.ResourceID, q.FeatureID, 0, false), &f)
	if found {
		if answer, ok := entitlements.DecideBoolean(&f, q.FeatureID, time.Now()); ok {
			return answer, err
		}
	}
	return entitlements.FallbackBoolean(q.FeatureID, c.fallback(q.FeatureID, q.Fallback, err), c.fallbackReason(found, key(q.CustomerID, q.ResourceID), err)), err
}

// GetNumericEntitlement answers with the value of a configuration feature.
// Errors are as for GetBooleanEntitlement.
func (c *Client) GetNumericEntitlement(ctx context.Context, q NumericQuery) (NumericEntitlement, error) {
	var f entitlements.Facts
	found, err := c.facts(ctx, featureCheck(q.CustomerID, q.ResourceID, q.FeatureID, 0, false), &f)
	if found {
		if answer, ok := entitlements.DecideNumeric(&f, q.FeatureID, time.Now()); ok {
			return answer, err
		}
	}
	return entitlements.FallbackNumeric(q.FeatureID, c.fallback(q.FeatureID, q.Fallback, err), c.fallbackReason(found, key(q.CustomerID, q.ResourceID), err)), err
}

// GetEnumEntitlement answers whether all requested values of a feature are
// allowed. Errors are as for GetBooleanEntitlement.
func (c *Client) GetEnumEntitlement(ctx context.Context, q EnumQuery) (EnumEntitlement, error) {
	var f entitlements.Facts
	found, err := c.facts(ctx, featureCheck(q.CustomerID, q.ResourceID, q.FeatureID, 0, false), &f)
	if found {
		if answer, ok := entitlements.DecideEnum(&f, q.FeatureID, q.RequestedValues, time.Now()); ok {
			return answer, err
		}
	}
	return entitlements.FallbackEnum(q.FeatureID, q.RequestedValues, c.fallback(q.FeatureID, q.Fallback, err), c.fallbackReason(found, key(q.CustomerID, q.ResourceID), err)), err
}

// GetMeteredEntitlement answers whether some more usage of a metered feature is
// allowed. Where the feature draws on a wallet the wallet decides. Errors are
// as for GetBooleanEntitlement.
func (c *Client) GetMeteredEntitlement(ctx context.Context, q MeteredQuery) (MeteredEntitlement, error) {
	var f entitlements.Facts
	found, err := c.facts(ctx, featureCheck(q.CustomerID, q.ResourceID, q.FeatureID, q.RequestedUsage, true), &f)
	if found {
		if answer, ok := entitlements.DecideMetered(&f, q.FeatureID, q.RequestedUsage, time.Now()); ok {
			return answer, err
		}
	}
	return entitlements.FallbackMetered(q.FeatureID, q.RequestedUsage, c.fallback(q.FeatureID, q.Fallback, err), c.fallbackReason(found, key(q.CustomerID, q.ResourceID), err)), err
}

// GetCreditEntitlement answers whether a wallet covers some consumption, and
// how many credits remain. Errors are as for GetBooleanEntitlement.
func (c *Client) GetCreditEntitlement(ctx context.Context, q CreditQuery) (CreditEntitlement, error) {
	var f entitlements.Facts
	found, err := c.facts(ctx, creditCheck(q.CustomerID, q.ResourceID, q.CurrencyID, q.RequestedUsage), &f)
	if found {
		if answer, ok := entitlements.DecideCredit(&f, q.CurrencyID, q.RequestedUsage, time.Now()); ok {
			return answer, err
		}
	}
	return entitlements.FallbackCredit(q.CurrencyID, q.RequestedUsage, c.creditFallback(q.CurrencyID, q.Fallback, err), c.fallbackReason(found, key(q.CustomerID, q.ResourceID), err)), err
}

// GetEntitlement answers for a feature or a credit of any kind. Errors are as
// for GetBooleanEntitlement.
func (c *Client) GetEntitlement(ctx context.Context, q EntitlementQuery) (Entitlement, error) {
	request := entitlements.Request{RequestedUsage: q.RequestedUsage, RequestedValues: q.RequestedValues}
	var f entitlements.Facts
	var found bool
	var err error
	switch {
	case q.FeatureID != "" && q.CurrencyID != "":
		c.counters.invalidCalls.Add(1)
		err = invalidArgument("set FeatureID or CurrencyID, not both")
	case q.FeatureID == "" && q.CurrencyID == "":
		c.counters.invalidCalls.Add(1)
		err = invalidArgument("FeatureID and CurrencyID are empty; set one of them")
	case q.CurrencyID != "":
		if found, err = c.facts(ctx, creditCheck(q.CustomerID, q.ResourceID, q.CurrencyID, q.RequestedUsage), &f); found {
			return entitlements.Decide(&f, q.CurrencyID, true, request, time.Now()), err
		}
	default:
		if found, err = c.facts(ctx, featureCheck(q.CustomerID, q.ResourceID, q.FeatureID, q.RequestedUsage, true), &f); found {
			return entitlements.Decide(&f, q.FeatureID, false, request, time.Now()), err
		}
	}
	return entitlements.FallbackEntitlement(q.FeatureID, q.CurrencyID, request,
		c.fallback(q.FeatureID, q.Fallback, err), c.creditFallback(q.CurrencyID, q.CreditFallback, err), c.fallbackReason(false, key(q.CustomerID, q.ResourceID), err)), err
}

// check is a question for one entitlement.
type check struct {
	key            cache.Key
	ref            cache.Ref
	requestedUsage float64
	withUsage      bool // the answer depends on the usage
}

func featureCheck(customerID, resourceID, featureID string, requestedUsage float64, withUsage bool) check {
	return check{key: key(customerID, resourceID), ref: cache.Ref{ID: featureID}, requestedUsage: requestedUsage, withUsage: withUsage}
}

func creditCheck(customerID, resourceID, currencyID string, requestedUsage float64) check {
	return check{key: key(customerID, resourceID), ref: cache.Ref{IsCredit: true, ID: currencyID}, requestedUsage: requestedUsage, withUsage: true}
}

// facts finds what is known of one entitlement, if the question is a valid one.
func (c *Client) facts(ctx context.Context, q check, f *entitlements.Facts) (found bool, err error) {
	name := "FeatureID"
	if q.ref.IsCredit {
		name = "CurrencyID"
	}
	if err := checkQuery(q.key.CustomerID, q.key.ResourceID, name, q.ref.ID, q.requestedUsage); err != nil {
		c.counters.invalidCalls.Add(1)
		return false, err
	}
	return c.lookup(ctx, q.key, q.ref, q.withUsage, f)
}

// fallback is the one that the call brings, else the configured one; none for
// a call that is wrong, which is denied: fallbacks are for outages.
func (c *Client) fallback(featureID string, own *EntitlementFallback, err error) *EntitlementFallback {
	if errors.Is(err, ErrInvalidArgument) {
		return nil
	}
	if own != nil {
		return own
	}
	if configured, ok := c.config.EntitlementsFallback[featureID]; ok {
		return &configured
	}
	return nil
}

// creditFallback is the same for a credit.
func (c *Client) creditFallback(currencyID string, own *CreditFallback, err error) *CreditFallback {
	if errors.Is(err, ErrInvalidArgument) {
		return nil
	}
	if own != nil {
		return own
	}
	if configured, ok := c.config.CreditEntitlementsFallback[currencyID]; ok {
		return &configured
	}
	return nil
}

// fallbackReason is why a denying fallback denies: nobody answered, or, where
// facts were found, the feature is of another type than was asked for.
func (c *Client) fallbackReason(found bool, k cache.Key, err error) AccessDeniedReason {
	if found {
		c.counters.typeMismatches.Add(1)
		return FeatureTypeMismatch
	}
	c.countFallback(k, err)
	return Unknown
}

func (c *Client) countFallback(k cache.Key, err error) {
	c.counters.fallbacks.Add(1)
	c.observe(Event{Type: EventFallback, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Err: err})
}
