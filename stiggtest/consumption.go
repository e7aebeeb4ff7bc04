package stiggtest

import (
	"errors"
	"fmt"
	"time"
)

// consumption takes credits from a wallet.
type consumption struct {
	scopedTarget
	CurrencyID     string         `json:"currencyId"`
	Amount         *float64       `json:"amount"`
	IdempotencyKey string         `json:"idempotencyKey"`
	CreatedAt      *string        `json:"createdAt"`
	Dimensions     map[string]any `json:"dimensions"`
}

func (c consumption) check() error {
	err := errors.Join(c.scopedTarget.check(), checkTime("createdAt", c.CreatedAt))
	if c.CurrencyID == "" || c.Amount == nil || c.IdempotencyKey == "" {
		err = errors.Join(err, badInput("currencyId, amount and idempotencyKey are required"))
	}
	return err
}

type consumptionsInput struct {
	Consumptions  []consumption `json:"consumptions"`
	EnvironmentID *string       `json:"environmentId"`
}

func (in consumptionsInput) check() error {
	if len(in.Consumptions) > maxConsumptions {
		return badInput("%d consumptions: at most %d", len(in.Consumptions), maxConsumptions)
	}
	for _, c := range in.Consumptions {
		if err := c.check(); err != nil {
			return err
		}
	}
	return noneEmpty("environmentId", in.EnvironmentID)
}

// consumed answers a consumption.
type consumed struct {
	Amount     float64        `json:"amount"`
	CurrencyID string         `json:"currencyId"`
	CustomerID string         `json:"customerId"`
	ResourceID *string        `json:"resourceId"`
	Timestamp  *string        `json:"timestamp"`
	Credit     walletSnapshot `json:"credit"`
}

// walletSnapshot is a wallet after a consumption.
type walletSnapshot struct {
	CurrencyID     string  `json:"currencyId"`
	CurrentUsage   float64 `json:"currentUsage"`
	UsageLimit     float64 `json:"usageLimit"`
	Timestamp      *string `json:"timestamp"`
	UsagePeriodEnd *string `json:"usagePeriodEnd"`
}

func (s *Server) consumeCredits(in consumption) (consumed, error) {
	return s.consume(in, s.clock.tick())
}

// consume takes the credits at the time now, once for each idempotency key.
func (s *Server) consume(in consumption, now time.Time) (consumed, error) {
	once := idempotency{"credit", in.CustomerID, in.IdempotencyKey}
	if answer, ok := s.answered[once].(consumed); ok {
		return answer, nil
	}
	if _, err := s.knownCustomer(in.CustomerID); err != nil {
		return consumed{}, err
	}
	wallet := s.account(in.CustomerID, in.resource()).find(true, in.CurrencyID)
	if wallet == nil {
		return consumed{}, &apiError{codeNoCurrency, fmt.Sprintf("no credit %q", in.CurrencyID)}
	}
	wallet.use(value(wallet.used)+*in.Amount, now)
	answer := consumed{
		Amount:     *in.Amount,
		CurrencyID: in.CurrencyID,
		CustomerID: in.CustomerID,
		ResourceID: in.ResourceID,
		Timestamp:  wireTime(wallet.usageUpdatedAt),
		Credit: walletSnapshot{
			CurrencyID:     in.CurrencyID,
			CurrentUsage:   *wallet.used,
			UsageLimit:     value(wallet.limit),
			Timestamp:      wireTime(wallet.usageUpdatedAt),
			UsagePeriodEnd: wireTime(wallet.periodEnd),
		},
	}
	s.answered[once] = answer
	return answer, nil
}

// consumeCreditsAsync consumes at once. As the real API answers before it
// consumes, what cannot be consumed is not an error. One tick serves all: a
// thousand would carry the clock of everything else a second into the future.
func (s *Server) consumeCreditsAsync(in consumptionsInput) (any, error) {
	now := s.clock.tick()
	for _, c := range in.Consumptions {
		_, _ = s.consume(c, now) // nobody waits for the outcome
	}
	return nil, nil
}
