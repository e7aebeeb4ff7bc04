package message

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// listEntry is an entry of the list of an entitlements.updated event.
type listEntry struct {
	feature *listFeature
	balance *listBalance
	rate    *credits.Rate

	usageLimit, currentUsage      *float64
	unlimited, softLimit          bool
	anchor, start, end, validTill time.Time
	resetPeriod, deniedReason     string
	resetConfiguration            json.RawMessage
	enumValues                    []string
}

type listFeature struct {
	id, name, description, featureType, meterType, unit, units string
}

type listBalance struct {
	id, name, description, singular, plural string
	granted, remaining                      *float64
}

// fieldReader reads the fields of an object and keeps the first error. Null
// reads like a field that is absent.
type fieldReader struct{ err error }

func (r *fieldReader) object(raw []byte, read func(name, value []byte)) {
	ok, err := eachField(raw, func(name, value []byte) error {
		if !isNull(value) {
			read(name, value)
		}
		return r.err
	})
	if err == nil && !ok {
		err = errType
	}
	r.keep(err)
}

func (r *fieldReader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *fieldReader) text(value []byte) string {
	s, err := readText(value)
	r.keep(err)
	return s
}

func (r *fieldReader) number(value []byte) *float64 {
	n, err := readNumber(value)
	r.keep(err)
	return n
}

func (r *fieldReader) boolean(value []byte) bool {
	b, err := readBool(value)
	r.keep(err)
	return b
}

func (r *fieldReader) time(value []byte) time.Time {
	t, err := apistate.ParseTime(value)
	r.keep(err)
	return t
}

func (r *fieldReader) texts(value []byte) []string {
	list, ok := elements(value)
	if !ok {
		r.keep(errType)
	}
	texts := make([]string, 0, len(list))
	for _, raw := range list {
		texts = append(texts, r.text(raw))
	}
	return texts
}

func (r *fieldReader) entry(raw []byte) listEntry {
	var e listEntry
	r.object(raw, func(name, value []byte) {
		switch string(name) {
		case "feature":
			e.feature = r.feature(value)
		case "creditBalance":
			e.balance = r.balance(value)
		case "creditRate":
			e.rate = r.rate(value)
		case "usageLimit":
			e.usageLimit = r.number(value)
		case "currentUsage":
			e.currentUsage = r.number(value)
		case "hasUnlimitedUsage":
			e.unlimited = r.boolean(value)
		case "hasSoftLimit":
			e.softLimit = r.boolean(value)
		case "usagePeriodAnchor":
			e.anchor = r.time(value)
		case "usagePeriodStart":
			e.start = r.time(value)
		case "usagePeriodEnd":
			e.end = r.time(value)
		case "validUntil":
			e.validTill = r.time(value)
		case "resetPeriod":
			e.resetPeriod = r.text(value)
		case "accessDeniedReason":
			e.deniedReason = r.text(value)
		case "resetPeriodConfiguration":
			e.resetConfiguration = value
		case "enumValues":
			e.enumValues = r.texts(value)
		}
	})
	return e
}

func (r *fieldReader) feature(raw []byte) *listFeature {
	f := &listFeature{}
	r.object(raw, func(name, value []byte) {
		switch string(name) {
		case "id":
			f.id = r.text(value)
		case "name":
			f.name = r.text(value)
		case "description":
			f.description = r.text(value)
		case "featureType":
			f.featureType = r.text(value)
		case "meterType":
			f.meterType = r.text(value)
		case "unit":
			f.unit = r.text(value)
		case "units":
			f.units = r.text(value)
		}
	})
	return f
}

func (r *fieldReader) balance(raw []byte) *listBalance {
	b := &listBalance{}
	r.object(raw, func(name, value []byte) {
		switch string(name) {
		case "totalGranted":
			b.granted = r.number(value)
		case "remainingBalance":
			b.remaining = r.number(value)
		case "creditCurrency":
			r.currency(value, b)
		}
	})
	return b
}

func (r *fieldReader) currency(raw []byte, b *listBalance) {
	r.object(raw, func(name, value []byte) {
		switch string(name) {
		case "id":
			b.id = r.text(value)
		case "name":
			b.name = r.text(value)
		case "description":
			b.description = r.text(value)
		case "unitLabel":
			r.object(value, func(name, value []byte) {
				switch string(name) {
				case "singular":
					b.singular = r.text(value)
				case "plural":
					b.plural = r.text(value)
				}
			})
		}
	})
}

func (r *fieldReader) rate(raw []byte) *credits.Rate {
	rate := &credits.Rate{}
	amount := false
	r.object(raw, func(name, value []byte) {
		switch string(name) {
		case "amount":
			if n := r.number(value); n != nil {
				rate.Amount, amount = *n, true
			}
		case "currencyId":
			rate.CurrencyID = r.text(value)
		}
	})
	if !amount || rate.CurrencyID == "" {
		r.keep(errType)
	}
	return rate
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
	entries, ok := elements(fields["entitlements"])
	if fields.has("entitlements") && !ok {
		return Message{}, false, malformed("entitlements", "not a list")
	}
	if len(entries) == 0 {
		// An empty list does not say why it is empty.
		return m, true, nil
	}
	state := entitlements.State{Records: make([]entitlements.Record, 0, len(entries))}
	all := true
	for _, raw := range entries {
		var r fieldReader
		entry := r.entry(raw)
		if r.err != nil {
			return Message{}, false, malformed("entitlements", "entry is not as agreed")
		}
		record, complete, err := entry.record(m.Time)
		if err != nil {
			return Message{}, false, err
		}
		all = all && complete
		state.Records = append(state.Records, record)
	}
	if all && selfContained(state, len(entries)) {
		m.Action, m.State = Write, state
	}
	return m, true, nil
}

// record makes an entitlement of an entry. It reports false if the entry does
// not say all that has to be known.
func (e *listEntry) record(at time.Time) (entitlements.Record, bool, error) {
	r := entitlements.Record{
		Definition: entitlements.Definition{
			UsageLimit:         e.usageLimit,
			HasUnlimitedUsage:  e.unlimited,
			HasSoftLimit:       e.softLimit,
			AccessDeniedReason: entitlements.AccessDeniedReason(e.deniedReason),
			ValidUntil:         e.validTill,
			UpdatedAt:          at,
		},
		Usage: entitlements.Usage{PeriodEnd: e.end},
	}
	switch {
	case e.feature == nil && e.balance == nil:
		return r, false, malformed("entitlements", "entry is of nothing")
	case e.feature == nil:
		return e.creditRecord(r)
	case e.balance != nil && e.rate == nil:
		// Paid with credits, at a rate that is not told.
		return r, false, nil
	}
	return e.featureRecord(r)
}

func (e *listEntry) featureRecord(r entitlements.Record) (entitlements.Record, bool, error) {
	f := e.feature
	if f.id == "" || len(f.id) > maxIDLength {
		return r, false, malformed("entitlements", "feature without an id")
	}
	d := &r.Definition
	d.Feature = entitlements.Feature{
		ID: f.id, DisplayName: f.name, Description: f.description,
		Type: entitlements.FeatureType(strings.ToUpper(f.featureType)), MeterType: meterType(f.meterType),
		Units: f.unit, UnitsPlural: f.units,
	}
	if f.name == "" {
		d.Feature.DisplayName = f.id
	}
	d.EnumValues = e.enumValues
	d.UsagePeriodAnchor = e.anchor
	d.ResetPeriod = entitlements.ResetPeriod(e.resetPeriod)
	d.RawResetPeriodConfiguration = resetConfiguration(e.resetConfiguration)
	d.CreditRate = e.rate
	if e.currentUsage != nil && d.UsageTrackable() {
		r.Usage.Current, r.Usage.PeriodStart, r.HasUsage = *e.currentUsage, e.start, true
	}
	return r, true, nil
}

func (e *listEntry) creditRecord(r entitlements.Record) (entitlements.Record, bool, error) {
	b := e.balance
	if b.id == "" || len(b.id) > maxIDLength {
		return r, false, malformed("entitlements", "balance without a currency")
	}
	if b.granted == nil || b.remaining == nil {
		return r, false, nil
	}
	r.Definition.IsCredit = true
	r.Definition.Currency = credits.Currency{
		ID: b.id, DisplayName: b.name, Description: b.description, UnitSingular: b.singular, UnitPlural: b.plural,
	}
	if b.name == "" {
		r.Definition.Currency.DisplayName = b.id
	}
	r.Definition.UsageLimit = b.granted
	r.Usage.Current = *b.granted - *b.remaining
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
