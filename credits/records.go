package credits

import (
	"encoding/json"
	"time"
)

// Balance is a customer's balance in one currency, as the API keeps it.
type Balance struct {
	Currency   Currency
	ResourceID string    // empty: the customer itself
	Remaining  float64   // credits
	Granted    float64   // credits granted in total
	Consumed   float64   // credits consumed in total
	ValidUntil time.Time // zero: no end
}

// Grant is an amount of credits that was given to a customer.
type Grant struct {
	ID            string
	CustomerID    string
	ResourceID    string // empty: the customer itself
	CurrencyID    string
	DisplayName   string
	Type          string // such as PAID, PROMOTIONAL, RECURRING
	Status        string // such as ACTIVE, EXPIRED, VOIDED, SCHEDULED
	Amount        float64
	Consumed      float64 // credits of the grant that were consumed
	Priority      float64 // lower is consumed first
	CostAmount    float64 // in CostCurrency
	CostCurrency  string  // such as usd
	Comment       string
	InvoiceID     string
	EffectiveAt   time.Time
	ExpireAt      time.Time // zero: never
	VoidedAt      time.Time // zero: not voided
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Metadata      json.RawMessage
	PaymentStatus string // such as NOT_REQUIRED, PROCESSING, FAILED, ACTION_REQUIRED
}

// LedgerEvent is one movement of credits.
type LedgerEvent struct {
	Time       time.Time
	Type       string // such as CREDITS_GRANTED, CREDITS_CONSUMED, CREDITS_EXPIRED
	EventID    string
	Amount     float64 // credits
	CustomerID string
	ResourceID string // empty: the customer itself
	GrantID    string
	CurrencyID string
	FeatureID  string // the feature that consumed; empty: none
}

// UsageSeries is the consumption of credits by one feature over time.
type UsageSeries struct {
	FeatureID   string
	FeatureName string
	Total       float64 // credits
	Points      []UsagePoint
}

// UsagePoint is a point of a UsageSeries.
type UsagePoint struct {
	Time  time.Time
	Value float64 // credits
}
