package stiggtest

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// Grant is credits that a customer was given. The zero value of each field
// says its default.
type Grant struct {
	ID          string
	CurrencyID  string
	ResourceID  string // empty: the customer's own
	DisplayName string
	Comment     string // empty: none
	Amount      float64
	Consumed    float64
	Cost        float64 // in US dollars
	Priority    float64
	Type        string         // OVERDRAFT, PAID, PROMOTIONAL or RECURRING; empty: PAID
	Status      string         // ACTIVE, EXPIRED, PAYMENT_PENDING, SCHEDULED or VOIDED; empty: ACTIVE
	CreatedAt   time.Time      // zero: the time of the Set call
	UpdatedAt   time.Time      // zero: CreatedAt
	EffectiveAt time.Time      // zero: CreatedAt
	ExpireAt    time.Time      // zero: never
	VoidedAt    time.Time      // zero: not voided
	Metadata    map[string]any // nil: none
}

// LedgerEvent is one change of a wallet. The zero value of each field says its
// default.
type LedgerEvent struct {
	Type       string // empty: CREDITS_CONSUMED; the others are in Stigg's documentation
	CurrencyID string
	GrantID    string
	FeatureID  string // empty: none
	EventID    string // empty: none
	ResourceID string // empty: the customer's own
	Amount     float64
	Time       time.Time // zero: the time of the Set call
}

// UsageSeries is the credits that a feature consumed over time.
type UsageSeries struct {
	CurrencyID  string
	ResourceID  string // empty: the customer's own
	FeatureID   string // empty: none
	FeatureName string // empty: none
	Points      []UsagePoint
}

// UsagePoint is the credits consumed at one point of a [UsageSeries].
type UsagePoint struct {
	Time  time.Time
	Value float64
}

// AutoRecharge is how a wallet is topped up by itself. The zero value of each
// field says its default.
type AutoRecharge struct {
	CurrencyID            string
	Enabled               bool
	ThresholdType         string // CreditAmount or DollarAmount; empty: CreditAmount
	ThresholdValue        float64
	TargetBalance         float64
	MaxSpendLimit         *float64 // nil: none
	GrantExpirationPeriod string   // OneMonth or OneYear; empty: OneYear
	CurrentMonthlySpend   float64
	CreatedAt             time.Time // zero: null
	UpdatedAt             time.Time // zero: null
}

// SetCreditGrants makes these the customer's grants, in the order in which
// they are listed. They are not connected with the balance of a [Credit].
func (s *Server) SetCreditGrants(customerID string, grants ...Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.tick()
	grants = slices.Clone(grants)
	for i := range grants {
		g := &grants[i]
		g.Type = defaultTo(g.Type, "PAID")
		g.Status = defaultTo(g.Status, "ACTIVE")
		g.CreatedAt = defaultTo(g.CreatedAt, now)
		g.UpdatedAt = defaultTo(g.UpdatedAt, g.CreatedAt)
		g.EffectiveAt = defaultTo(g.EffectiveAt, g.CreatedAt)
		g.Metadata = maps.Clone(g.Metadata)
	}
	s.customer(customerID).grants = grants
}

// SetCreditLedger makes these the customer's ledger, in the order in which the
// events are listed. Consumption through the API does not add to it.
func (s *Server) SetCreditLedger(customerID string, events ...LedgerEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.tick()
	events = slices.Clone(events)
	for i := range events {
		events[i].Type = defaultTo(events[i].Type, "CREDITS_CONSUMED")
		events[i].Time = defaultTo(events[i].Time, now)
	}
	s.customer(customerID).ledger = events
}

// SetCreditUsage makes these the customer's history of consumption.
func (s *Server) SetCreditUsage(customerID string, series ...UsageSeries) {
	s.mu.Lock()
	defer s.mu.Unlock()
	series = slices.Clone(series)
	for i := range series {
		series[i].Points = slices.Clone(series[i].Points)
	}
	s.customer(customerID).usage = series
}

// SetAutoRecharge makes these the settings of the customer's wallets. A wallet
// without settings is answered for as not enabled.
func (s *Server) SetAutoRecharge(customerID string, settings ...AutoRecharge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customer(customerID).recharge = slices.Clone(settings)
}

// defaultTo returns v, or otherwise if v is zero.
func defaultTo[V comparable](v, otherwise V) V {
	var zero V
	if v == zero {
		return otherwise
	}
	return v
}

// walletQuery asks about the wallets of a customer.
type walletQuery struct {
	scopedTarget
	CurrencyID *string `json:"currencyId"`
}

func (q walletQuery) check() error {
	return errors.Join(q.scopedTarget.check(), noneEmpty("currencyId", q.CurrencyID))
}

// asks reports whether something of this currency and resource is asked for. A
// query that names no resource asks for those of all.
func (q walletQuery) asks(currencyID, resourceID string) bool {
	return (q.CurrencyID == nil || *q.CurrencyID == currencyID) &&
		(q.ResourceID == nil || *q.ResourceID == resourceID)
}

type pagedWalletQuery struct {
	walletQuery
	Paging *paging `json:"paging"`
}

// connection answers with a page of a list.
type connection struct {
	Edges      []any    `json:"edges"`
	PageInfo   pageInfo `json:"pageInfo"`
	TotalCount int      `json:"totalCount"`
}

type slimCurrency struct {
	CurrencyID  string  `json:"currencyId"`
	DisplayName string  `json:"displayName"`
	Symbol      *string `json:"symbol"`
	Units       units   `json:"units"`
}

type units struct {
	Singular *string `json:"singular"`
	Plural   *string `json:"plural"`
}

func (e Entitlement) slimCurrency() slimCurrency {
	return slimCurrency{
		CurrencyID:  e.id,
		DisplayName: e.displayName,
		Units:       units{Singular: optional(e.singular), Plural: optional(e.plural)},
	}
}

type balance struct {
	Currency       slimCurrency `json:"currency"`
	CurrentBalance float64      `json:"currentBalance"`
	CustomerID     string       `json:"customerId"`
	ResourceID     *string      `json:"resourceId"`
	TotalConsumed  float64      `json:"totalConsumed"`
	TotalGranted   float64      `json:"totalGranted"`
	ValidUntil     *int64       `json:"validUntil"` // milliseconds since 1970
}

type balances struct {
	Balances   []balance `json:"balances"`
	CustomerID string    `json:"customerId"`
}

// creditBalance answers for the wallets of the customer itself when no
// resource is named, as those are the ones that its entitlements show.
func (s *Server) creditBalance(in walletQuery) (balances, error) {
	answer := balances{Balances: []balance{}, CustomerID: in.CustomerID}
	c, err := s.knownCustomer(in.CustomerID)
	if err != nil {
		return answer, err
	}
	a, ok := c.accounts[in.resource()]
	if !ok {
		return answer, nil
	}
	for _, e := range a.entitlements {
		if !e.isCredit || !in.asks(e.id, in.resource()) {
			continue
		}
		b := balance{
			Currency:       e.slimCurrency(),
			CurrentBalance: value(e.limit) - value(e.used),
			CustomerID:     in.CustomerID,
			ResourceID:     in.ResourceID,
			TotalConsumed:  value(e.used),
			TotalGranted:   value(e.limit),
		}
		if !e.validUntil.IsZero() {
			ms := e.validUntil.UnixMilli()
			b.ValidUntil = &ms
		}
		answer.Balances = append(answer.Balances, b)
	}
	return answer, nil
}

func (s *Server) creditGrants(in pagedWalletQuery) (connection, error) {
	c, err := s.knownCustomer(in.CustomerID)
	if err != nil {
		return connection{}, err
	}
	grants := slices.DeleteFunc(slices.Clone(c.grants), func(g Grant) bool { return !in.asks(g.CurrencyID, g.ResourceID) })
	page, _, info, err := pageOf(grants, in.Paging)
	answer := connection{Edges: make([]any, len(page)), PageInfo: info, TotalCount: len(grants)}
	for i, g := range page {
		answer.Edges[i] = map[string]any{"node": g.node(in.CustomerID)}
	}
	return answer, err
}

func (g Grant) node(customerID string) map[string]any {
	return map[string]any{
		"additionalMetaData":               g.Metadata,
		"amount":                           g.Amount,
		"automaticRechargeConfigurationId": nil,
		"comment":                          optional(g.Comment),
		"consumedAmount":                   g.Consumed,
		"cost":                             map[string]any{"amount": g.Cost, "currency": "USD"},
		"createdAt":                        wireTime(g.CreatedAt),
		"currencyId":                       g.CurrencyID,
		"customerId":                       customerID,
		"displayName":                      g.DisplayName,
		"effectiveAt":                      wireTime(g.EffectiveAt),
		"expireAt":                         wireTime(g.ExpireAt),
		"grantId":                          g.ID,
		"grantType":                        g.Type,
		"invoiceId":                        nil,
		"latestInvoice":                    nil,
		"paymentCollection":                "NOT_REQUIRED",
		"priority":                         g.Priority,
		"resourceId":                       optional(g.ResourceID),
		"status":                           g.Status,
		"updatedAt":                        wireTime(g.UpdatedAt),
		"voidedAt":                         wireTime(g.VoidedAt),
	}
}

type ledgerQuery struct {
	pagedWalletQuery
	EventType []string `json:"eventType"`
}

func (s *Server) creditLedger(in ledgerQuery) (connection, error) {
	c, err := s.knownCustomer(in.CustomerID)
	if err != nil {
		return connection{}, err
	}
	events := slices.DeleteFunc(slices.Clone(c.ledger), func(e LedgerEvent) bool {
		return !in.asks(e.CurrencyID, e.ResourceID) || len(in.EventType) > 0 && !slices.Contains(in.EventType, e.Type)
	})
	page, first, info, err := pageOf(events, in.Paging)
	answer := connection{Edges: make([]any, len(page)), PageInfo: info, TotalCount: len(events)}
	for i, e := range page {
		answer.Edges[i] = map[string]any{"cursor": cursor(first + i), "node": map[string]any{
			"amount":           e.Amount,
			"creditCurrencyId": e.CurrencyID,
			"creditGrantId":    e.GrantID,
			"customerId":       in.CustomerID,
			"eventId":          optional(e.EventID),
			"eventType":        e.Type,
			"featureId":        optional(e.FeatureID),
			"resourceId":       optional(e.ResourceID),
			"timestamp":        wireTime(e.Time),
		}}
	}
	return answer, err
}

type usageQuery struct {
	pagedWalletQuery
	StartDate *string  `json:"startDate"`
	EndDate   *string  `json:"endDate"`
	TimeRange *string  `json:"timeRange"`
	GroupBy   []string `json:"groupBy"`
}

func (q usageQuery) check() error {
	return errors.Join(q.walletQuery.check(), checkTime("startDate", q.StartDate), checkTime("endDate", q.EndDate),
		noneEmpty("timeRange", q.TimeRange))
}

// covers reports whether a point is between the dates, if there are any. The
// time range and the grouping are accepted and have no effect.
func (q usageQuery) covers(p UsagePoint) bool {
	return (q.StartDate == nil || !p.Time.Before(parseTime(q.StartDate))) &&
		(q.EndDate == nil || p.Time.Before(parseTime(q.EndDate)))
}

// creditUsage pages over the series.
func (s *Server) creditUsage(in usageQuery) (any, error) {
	c, err := s.knownCustomer(in.CustomerID)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(slices.Clone(c.usage), func(u UsageSeries) bool { return !in.asks(u.CurrencyID, u.ResourceID) })
	page, _, info, err := pageOf(all, in.Paging)
	series := make([]any, len(page))
	for i, u := range page {
		points, total := []any{}, 0.0
		for _, p := range u.Points {
			if in.covers(p) {
				points = append(points, map[string]any{"timestamp": wireTime(p.Time), "value": p.Value})
				total += p.Value
			}
		}
		series[i] = map[string]any{
			"featureId": optional(u.FeatureID), "featureName": optional(u.FeatureName),
			"points": points, "totalCredits": total,
		}
	}
	return map[string]any{"currency": s.usageCurrency(in, all), "pageInfo": info, "series": series}, err
}

// usageCurrency is the currency of the first series, with the names of the
// customer's wallet if there is one.
func (s *Server) usageCurrency(in usageQuery, series []UsageSeries) *slimCurrency {
	if len(series) == 0 {
		return nil
	}
	id := series[0].CurrencyID
	wallet := s.account(in.CustomerID, in.resource()).find(true, id)
	if wallet == nil {
		return &slimCurrency{CurrencyID: id, DisplayName: id}
	}
	slim := wallet.slimCurrency()
	return &slim
}

type rechargeQuery struct {
	CustomerID    string  `json:"customerId"`
	CurrencyID    string  `json:"currencyId"`
	EnvironmentID *string `json:"environmentId"`
}

func (q rechargeQuery) check() error {
	if q.CustomerID == "" || q.CurrencyID == "" {
		return badInput("customerId and currencyId are required")
	}
	return noneEmpty("environmentId", q.EnvironmentID)
}

func (s *Server) autoRecharge(in rechargeQuery) (any, error) {
	c, err := s.knownCustomer(in.CustomerID)
	if err != nil {
		return nil, err
	}
	settings := AutoRecharge{CurrencyID: in.CurrencyID}
	if i := slices.IndexFunc(c.recharge, func(r AutoRecharge) bool { return r.CurrencyID == in.CurrencyID }); i >= 0 {
		settings = c.recharge[i]
	}
	return map[string]any{
		"createdAt":             wireTime(settings.CreatedAt),
		"currencyId":            settings.CurrencyID,
		"currentMonthlySpend":   settings.CurrentMonthlySpend,
		"customerId":            in.CustomerID,
		"grantExpirationPeriod": defaultTo(settings.GrantExpirationPeriod, "OneYear"),
		"isEnabled":             settings.Enabled,
		"maxSpendLimit":         settings.MaxSpendLimit,
		"targetBalance":         settings.TargetBalance,
		"thresholdType":         defaultTo(settings.ThresholdType, "CreditAmount"),
		"thresholdValue":        settings.ThresholdValue,
		"updatedAt":             wireTime(settings.UpdatedAt),
	}, nil
}
