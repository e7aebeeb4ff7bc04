package stigg

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/graphql"
)

// CreditConsumption consumes credits of a wallet.
type CreditConsumption struct {
	CustomerID string         // required, at most 255 characters
	ResourceID string         // optional
	CurrencyID string         // required, at most 255 characters
	Amount     float64        // credits, more than 0
	CreatedAt  time.Time      // when they were consumed; zero: now, by the API's clock
	Dimensions map[string]any // optional
	// IdempotencyKey makes a repeated consumption count once. Default: a new
	// key, which the answer tells.
	IdempotencyKey string
}

// ConsumedCredits is what the API says of a consumption.
type ConsumedCredits struct {
	CustomerID     string
	ResourceID     string
	CurrencyID     string
	Amount         float64 // credits
	Timestamp      time.Time
	Balance        *CreditBalance // after the consumption; nil if the API did not say
	IdempotencyKey string         // the key that the consumption was sent with
}

// CreditBalance is the balance of a wallet.
type CreditBalance struct {
	CurrencyID     string
	UsageLimit     float64 // credits granted in total
	CurrentUsage   float64 // credits consumed in total
	Remaining      float64 // UsageLimit - CurrentUsage; negative is overdraft
	UsagePeriodEnd time.Time
	Timestamp      time.Time
}

// ConsumeCredits consumes credits and writes the balance that the API answers
// with to Redis, so that the next check in any process sees it. It is sent
// again after a failure, which its idempotency key makes harmless. Errors are
// as for ReportUsage.
func (c *Client) ConsumeCredits(ctx context.Context, consumption CreditConsumption) (ConsumedCredits, error) {
	if err := consumption.check(); err != nil {
		c.counters.invalidCalls.Add(1)
		return ConsumedCredits{}, err
	}
	withKey(&consumption.IdempotencyKey)
	if err := c.usable(); err != nil {
		return ConsumedCredits{IdempotencyKey: consumption.IdempotencyKey}, err
	}
	callCtx, cancel := c.callContext(ctx)
	defer cancel()
	answer, err := graphql.ConsumeCredits(graphql.Idempotent(callCtx), c.graphql, consumption.input())
	if err != nil {
		return ConsumedCredits{IdempotencyKey: consumption.IdempotencyKey}, err
	}
	consumed := consumed(&answer.ConsumeCredits, consumption.IdempotencyKey)
	if b := consumed.Balance; b != nil {
		c.writeUsages(ctx, []usageWrite{{key(consumed.CustomerID, consumed.ResourceID), cache.UsageUpdate{
			Ref: cache.Ref{IsCredit: true, ID: b.CurrencyID}, At: b.Timestamp,
			Usage: entitlements.Usage{Current: b.CurrentUsage, PeriodEnd: b.UsagePeriodEnd},
		}}})
	}
	return consumed, nil
}

// ConsumeCreditsAsync consumes credits in calls of at most 1,000 consumptions.
// The API takes them in and consumes later: the balances are not in Redis when
// this returns. Otherwise it is as ReportUsageBulk.
func (c *Client) ConsumeCreditsAsync(ctx context.Context, consumptions []CreditConsumption) (BulkResult, error) {
	result := BulkResult{}
	for i := range consumptions {
		if err := consumptions[i].check(); err != nil {
			c.counters.invalidCalls.Add(1)
			return result, fmt.Errorf("consumption %d: %w", i, err)
		}
	}
	inputs := make([]graphql.ConsumeCreditInput, len(consumptions))
	result.IdempotencyKeys = make([]string, len(consumptions))
	for i, consumption := range consumptions {
		withKey(&consumption.IdempotencyKey)
		result.IdempotencyKeys[i], inputs[i] = consumption.IdempotencyKey, consumption.input()
	}
	if err := c.usable(); err != nil {
		return result, err
	}
	var err error
	result.Parts, err = inParts(len(consumptions), maxConsumptionsPerCall, nil, func(from, to int) error {
		callCtx, cancel := c.callContext(ctx)
		defer cancel()
		_, err := graphql.ConsumeCreditsAsync(graphql.Idempotent(callCtx), c.graphql, graphql.ConsumeCreditsAsyncInput{Consumptions: inputs[from:to]})
		return err
	})
	return result, err
}

func (q *CreditConsumption) check() error {
	if err := checkQuery(q.CustomerID, q.ResourceID, "CurrencyID", q.CurrencyID, 0); err != nil {
		return err
	}
	if !(q.Amount > 0) || math.IsInf(q.Amount, 1) { // NaN fails every comparison
		return invalidArgument("Amount must be a number above 0")
	}
	return checkDimensions(q.Dimensions)
}

func (q *CreditConsumption) input() graphql.ConsumeCreditInput {
	return graphql.ConsumeCreditInput{
		CustomerId: q.CustomerID, ResourceId: orNil(q.ResourceID), CurrencyId: q.CurrencyID, Amount: q.Amount,
		CreatedAt: graphql.OptionalTime(q.CreatedAt), Dimensions: q.Dimensions, IdempotencyKey: q.IdempotencyKey,
	}
}

func consumed(a *graphql.CreditConsumption, key string) ConsumedCredits {
	out := ConsumedCredits{
		CustomerID: a.CustomerId, ResourceID: orEmpty(a.ResourceId), CurrencyID: a.CurrencyId,
		Amount: a.Amount, Timestamp: a.Timestamp.Time, IdempotencyKey: key,
	}
	if b := a.Credit; b != nil {
		out.Balance = &CreditBalance{
			CurrencyID: b.CurrencyId, UsageLimit: b.UsageLimit, CurrentUsage: b.CurrentUsage,
			Remaining:      credits.Wallet{Granted: b.UsageLimit, Consumed: b.CurrentUsage}.Remaining(),
			UsagePeriodEnd: b.UsagePeriodEnd.OrZero(), Timestamp: b.Timestamp.Time,
		}
	}
	return out
}
