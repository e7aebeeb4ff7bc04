package cache

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// The wire form of the values, for encoding/json.
type (
	entryValue struct {
		Calculated any              `json:"calculatedEntitlement"`
		UsageData  *usageDataObject `json:"usageData,omitempty"`
	}
	featureValue struct {
		Type                     string          `json:"type"`
		Feature                  featureObject   `json:"feature"`
		UsageLimit               *float64        `json:"usageLimit"`
		HasUnlimitedUsage        bool            `json:"hasUnlimitedUsage"`
		HasSoftLimit             bool            `json:"hasSoftLimit"`
		AccessDeniedReason       string          `json:"accessDeniedReason,omitempty"`
		EnumValues               []string        `json:"enumValues"`
		ValidUntil               *int64          `json:"validUntil,omitempty"`
		CreditRate               *rateObject     `json:"creditRate,omitempty"`
		UsagePeriodAnchor        *int64          `json:"usagePeriodAnchor,omitempty"`
		ResetPeriod              string          `json:"resetPeriod,omitempty"`
		ResetPeriodConfiguration json.RawMessage `json:"resetPeriodConfiguration,omitempty"`
	}
	creditValue struct {
		Type               string   `json:"type"`
		Currency           any      `json:"currency"`
		UsageLimit         *float64 `json:"usageLimit"`
		HasSoftLimit       bool     `json:"hasSoftLimit"`
		AccessDeniedReason string   `json:"accessDeniedReason,omitempty"`
		ValidUntil         *int64   `json:"validUntil,omitempty"`
	}
	featureObject struct {
		ID                 string          `json:"id"`
		DisplayName        string          `json:"displayName"`
		Description        string          `json:"description,omitempty"`
		FeatureType        string          `json:"featureType"`
		MeterType          string          `json:"meterType,omitempty"`
		Units              string          `json:"units"`
		UnitsPlural        string          `json:"unitsPlural"`
		UnitTransformation json.RawMessage `json:"unitTransformation,omitempty"`
	}
	currencyObject struct {
		ID           string         `json:"currencyId"`
		DisplayName  string         `json:"displayName"`
		Description  *string        `json:"description"`
		UnitSingular *string        `json:"unitSingular"`
		UnitPlural   *string        `json:"unitPlural"`
		Metadata     map[string]any `json:"additionalMetaData"`
	}
	rateObject struct {
		Amount     float64 `json:"amount"`
		CurrencyID string  `json:"currencyId"`
	}
	usageObject struct {
		CurrentUsage     float64 `json:"currentUsage"`
		UsagePeriodStart *int64  `json:"usagePeriodStart"`
		UsagePeriodEnd   *int64  `json:"usagePeriodEnd"`
	}
	usageDataObject struct {
		usageObject
		UsageUpdatedAt *int64 `json:"usageUpdatedAt"`
	}
)

// encodedEntry is an entry as encoding/json writes it.
func encodedEntry(r *entitlements.Record) ([]byte, error) {
	d := &r.Definition
	var v entryValue
	if d.IsCredit {
		credit := creditValue{
			Type: "CREDIT", UsageLimit: d.UsageLimit, HasSoftLimit: d.HasSoftLimit,
			AccessDeniedReason: string(d.AccessDeniedReason), ValidUntil: millis(d.ValidUntil),
			Currency: currencyObject{
				ID: d.Currency.ID, DisplayName: d.Currency.DisplayName, Description: optional(d.Currency.Description),
				UnitSingular: optional(d.Currency.UnitSingular), UnitPlural: optional(d.Currency.UnitPlural), Metadata: d.Currency.Metadata,
			},
		}
		if d.RawCurrency != nil {
			credit.Currency = d.RawCurrency
		}
		v.Calculated = credit
	} else {
		f := featureValue{
			Type: "FEATURE",
			Feature: featureObject{
				ID: d.Feature.ID, DisplayName: d.Feature.DisplayName, Description: d.Feature.Description,
				FeatureType: string(d.Feature.Type), MeterType: string(d.Feature.MeterType),
				Units: d.Feature.Units, UnitsPlural: d.Feature.UnitsPlural, UnitTransformation: d.RawUnitTransformation,
			},
			UsageLimit: d.UsageLimit, HasUnlimitedUsage: d.HasUnlimitedUsage, HasSoftLimit: d.HasSoftLimit,
			AccessDeniedReason: string(d.AccessDeniedReason), EnumValues: append([]string{}, d.EnumValues...), ValidUntil: millis(d.ValidUntil),
			UsagePeriodAnchor: millis(d.UsagePeriodAnchor), ResetPeriod: string(d.ResetPeriod),
			ResetPeriodConfiguration: d.RawResetPeriodConfiguration,
		}
		if d.CreditRate != nil {
			f.CreditRate = &rateObject{Amount: d.CreditRate.Amount, CurrencyID: d.CreditRate.CurrencyID}
		}
		v.Calculated = f
	}
	if r.HasUsage {
		v.UsageData = &usageDataObject{UsageUpdatedAt: millis(r.Usage.UpdatedAt), usageObject: usageObject{
			CurrentUsage: r.Usage.Current, UsagePeriodStart: millis(r.Usage.PeriodStart), UsagePeriodEnd: millis(r.Usage.PeriodEnd),
		}}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Entries are written byte for byte as encoding/json writes them, and what it
// refuses is refused.
func FuzzEntry(f *testing.F) {
	f.Add("plain", "a \"b\"\\\n<&>", `{"a": [1, 2]}`, 1.5, int64(1780000000000), uint8(0xff))
	f.Add("é 客 🙂 \x7f", "\u2028", ``, 1e-7, int64(-1), uint8(0x55))
	f.Add("\xff", "\x00\x1f", `null`, 1e21, int64(1), uint8(0xaa))
	f.Add("‘’", "\u2029", `{]`, -0.25, int64(0), uint8(0x0f))
	f.Add("", "", "[]", math.Copysign(0, -1), int64(1), uint8(0))
	f.Add("x", "y", "{}", math.Inf(-1), int64(1), uint8(1))
	f.Add("x", "y", "{}", math.NaN(), int64(1), uint8(2))
	f.Fuzz(func(t *testing.T, a, b, raw string, n float64, ms int64, flags uint8) {
		is := func(bit int) bool { return flags>>bit&1 == 1 }
		ms %= 253402300800000
		at := time.UnixMilli(ms)
		r := entitlements.Record{HasUsage: is(1), Usage: entitlements.Usage{Current: n, PeriodStart: at}, Definition: entitlements.Definition{
			IsCredit:           is(0),
			Feature:            entitlements.Feature{ID: a, DisplayName: b, Description: a, Type: entitlements.FeatureType(b), MeterType: entitlements.MeterType(a), Units: b, UnitsPlural: a},
			Currency:           credits.Currency{ID: a, DisplayName: b, Description: b, UnitSingular: a},
			HasUnlimitedUsage:  is(2),
			HasSoftLimit:       is(3),
			AccessDeniedReason: entitlements.AccessDeniedReason(b),
		}}
		d := &r.Definition
		if is(4) {
			d.UsageLimit, d.CreditRate, d.ValidUntil = &n, &credits.Rate{Amount: n, CurrencyID: b}, at
		}
		if is(5) {
			d.EnumValues, d.UsagePeriodAnchor, d.ResetPeriod = []string{a, b}, at, entitlements.ResetPeriod(a)
			r.Usage.PeriodEnd, r.Usage.UpdatedAt = at, at
		}
		if is(6) {
			d.RawCurrency, d.RawResetPeriodConfiguration, d.RawUnitTransformation = json.RawMessage(raw), json.RawMessage(raw), json.RawMessage(raw)
		}
		if is(7) {
			d.Currency.Metadata = map[string]any{a: b, "n": n}
		}
		want, wantErr := encodedEntry(&r)
		var got encoder
		got.entry(&r)
		if wantErr != nil {
			require.IsType(t, wantErr, got.err)
			return
		}
		require.NoError(t, got.err)
		require.Equal(t, string(want), got.String())
	})
}
