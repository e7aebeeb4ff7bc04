// Package credits holds what a wallet is and what it covers: a currency, a
// balance, the rate at which a feature draws on it. It does no I/O.
package credits

import "time"

// Currency is a kind of credit that a customer can hold.
type Currency struct {
	ID           string
	DisplayName  string
	Description  string
	UnitSingular string
	UnitPlural   string
	// Metadata is the currency's additional metadata. It is shared by every
	// answer made from the same cached value: read it, do not change it.
	Metadata map[string]any
}

// Rate is what one unit of a credit-backed feature costs.
type Rate struct {
	Amount     float64 // credits per unit of usage
	CurrencyID string
}

// Cost returns the credits that usage units cost.
func (r Rate) Cost(usage float64) float64 { return r.Amount * usage }

// Wallet is a customer's balance in one currency.
type Wallet struct {
	Granted      float64 // credits granted in total
	Consumed     float64 // credits consumed in total; more than Granted is overdraft
	HasSoftLimit bool    // consumption is allowed at zero and below
	PeriodEnd    time.Time
}
