// Package apistate turns the entitlementsState object of Stigg's APIs into
// entitlements. The Edge API and the GraphQL API answer with the same object.
package apistate

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// The kinds of entitlements that Decode knows, as __typename names them.
const (
	typeFeature = "FeatureEntitlement"
	typeCredit  = "CreditEntitlement"
)

// Decode reads one entitlementsState object. Entitlements of a kind that it
// does not know are skipped. Anything else that is not as agreed makes the
// whole object an error, because an entitlement that is silently missing reads
// as "not entitled". The errors name the place, never the value.
//
// When an entitlement occurs twice, the later one counts.
func Decode(data []byte) (entitlements.State, error) {
	if isNull(data) {
		return entitlements.State{}, errors.New("entitlementsState: null")
	}
	var d decoder
	state := d.object("entitlementsState", data)
	reason := state.str("accessDeniedReason")
	elements := state.list("entitlementsV2")
	if d.err != nil {
		return entitlements.State{}, d.err
	}

	out := entitlements.State{AccessDeniedReason: entitlements.AccessDeniedReason(reason)}
	type key struct {
		credit bool
		id     string
	}
	place := make(map[key]int, len(elements))
	for i, raw := range elements {
		record, known := d.record(fmt.Sprintf("entitlementsV2[%d]", i), raw)
		if d.err != nil {
			return entitlements.State{}, d.err
		}
		if !known {
			continue
		}
		k := key{record.Definition.IsCredit, record.Definition.Feature.ID}
		if k.credit {
			k.id = record.Definition.Currency.ID
		}
		if at, again := place[k]; again {
			out.Records[at] = record
			continue
		}
		place[k] = len(out.Records)
		out.Records = append(out.Records, record)
	}
	return out, nil
}

// record reads one element of entitlementsV2. It reports false for a kind that
// is not known.
func (d *decoder) record(path string, raw json.RawMessage) (entitlements.Record, bool) {
	o := d.object(path, raw)
	kind := o.str("__typename")
	if kind == "" {
		switch {
		case o.has("feature"):
			kind = typeFeature
		case o.has("currency"):
			kind = typeCredit
		default:
			d.fail(path, "of no known kind")
		}
	}
	switch kind {
	case typeFeature:
		return featureRecord(o), true
	case typeCredit:
		return creditRecord(o), true
	}
	return entitlements.Record{}, false
}

func featureRecord(o object) entitlements.Record {
	r := commonRecord(o)
	f := o.child("feature")
	r.Definition.Feature = entitlements.Feature{
		ID:          f.id("refId"),
		DisplayName: f.str("displayName"),
		Description: f.str("description"),
		Type:        entitlements.FeatureType(f.str("featureType")),
		MeterType:   entitlements.MeterType(f.str("meterType")),
		Units:       f.str("featureUnits"),
		UnitsPlural: f.str("featureUnitsPlural"),
	}
	r.Definition.RawUnitTransformation = f.rawObject("unitTransformation")
	r.Definition.HasUnlimitedUsage = o.boolean("hasUnlimitedUsage", false)
	r.Definition.EnumValues = o.strings("enumValues")
	r.Definition.UsagePeriodAnchor = o.time("usagePeriodAnchor")
	r.Definition.ResetPeriod = entitlements.ResetPeriod(o.str("resetPeriod"))
	r.Definition.RawResetPeriodConfiguration = o.rawObject("resetPeriodConfiguration")
	r.Usage.PeriodStart = o.time("usagePeriodStart")
	if o.has("creditRate") {
		c := o.child("creditRate")
		r.Definition.CreditRate = &credits.Rate{
			Amount:     c.requiredNumber("amount"),
			CurrencyID: c.id("currencyId"),
		}
	}
	// A feature whose usage is not counted is denied by its reason alone. The
	// API can deny it without one, and then nothing else would.
	if !o.boolean("isGranted", true) && r.Definition.AccessDeniedReason == "" && !isMetered(r.Definition.Feature) {
		r.Definition.AccessDeniedReason = entitlements.Unknown
	}
	return r
}

func creditRecord(o object) entitlements.Record {
	r := commonRecord(o)
	c := o.child("currency")
	r.Definition.IsCredit = true
	r.Definition.Currency = credits.Currency{
		ID:           c.id("currencyId"),
		DisplayName:  c.str("displayName"),
		Description:  c.str("description"),
		UnitSingular: c.str("unitSingular"),
		UnitPlural:   c.str("unitPlural"),
		Metadata:     c.metadata("additionalMetaData"),
	}
	r.Definition.RawCurrency = o.rawObject("currency")
	return r
}

// commonRecord reads what features and credits have in common.
func commonRecord(o object) entitlements.Record {
	current := o.number("currentUsage")
	r := entitlements.Record{
		Definition: entitlements.Definition{
			UsageLimit:         o.number("usageLimit"),
			HasSoftLimit:       o.boolean("hasSoftLimit", false),
			AccessDeniedReason: entitlements.AccessDeniedReason(o.str("accessDeniedReason")),
			ValidUntil:         o.time("validUntil"),
			UpdatedAt:          o.time("entitlementUpdatedAt"),
		},
		Usage: entitlements.Usage{
			PeriodEnd: o.time("usagePeriodEnd"),
			UpdatedAt: o.time("usageUpdatedAt"),
		},
	}
	if current != nil {
		r.Usage.Current = *current
	}
	r.HasUsage = current != nil || !r.Usage.UpdatedAt.IsZero()
	return r
}

func isMetered(f entitlements.Feature) bool {
	return f.Type == entitlements.FeatureNumber &&
		(f.MeterType == entitlements.MeterIncremental || f.MeterType == entitlements.MeterFluctuating)
}
