package stigg

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/graphql"
)

// pageSize is how many records are fetched at a time.
const pageSize = 100

// CreditsQuery selects the credits of a customer.
type CreditsQuery struct {
	CustomerID string // required, at most 255 characters
	ResourceID string // optional
	CurrencyID string // optional: only this currency
}

// CreditUsageQuery selects the consumption of credits of a customer.
type CreditUsageQuery struct {
	CreditsQuery
	From, To time.Time // optional
	// TimeRange is LAST_DAY, LAST_WEEK, LAST_MONTH or LAST_YEAR, in place of
	// From and To.
	TimeRange string
}

func (q CreditsQuery) check() error {
	currency := q.CurrencyID
	if currency == "" {
		currency = q.CustomerID // optional: stand in with what is checked anyway
	}
	return checkQuery(q.CustomerID, q.ResourceID, "CurrencyID", currency, 0)
}

// CreditBalances gives the balances of a customer's wallets as the API keeps
// them. For checks use GetCreditEntitlement, which asks the cache. Errors are
// as for ReportUsage.
func (c *Client) CreditBalances(ctx context.Context, q CreditsQuery) ([]credits.Balance, error) {
	if err := c.mayQuery(q); err != nil {
		return nil, err
	}
	callCtx, cancel := c.callContext(ctx)
	defer cancel()
	answer, err := graphql.GetCreditBalance(callCtx, c.graphql, graphql.CreditBalanceSummaryInput{
		CustomerId: q.CustomerID, ResourceId: orNil(q.ResourceID), CurrencyId: orNil(q.CurrencyID),
	})
	if err != nil {
		return nil, err
	}
	balances := make([]credits.Balance, 0, len(answer.CreditBalanceSummary.Balances))
	for _, b := range answer.CreditBalanceSummary.Balances {
		balance := credits.Balance{
			Currency: currencyOf(b.Currency), ResourceID: orEmpty(b.ResourceId),
			Remaining: b.CurrentBalance, Granted: b.TotalGranted, Consumed: b.TotalConsumed,
		}
		if b.ValidUntil != nil {
			balance.ValidUntil = millisTime(int64(*b.ValidUntil))
		}
		balances = append(balances, balance)
	}
	return balances, nil
}

// CreditGrants walks over the grants of a customer, page by page:
//
//	for grant, err := range client.CreditGrants(ctx, stigg.CreditsQuery{CustomerID: "acme"}) { … }
//
// An error ends the walk. Errors are as for ReportUsage.
func (c *Client) CreditGrants(ctx context.Context, q CreditsQuery) iter.Seq2[credits.Grant, error] {
	return credits.All(ctx, func(ctx context.Context, cursor string) (credits.Page[credits.Grant], error) {
		var page credits.Page[credits.Grant]
		if err := c.mayQuery(q); err != nil {
			return page, err
		}
		callCtx, cancel := c.callContext(ctx)
		defer cancel()
		answer, err := graphql.GetCreditGrants(callCtx, c.graphql, graphql.GetCreditGrantsInput{
			CustomerId: q.CustomerID, ResourceId: orNil(q.ResourceID), CurrencyId: orNil(q.CurrencyID), Paging: paging(cursor),
		})
		if err != nil {
			return page, err
		}
		page.Next = nextPage(answer.CreditGrants.PageInfo)
		for i := range answer.CreditGrants.Edges {
			page.Items = append(page.Items, grant(&answer.CreditGrants.Edges[i].Node))
		}
		return page, nil
	})
}

// CreditLedger walks over the movements of a customer's credits, page by page.
// An error ends the walk. Errors are as for ReportUsage.
func (c *Client) CreditLedger(ctx context.Context, q CreditsQuery) iter.Seq2[credits.LedgerEvent, error] {
	return credits.All(ctx, func(ctx context.Context, cursor string) (credits.Page[credits.LedgerEvent], error) {
		var page credits.Page[credits.LedgerEvent]
		if err := c.mayQuery(q); err != nil {
			return page, err
		}
		callCtx, cancel := c.callContext(ctx)
		defer cancel()
		answer, err := graphql.GetCreditLedger(callCtx, c.graphql, graphql.CreditLedgerInput{
			CustomerId: q.CustomerID, ResourceId: orNil(q.ResourceID), CurrencyId: orNil(q.CurrencyID), Paging: paging(cursor),
		})
		if err != nil {
			return page, err
		}
		page.Next = nextPage(answer.CreditsLedger.PageInfo)
		for _, edge := range answer.CreditsLedger.Edges {
			n := edge.Node
			page.Items = append(page.Items, credits.LedgerEvent{
				Time: n.Timestamp.Time, Type: string(n.EventType), EventID: orEmpty(n.EventId), Amount: n.Amount,
				CustomerID: n.CustomerId, ResourceID: orEmpty(n.ResourceId), GrantID: n.CreditGrantId,
				CurrencyID: n.CreditCurrencyId, FeatureID: orEmpty(n.FeatureId),
			})
		}
		return page, nil
	})
}

// CreditUsage walks over the consumption of a customer's credits by feature,
// page by page. An error ends the walk. Errors are as for ReportUsage.
func (c *Client) CreditUsage(ctx context.Context, q CreditUsageQuery) iter.Seq2[credits.UsageSeries, error] {
	return credits.All(ctx, func(ctx context.Context, cursor string) (credits.Page[credits.UsageSeries], error) {
		var page credits.Page[credits.UsageSeries]
		if q.TimeRange != "" && !slices.Contains(graphql.AllCreditUsageTimeRange, graphql.CreditUsageTimeRange(q.TimeRange)) {
			c.counters.invalidCalls.Add(1)
			return page, invalidArgument("TimeRange %q is not known", q.TimeRange)
		}
		if err := c.mayQuery(q.CreditsQuery); err != nil {
			return page, err
		}
		input := graphql.CreditUsageInput{
			CustomerId: q.CustomerID, ResourceId: orNil(q.ResourceID), CurrencyId: orNil(q.CurrencyID),
			StartDate: graphql.OptionalTime(q.From), EndDate: graphql.OptionalTime(q.To), Paging: paging(cursor),
		}
		if q.TimeRange != "" {
			timeRange := graphql.CreditUsageTimeRange(q.TimeRange)
			input.TimeRange = &timeRange
		}
		callCtx, cancel := c.callContext(ctx)
		defer cancel()
		answer, err := graphql.GetCreditUsage(callCtx, c.graphql, input)
		if err != nil {
			return page, err
		}
		page.Next = nextPage(answer.CreditUsage.PageInfo)
		for _, s := range answer.CreditUsage.Series {
			series := credits.UsageSeries{FeatureID: orEmpty(s.FeatureId), FeatureName: orEmpty(s.FeatureName), Total: s.TotalCredits}
			for _, p := range s.Points {
				series.Points = append(series.Points, credits.UsagePoint{Time: p.Timestamp.Time, Value: p.Value})
			}
			page.Items = append(page.Items, series)
		}
		return page, nil
	})
}

func (c *Client) mayQuery(q CreditsQuery) error {
	if err := q.check(); err != nil {
		c.counters.invalidCalls.Add(1)
		return err
	}
	return c.usable()
}

func paging(cursor string) *graphql.CursorPaging {
	size := pageSize
	return &graphql.CursorPaging{First: &size, After: orNil(cursor)}
}

func nextPage(p graphql.PageInfo) string {
	if p.HasNextPage == nil || !*p.HasNextPage {
		return ""
	}
	return orEmpty(p.EndCursor)
}

func currencyOf(c graphql.CreditCurrency) credits.Currency {
	out := credits.Currency{ID: c.CurrencyId, DisplayName: c.DisplayName}
	if c.Units != nil {
		out.UnitSingular, out.UnitPlural = orEmpty(c.Units.Singular), orEmpty(c.Units.Plural)
	}
	return out
}

func grant(g *graphql.CreditGrant) credits.Grant {
	out := credits.Grant{
		ID: g.GrantId, CustomerID: g.CustomerId, ResourceID: orEmpty(g.ResourceId), CurrencyID: g.CurrencyId,
		DisplayName: g.DisplayName, Type: string(g.GrantType), Status: string(g.Status),
		Amount: g.Amount, Consumed: g.ConsumedAmount, Priority: g.Priority,
		CostAmount: g.Cost.Amount, CostCurrency: g.Cost.Currency, Comment: orEmpty(g.Comment), InvoiceID: orEmpty(g.InvoiceId),
		EffectiveAt: g.EffectiveAt.Time, ExpireAt: g.ExpireAt.OrZero(), VoidedAt: g.VoidedAt.OrZero(),
		CreatedAt: g.CreatedAt.Time, UpdatedAt: g.UpdatedAt.Time, PaymentStatus: string(g.PaymentCollection),
	}
	if g.AdditionalMetaData != nil {
		out.Metadata = *g.AdditionalMetaData
	}
	return out
}
