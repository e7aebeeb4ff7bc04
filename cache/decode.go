package cache

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// entry is where one entitlement stands in a customer value.
type entry struct {
	ref      Ref
	from, to int32
}

// item is a decoded entry. usage is the snapshot that was written with the
// entitlement; the usage keys are newer and are merged over it.
type item struct {
	definition entitlements.Definition
	usage      entitlements.Usage
	trackable  bool // the entitlement has a usage
}

// index finds the entitlements of a customer value by their content, whatever
// their names, and checks that all of the value is well-formed JSON of the
// known shape. It decodes none of them.
func index(raw string, entries []entry) ([]entry, error) {
	p := scanner{s: raw}
	err := p.object(func(string, bool) error {
		if p.peek() != '{' {
			return errMalformed
		}
		from := p.i
		ref, known, err := p.entryRef()
		if err == nil && known {
			entries = append(entries, entry{ref: ref, from: int32(from), to: int32(p.i)})
		}
		return err
	})
	if err == nil && !p.end() {
		err = errMalformed
	}
	return entries, err
}

// entryRef passes over an entry and tells which entitlement it is. An entry of
// an unknown type, or with neither type nor feature, is not known.
func (p *scanner) entryRef() (ref Ref, known bool, err error) {
	var kind, feature, currency string
	err = p.object(func(name string, escaped bool) error {
		if !isName(name, escaped, "calculatedEntitlement") || p.peek() == 'n' {
			return p.skip()
		}
		return p.object(func(name string, escaped bool) (err error) {
			switch {
			case isName(name, escaped, "type"):
				kind, err = p.text()
			case isName(name, escaped, "feature"):
				feature, err = p.memberText("id")
			case isName(name, escaped, "currency"):
				currency, err = p.memberText("currencyId")
			default:
				err = p.skip()
			}
			return err
		})
	})
	if err != nil {
		return Ref{}, false, err
	}
	switch {
	case kind == "CREDIT":
		ref = Ref{IsCredit: true, ID: currency}
	case kind == "FEATURE", kind == "" && feature != "":
		ref = Ref{ID: feature}
	default:
		return Ref{}, false, nil
	}
	if ref.ID == "" {
		return Ref{}, false, errMalformed
	}
	return ref, true, nil
}

// memberText returns the text of one member of an object, "" if the object is
// null or has no such member.
func (p *scanner) memberText(member string) (text string, err error) {
	if p.null() {
		return "", nil
	}
	err = p.object(func(name string, escaped bool) error {
		if !isName(name, escaped, member) {
			return p.skip()
		}
		text, err = p.text()
		return err
	})
	return text, err
}

func isName(name string, escaped bool, want string) bool {
	if escaped {
		name = unescape(name)
	}
	return name == want
}

// decodeItem decodes one entry. Its strings are parts of one copy of the
// entry's text, so that it does not keep the whole customer value alive.
func decodeItem(text string) (*item, error) {
	p := scanner{s: strings.Clone(text)}
	d := &item{}
	var moved periodFields
	hasUsageData := false
	err := p.object(func(name string, escaped bool) (err error) {
		switch {
		case isName(name, escaped, "calculatedEntitlement"):
			return p.definition(&d.definition)
		case isName(name, escaped, "usageData"), isName(name, escaped, "featureUsage") && !hasUsageData:
			hasUsageData = hasUsageData || name == "usageData"
			var u usageFields
			if u, err = p.usage(&moved); err == nil {
				d.usage = u.over(entitlements.Usage{})
			}
			return err
		}
		return p.skip()
	})
	if err != nil {
		return nil, err
	}
	if d.definition.UsagePeriodAnchor.IsZero() {
		d.definition.UsagePeriodAnchor = moved.anchor
	}
	if d.definition.ResetPeriod == "" {
		d.definition.ResetPeriod = moved.reset
	}
	d.trackable = d.definition.UsageTrackable()
	return d, nil
}

// definition decodes a calculatedEntitlement.
func (p *scanner) definition(d *entitlements.Definition) error {
	return p.object(func(name string, escaped bool) (err error) {
		if escaped {
			name = unescape(name)
		}
		var text string
		switch name {
		case "type":
			text, err = p.text()
			d.IsCredit = text == "CREDIT"
		case "feature":
			err = p.feature(&d.Feature)
		case "currency":
			err = p.currency(&d.Currency)
		case "usageLimit":
			var limit float64
			var ok bool
			if limit, ok, err = p.float(); ok {
				d.UsageLimit = &limit
			}
		case "hasUnlimitedUsage":
			d.HasUnlimitedUsage, err = p.boolean()
		case "hasSoftLimit":
			d.HasSoftLimit, err = p.boolean()
		case "accessDeniedReason":
			text, err = p.text()
			d.AccessDeniedReason = entitlements.AccessDeniedReason(text)
		case "enumValues":
			d.EnumValues, err = p.texts()
		case "validUntil":
			d.ValidUntil, err = p.millis()
		case "creditRate":
			d.CreditRate, err = p.creditRate()
		case "usagePeriodAnchor":
			d.UsagePeriodAnchor, err = p.millis()
		case "resetPeriod":
			text, err = p.text()
			d.ResetPeriod = entitlements.ResetPeriod(text)
		default:
			err = p.skip()
		}
		return err
	})
}

func (p *scanner) feature(f *entitlements.Feature) error {
	if p.null() {
		return nil
	}
	err := p.object(func(name string, escaped bool) (err error) {
		if escaped {
			name = unescape(name)
		}
		var text string
		switch name {
		case "id":
			f.ID, err = p.text()
		case "displayName":
			f.DisplayName, err = p.text()
		case "description":
			f.Description, err = p.text()
		case "featureType":
			text, err = p.text()
			f.Type = entitlements.FeatureType(text)
		case "meterType":
			text, err = p.text()
			f.MeterType = entitlements.MeterType(text)
		case "units":
			f.Units, err = p.text()
		case "unitsPlural":
			f.UnitsPlural, err = p.text()
		default:
			err = p.skip()
		}
		return err
	})
	if f.DisplayName == "" {
		f.DisplayName = f.ID
	}
	return err
}

func (p *scanner) currency(c *credits.Currency) error {
	if p.null() {
		return nil
	}
	return p.object(func(name string, escaped bool) (err error) {
		if escaped {
			name = unescape(name)
		}
		switch name {
		case "currencyId":
			c.ID, err = p.text()
		case "displayName":
			c.DisplayName, err = p.text()
		case "description":
			c.Description, err = p.text()
		case "unitSingular":
			c.UnitSingular, err = p.text()
		case "unitPlural":
			c.UnitPlural, err = p.text()
		case "additionalMetaData":
			c.Metadata, err = p.jsonObject()
		default:
			err = p.skip()
		}
		return err
	})
}

// jsonObject decodes an object of any shape; nil for anything else.
func (p *scanner) jsonObject() (map[string]any, error) {
	text, err := p.raw()
	if err != nil || !strings.HasPrefix(text, "{") {
		return nil, err
	}
	var m map[string]any
	if json.Unmarshal([]byte(text), &m) != nil {
		return nil, errMalformed
	}
	return m, nil
}

func (p *scanner) creditRate() (*credits.Rate, error) {
	if p.null() {
		return nil, nil
	}
	var rate credits.Rate
	err := p.object(func(name string, escaped bool) (err error) {
		switch {
		case isName(name, escaped, "amount"):
			rate.Amount, _, err = p.float()
		case isName(name, escaped, "currencyId"):
			rate.CurrencyID, err = p.text()
		default:
			err = p.skip()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if rate.CurrencyID == "" || rate.Amount < 0 {
		return nil, errMalformed
	}
	return &rate, nil
}

func (p *scanner) texts() ([]string, error) {
	if p.null() {
		return nil, nil
	}
	var texts []string
	err := p.array(func() error {
		if p.peek() != '"' {
			return errMalformed
		}
		text, err := p.text()
		texts = append(texts, text)
		return err
	})
	return texts, err
}

// millis reads a time in epoch milliseconds; zero for null.
func (p *scanner) millis() (time.Time, error) {
	ms, ok, err := p.float()
	if err != nil || !ok {
		return time.Time{}, err
	}
	if ms > maxMillis || ms < -maxMillis {
		return time.Time{}, errMalformed
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}

// periodFields are what older writers kept with the usage instead of with the
// entitlement.
type periodFields struct {
	anchor time.Time
	reset  entitlements.ResetPeriod
}

// usageFields is the content of a usage object or usage key, with what it says
// and what it leaves open kept apart.
type usageFields struct {
	current              float64
	start, end, next     time.Time
	updated              time.Time
	hasStart, hasEnd     bool
	hasCurrent, hasUsage bool
}

// over returns base with what u says put over it.
func (u usageFields) over(base entitlements.Usage) entitlements.Usage {
	if u.hasCurrent {
		base.Current = u.current
	}
	if u.hasStart {
		base.PeriodStart = u.start
	}
	switch {
	case u.hasEnd && !u.end.IsZero():
		base.PeriodEnd = u.end
	case !u.next.IsZero():
		base.PeriodEnd = u.next
	case u.hasEnd:
		base.PeriodEnd = time.Time{}
	}
	if !u.updated.IsZero() {
		base.UpdatedAt = u.updated
	}
	return base
}

// usage decodes a usage object. moved takes the fields that belong to the
// entitlement; it may be nil.
func (p *scanner) usage(moved *periodFields) (usageFields, error) {
	var u usageFields
	if p.null() {
		return u, nil
	}
	u.hasUsage = true
	err := p.object(func(name string, escaped bool) (err error) {
		if escaped {
			name = unescape(name)
		}
		switch name {
		case "currentUsage":
			u.current, _, err = p.float()
			u.hasCurrent = true
		case "usagePeriodStart":
			u.start, err = p.millis()
			u.hasStart = true
		case "usagePeriodEnd":
			u.end, err = p.millis()
			u.hasEnd = true
		case "nextResetDate":
			u.next, err = p.millis()
		case "usageUpdatedAt":
			u.updated, err = p.millis()
		case "usagePeriodAnchor":
			var anchor time.Time
			if anchor, err = p.millis(); moved != nil {
				moved.anchor = anchor
			}
		case "resetPeriod":
			var text string
			if text, err = p.text(); moved != nil {
				moved.reset = entitlements.ResetPeriod(text)
			}
		default:
			err = p.skip()
		}
		return err
	})
	return u, err
}

// decodeUsage decodes the value of a usage key.
func decodeUsage(raw string) (usageFields, error) {
	p := scanner{s: raw}
	if p.peek() != '{' {
		return usageFields{}, errMalformed
	}
	u, err := p.usage(nil)
	if err == nil && !p.end() {
		err = errMalformed
	}
	return u, err
}

// noReason is what the metadata of nearly every customer is.
const noReason = `{"accessDeniedReason":null}`

// decodeMetadata decodes the value of a metadata key.
func decodeMetadata(raw string) (entitlements.AccessDeniedReason, error) {
	if raw == noReason || raw == "{}" {
		return "", nil
	}
	p := scanner{s: raw}
	if p.peek() != '{' {
		return "", errMalformed
	}
	reason, err := p.memberText("accessDeniedReason")
	if err == nil && !p.end() {
		err = errMalformed
	}
	return entitlements.AccessDeniedReason(strings.Clone(reason)), err
}
