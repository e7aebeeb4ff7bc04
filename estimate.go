package stigg

import (
	"context"

	"github.com/stiggio/server-sdk-go/graphql"
)

// UsageCostQuery asks what some usage of a feature would cost.
type UsageCostQuery struct {
	CustomerID     string         // required, at most 255 characters
	ResourceID     string         // optional
	FeatureID      string         // required, at most 255 characters
	Value          float64        // units
	UpdateBehavior UpdateBehavior // default UpdateDelta
	Dimensions     map[string]any // optional
}

// EventCostQuery asks what an event would cost.
type EventCostQuery struct {
	CustomerID string         // required, at most 255 characters
	ResourceID string         // optional
	EventName  string         // required
	Dimensions map[string]any // optional
}

// CostEstimate is what something would cost, by currency.
type CostEstimate struct {
	Estimates []CurrencyEstimate
	Warnings  []string // such as FEATURE_NOT_CREDIT_BASED
}

// CurrencyEstimate is what something would cost in one currency.
type CurrencyEstimate struct {
	CurrencyID     string
	Cost           float64 // credits
	CurrentBalance float64 // credits
	BalanceAfter   float64 // credits
	WouldOverdraft bool
	Breakdown      []FeatureCost
}

// FeatureCost is the part of a cost that one feature makes.
type FeatureCost struct {
	FeatureID string
	Cost      float64 // credits
	Warning   string  // such as UNSUPPORTED_AGGREGATION; empty: none
}

// EstimateUsageCost asks the API what some usage would cost in credits. Nothing
// is consumed. Errors are as for ReportUsage.
func (c *Client) EstimateUsageCost(ctx context.Context, q UsageCostQuery) (CostEstimate, error) {
	report := UsageReport{CustomerID: q.CustomerID, ResourceID: q.ResourceID, FeatureID: q.FeatureID, Value: q.Value, UpdateBehavior: q.UpdateBehavior, Dimensions: q.Dimensions}
	if err := report.check(); err != nil {
		c.counters.invalidCalls.Add(1)
		return CostEstimate{}, err
	}
	if err := c.usable(); err != nil {
		return CostEstimate{}, err
	}
	in := report.input()
	callCtx, cancel := c.callContext(ctx)
	defer cancel()
	answer, err := graphql.EstimateUsageCost(callCtx, c.graphql, graphql.EstimateUsageCostInput{
		CustomerId: in.CustomerId, ResourceId: in.ResourceId, FeatureId: in.FeatureId, Value: in.Value,
		UpdateBehavior: in.UpdateBehavior, Dimensions: in.Dimensions,
	})
	if err != nil {
		return CostEstimate{}, err
	}
	return estimate(&answer.EstimateUsageCost), nil
}

// EstimateEventCost asks the API what an event would cost in credits. Nothing
// is reported. Errors are as for ReportUsage.
func (c *Client) EstimateEventCost(ctx context.Context, q EventCostQuery) (CostEstimate, error) {
	err := checkQuery(q.CustomerID, q.ResourceID, "EventName", q.EventName, 0)
	if err == nil {
		err = checkDimensions(q.Dimensions)
	}
	if err != nil {
		c.counters.invalidCalls.Add(1)
		return CostEstimate{}, err
	}
	if err := c.usable(); err != nil {
		return CostEstimate{}, err
	}
	callCtx, cancel := c.callContext(ctx)
	defer cancel()
	answer, err := graphql.EstimateEventCost(callCtx, c.graphql, graphql.EstimateEventCostInput{
		CustomerId: q.CustomerID, ResourceId: orNil(q.ResourceID), EventName: q.EventName, Dimensions: q.Dimensions,
	})
	if err != nil {
		return CostEstimate{}, err
	}
	return estimate(&answer.EstimateEventCost), nil
}

func estimate(a *graphql.CreditCostEstimation) CostEstimate {
	var out CostEstimate
	for _, e := range a.Estimates {
		currency := CurrencyEstimate{
			CurrencyID: e.CurrencyId, Cost: e.EstimatedCost, CurrentBalance: e.CurrentBalance,
			BalanceAfter: e.BalanceAfterEstimate, WouldOverdraft: e.WouldOverdraft,
		}
		for _, b := range e.Breakdown {
			cost := FeatureCost{FeatureID: b.FeatureId, Cost: b.Cost}
			if b.WarningCode != nil {
				cost.Warning = string(*b.WarningCode)
			}
			currency.Breakdown = append(currency.Breakdown, cost)
		}
		out.Estimates = append(out.Estimates, currency)
	}
	for _, w := range a.Warnings {
		out.Warnings = append(out.Warnings, string(w))
	}
	return out
}
