package message

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// The list of an entitlements.updated event.
type (
	listEntry struct {
		Feature                  *listFeature    `json:"feature"`
		UsageLimit               *float64        `json:"usageLimit"`
		HasUnlimitedUsage        bool            `json:"hasUnlimitedUsage"`
		HasSoftLimit             bool            `json:"hasSoftLimit"`
		CurrentUsage             *float64        `json:"currentUsage"`
		UsagePeriodAnchor        listTime        `json:"usagePeriodAnchor"`
		UsagePeriodStart         listTime        `json:"usagePeriodStart"`
		UsagePeriodEnd           listTime        `json:"usagePeriodEnd"`
		ResetPeriod              string          `json:"resetPeriod"`
		ResetPeriodConfiguration json.RawMessage `json:"resetPeriodConfiguration"`
		EnumValues               []string        `json:"enumValues"`
		CreditRate               *listRate       `json:"creditRate"`
		CreditBalance            *listBalance    `json:"creditBalance"`
		AccessDeniedReason       string          `json:"accessDeniedReason"`
		ValidUntil               listTime        `json:"validUntil"`
	}
	listFeature struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		Description string `json:"description"`
		FeatureType string `json:"featureType"`
		MeterType   string `json:"meterType"`
		Unit        string `json:"unit"`
		Units       string `json:"units"`
	}
	listRate struct {
		Amount     float64 `json:"amount"`
		CurrencyID string  `json:"currencyId"`
	}
	listBalance struct {
		Currency struct {
			ID          string `json:"id"`
			Name        string `json:"name"`
			Description string `json:"description"`
			UnitLabel   struct {
				Singular string `json:"singular"`
				Plural   string `json:"plural"`
			} `json:"unitLabel"`
		} `json:"creditCurrency"`
		TotalGranted     *float64 `json:"totalGranted"`
		RemainingBalance *float64 `json:"remainingBalance"`
	}
	listTime struct{ time.Time }
)

// UnmarshalJSON reads a time as the APIs write it.
func (t *listTime) UnmarshalJSON(raw []byte) error {
	var err error
	t.Time, err = apistate.ParseTime(raw)
	return err
}

// listEvent reads the list of an entitlements.updated event. A list that does
// not say everything becomes a Refetch.
func (m Message) listEvent(fields object) (Message, bool, error) {
	at, err := fields.time("entitlementsUpdatedAt")
	if err != nil {
		return Message{}, false, err
	}
	if !at.IsZero() {
		m.Time = at
	}
	m.Action = Refetch
	var entries []listEntry
	if fields.has("entitlements") && json.Unmarshal(fields["entitlements"], &entries) != nil {
		return Message{}, false, malformed("entitlements", "not a list as agreed")
	}
	if len(entries) == 0 {
		// An empty list does not say why it is empty.
		return m, true, nil
	}
	state := entitlements.State{Records: make([]entitlements.Record, 0, len(entries))}
	for i := range entries {
		record, complete, err := entries[i].record(m.Time)
		if err != nil {
			return Message{}, false, err
		}
		if !complete {
			return m, true, nil
		}
		state.Records = append(state.Records, record)
	}
	if selfContained(state, len(entries)) {
		m.Action, m.State = Write, state
	}
	return m, true, nil
}

// record makes an entitlement of an entry. It reports false if the entry does
// not say all that has to be known.
func (e *listEntry) record(at time.Time) (entitlements.Record, bool, error) {
	for _, n := range []*float64{e.UsageLimit, e.CurrentUsage} {
		if n != nil && !plausible(*n) {
			return entitlements.Record{}, false, malformed("entitlements", "number out of range")
		}
	}
	r := entitlements.Record{
		Definition: entitlements.Definition{
			UsageLimit:         e.UsageLimit,
			HasUnlimitedUsage:  e.HasUnlimitedUsage,
			HasSoftLimit:       e.HasSoftLimit,
			AccessDeniedReason: entitlements.AccessDeniedReason(e.AccessDeniedReason),
			ValidUntil:         e.ValidUntil.Time,
			UpdatedAt:          at,
		},
		Usage: entitlements.Usage{PeriodEnd: e.UsagePeriodEnd.Time},
	}
	switch {
	case e.Feature == nil && e.CreditBalance == nil:
		return r, false, malformed("entitlements", "entry is of nothing")
	case e.Feature == nil:
		return e.credit(r)
	case e.CreditBalance != nil && e.CreditRate == nil:
		// Paid with credits, at a rate that is not told.
		return r, false, nil
	}
	return e.feature(r)
}

func (e *listEntry) feature(r entitlements.Record) (entitlements.Record, bool, error) {
	f := e.Feature
	if f.ID == "" || len(f.ID) > maxIDLength {
		return r, false, malformed("entitlements", "feature without an id")
	}
	d := &r.Definition
	d.Feature = entitlements.Feature{
		ID: f.ID, DisplayName: f.Name, Description: f.Description,
		Type: entitlements.FeatureType(strings.ToUpper(f.FeatureType)), MeterType: meterType(f.MeterType),
		Units: f.Unit, UnitsPlural: f.Units,
	}
	if f.Name == "" {
		d.Feature.DisplayName = f.ID
	}
	d.EnumValues = e.EnumValues
	d.UsagePeriodAnchor = e.UsagePeriodAnchor.Time
	d.ResetPeriod = entitlements.ResetPeriod(e.ResetPeriod)
	d.RawResetPeriodConfiguration = resetConfiguration(e.ResetPeriodConfiguration)
	if c := e.CreditRate; c != nil {
		if c.CurrencyID == "" || !plausible(c.Amount) {
			return r, false, malformed("entitlements", "rate of nothing")
		}
		d.CreditRate = &credits.Rate{Amount: c.Amount, CurrencyID: c.CurrencyID}
	}
	if e.CurrentUsage != nil && d.UsageTrackable() {
		r.Usage.Current, r.Usage.PeriodStart, r.HasUsage = *e.CurrentUsage, e.UsagePeriodStart.Time, true
	}
	return r, true, nil
}

func (e *listEntry) credit(r entitlements.Record) (entitlements.Record, bool, error) {
	b := e.CreditBalance
	if b.Currency.ID == "" || len(b.Currency.ID) > maxIDLength {
		return r, false, malformed("entitlements", "balance without a currency")
	}
	if b.TotalGranted == nil || b.RemainingBalance == nil {
		return r, false, nil
	}
	if !plausible(*b.TotalGranted) || !plausible(*b.RemainingBalance) {
		return r, false, malformed("entitlements", "number out of range")
	}
	r.Definition.IsCredit = true
	r.Definition.Currency = credits.Currency{
		ID: b.Currency.ID, DisplayName: b.Currency.Name, Description: b.Currency.Description,
		UnitSingular: b.Currency.UnitLabel.Singular, UnitPlural: b.Currency.UnitLabel.Plural,
	}
	if b.Currency.Name == "" {
		r.Definition.Currency.DisplayName = b.Currency.ID
	}
	r.Definition.UsageLimit = b.TotalGranted
	r.Usage.Current = *b.TotalGranted - *b.RemainingBalance
	r.HasUsage = true
	return r, true, nil
}

// meterType reads a meter type whatever its case.
func meterType(s string) entitlements.MeterType {
	for _, known := range []entitlements.MeterType{entitlements.MeterNone, entitlements.MeterFluctuating, entitlements.MeterIncremental} {
		if strings.EqualFold(s, string(known)) {
			return known
		}
	}
	return entitlements.MeterType(s)
}

// resetTypes are the names that the APIs give to the configurations of reset
// periods, by the field that they have.
var resetTypes = map[string]string{
	"monthlyAccordingTo": "MonthlyResetPeriodConfig",
	"weeklyAccordingTo":  "WeeklyResetPeriodConfig",
	"yearlyAccordingTo":  "YearlyResetPeriodConfig",
}

// resetConfiguration gives a configuration the name of its type, which the
// APIs send and readers of the cache look for.
func resetConfiguration(raw json.RawMessage) json.RawMessage {
	o, ok := parseObject(raw)
	if !ok {
		return nil
	}
	if o.has("__typename") {
		return raw
	}
	delete(o, "__typename")
	for field, name := range resetTypes {
		if !o.has(field) {
			continue
		}
		named, err := json.Marshal(struct {
			Typename string `json:"__typename"`
		}{name})
		if err != nil {
			return nil
		}
		// {"__typename":"…"} and {"field":…} become one object.
		rest, err := json.Marshal(o)
		if err != nil {
			return nil
		}
		return append(append(named[:len(named)-1], ','), rest[1:]...)
	}
	return nil
}
