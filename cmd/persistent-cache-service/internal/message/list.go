package message

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// listEntry is an entry of the list of an entitlements.updated event.
type listEntry struct {
	hasFeature bool
	feature    listFeature
	balance    *listBalance
	rate       *credits.Rate

	usageLimit, currentUsage      *float64
	unlimited, softLimit          bool
	anchor, start, end, validTill time.Time
	resetPeriod, deniedReason     string
	resetConfiguration            string // as it stands
	enumValues                    []string
}

type listFeature struct {
	id, name, description, featureType, meterType, unit, units string
}

type listBalance struct {
	id, name, description, singular, plural string
	granted, remaining                      *float64
}

// entry reads an entry of the list. Its texts share the memory of what is read.
func (r *reader) entry(e *listEntry) {
	for more := r.enter('{', '}'); more; more = r.next('}') {
		switch r.name() {
		case "feature":
			r.feature(e)
		case "creditBalance":
			e.balance = r.balance()
		case "creditRate":
			e.rate = r.rate()
		case "usageLimit":
			e.usageLimit = r.number()
		case "currentUsage":
			e.currentUsage = r.number()
		case "hasUnlimitedUsage":
			e.unlimited = r.boolean()
		case "hasSoftLimit":
			e.softLimit = r.boolean()
		case "usagePeriodAnchor":
			e.anchor = r.time()
		case "usagePeriodStart":
			e.start = r.time()
		case "usagePeriodEnd":
			e.end = r.time()
		case "validUntil":
			e.validTill = r.time()
		case "resetPeriod":
			e.resetPeriod = r.text()
		case "accessDeniedReason":
			e.deniedReason = r.text()
		case "resetPeriodConfiguration":
			e.resetConfiguration = r.raw()
		case "enumValues":
			e.enumValues = r.texts()
		default:
			r.skip()
		}
	}
}

func (r *reader) feature(e *listEntry) {
	if e.hasFeature = !r.null(); !e.hasFeature {
		return
	}
	f := &e.feature
	for more := r.enter('{', '}'); more; more = r.next('}') {
		switch r.name() {
		case "id":
			f.id = r.text()
		case "name":
			f.name = r.text()
		case "description":
			f.description = r.text()
		case "featureType":
			f.featureType = r.text()
		case "meterType":
			f.meterType = r.text()
		case "unit":
			f.unit = r.text()
		case "units":
			f.units = r.text()
		default:
			r.skip()
		}
	}
}

func (r *reader) balance() *listBalance {
	if r.null() {
		return nil
	}
	b := &listBalance{}
	for more := r.enter('{', '}'); more; more = r.next('}') {
		switch r.name() {
		case "totalGranted":
			b.granted = r.number()
		case "remainingBalance":
			b.remaining = r.number()
		case "creditCurrency":
			r.currency(b)
		default:
			r.skip()
		}
	}
	return b
}

func (r *reader) currency(b *listBalance) {
	if r.null() {
		return
	}
	for more := r.enter('{', '}'); more; more = r.next('}') {
		switch r.name() {
		case "id":
			b.id = r.text()
		case "name":
			b.name = r.text()
		case "description":
			b.description = r.text()
		case "unitLabel":
			r.unitLabel(b)
		default:
			r.skip()
		}
	}
}

func (r *reader) unitLabel(b *listBalance) {
	if r.null() {
		return
	}
	for more := r.enter('{', '}'); more; more = r.next('}') {
		switch r.name() {
		case "singular":
			b.singular = r.text()
		case "plural":
			b.plural = r.text()
		default:
			r.skip()
		}
	}
}

func (r *reader) rate() *credits.Rate {
	if r.null() {
		return nil
	}
	rate := &credits.Rate{}
	var amount *float64
	for more := r.enter('{', '}'); more; more = r.next('}') {
		switch r.name() {
		case "amount":
			amount = r.number()
		case "currencyId":
			rate.CurrencyID = r.text()
		default:
			r.skip()
		}
	}
	if amount == nil || rate.CurrencyID == "" {
		r.fail()
		return nil
	}
	rate.Amount = *amount
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
	if !fields.has("entitlements") {
		return m, true, nil
	}
	list := reader{s: fields["entitlements"]}
	if list.peek() != '[' {
		return Message{}, false, malformed("entitlements", "not a list")
	}
	const entrySize = 480 // about what an entry takes up
	state := entitlements.State{Records: make([]entitlements.Record, 0, len(list.s)/entrySize+1)}
	all := true
	for more := list.enter('[', ']'); more; more = list.next(']') {
		var entry listEntry
		if list.entry(&entry); list.bad {
			return Message{}, false, malformed("entitlements", "entry is not as agreed")
		}
		state.Records = append(state.Records, entitlements.Record{})
		complete, err := entry.record(&state.Records[len(state.Records)-1], m.Time)
		if err != nil {
			return Message{}, false, err
		}
		all = all && complete
	}
	// An empty list does not say why it is empty.
	if all && selfContained(state, len(state.Records)) {
		m.Action, m.State = Write, state
	}
	return m, true, nil
}

// record makes an entitlement of an entry. It reports false if the entry does
// not say all that has to be known.
func (e *listEntry) record(r *entitlements.Record, at time.Time) (bool, error) {
	d := &r.Definition
	d.UsageLimit, d.HasUnlimitedUsage, d.HasSoftLimit = e.usageLimit, e.unlimited, e.softLimit
	d.AccessDeniedReason = entitlements.AccessDeniedReason(e.deniedReason)
	d.ValidUntil, d.UpdatedAt = e.validTill, at
	r.Usage.PeriodEnd = e.end
	switch {
	case !e.hasFeature && e.balance == nil:
		return false, malformed("entitlements", "entry is of nothing")
	case !e.hasFeature:
		return e.creditRecord(r)
	case e.balance != nil && e.rate == nil:
		// Paid with credits, at a rate that is not told.
		return false, nil
	}
	return e.featureRecord(r)
}

func (e *listEntry) featureRecord(r *entitlements.Record) (bool, error) {
	f := &e.feature
	if f.id == "" || len(f.id) > maxIDLength {
		return false, malformed("entitlements", "feature without an id")
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
	return true, nil
}

func (e *listEntry) creditRecord(r *entitlements.Record) (bool, error) {
	b := e.balance
	if b.id == "" || len(b.id) > maxIDLength {
		return false, malformed("entitlements", "balance without a currency")
	}
	if b.granted == nil || b.remaining == nil {
		return false, nil
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
	return true, nil
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

// resetType is the name that the APIs give to the configuration of reset
// periods that has a field; empty: no such configuration is known.
func resetType(field string) string {
	switch field {
	case "monthlyAccordingTo":
		return "MonthlyResetPeriodConfig"
	case "weeklyAccordingTo":
		return "WeeklyResetPeriodConfig"
	case "yearlyAccordingTo":
		return "YearlyResetPeriodConfig"
	}
	return ""
}

// resetConfiguration gives a configuration the name of its type, which the
// APIs send and readers of the cache look for.
func resetConfiguration(raw string) json.RawMessage {
	if isNull(raw) {
		return nil
	}
	var typeName string
	var fields strings.Builder
	r := reader{s: raw}
	for more := r.enter('{', '}'); more; more = r.next('}') {
		r.peek()
		from := r.at
		name := r.name()
		null := isNull(r.raw())
		switch {
		case r.bad:
		case name == "__typename" && !null:
			return json.RawMessage(raw)
		case name != "__typename":
			fields.WriteByte(',')
			fields.WriteString(raw[from:r.at])
			if known := resetType(name); known != "" && !null {
				typeName = known
			}
		}
	}
	if !r.end() || typeName == "" {
		return nil
	}
	return json.RawMessage(`{"__typename":"` + typeName + `"` + fields.String() + "}")
}
