package apistate_test

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// edgeStates are the recorded answers by "customer" or "customer/resource".
func edgeStates(t testing.TB) map[string]json.RawMessage {
	t.Helper()
	raw, err := os.ReadFile("testdata/edge-entitlements-state.json")
	require.NoError(t, err)
	var answers map[string]struct {
		Data struct {
			EntitlementsState json.RawMessage
		}
	}
	require.NoError(t, json.Unmarshal(raw, &answers))
	states := make(map[string]json.RawMessage, len(answers))
	for name, a := range answers {
		states[name] = a.Data.EntitlementsState
	}
	return states
}

func isTrackable(d entitlements.Definition) bool {
	return d.IsCredit || d.Feature.Type == entitlements.FeatureNumber &&
		(d.Feature.MeterType == entitlements.MeterIncremental || d.Feature.MeterType == entitlements.MeterFluctuating)
}

// What another writer stored for the same answers says which entitlements have
// a usage, and which.
func TestUsageIsWhatOtherWritersStore(t *testing.T) {
	raw, err := os.ReadFile("testdata/redis-cache-store-1.29.json")
	require.NoError(t, err)
	var keys []struct{ Key, Value string }
	require.NoError(t, json.Unmarshal(raw, &keys))
	stored := map[string]string{}
	for _, k := range keys {
		if strings.Contains(k.Key, ":f_") || strings.Contains(k.Key, ":credit_") {
			stored[k.Key] = k.Value
		}
	}
	require.NotEmpty(t, stored)

	got := map[string]string{}
	millis := func(at time.Time) any {
		if at.IsZero() {
			return nil
		}
		return at.UnixMilli()
	}
	for name, raw := range edgeStates(t) {
		state, err := apistate.Decode(raw)
		require.NoError(t, err, name)
		owner := "lab:c_" + strings.Replace(name, "/", ":r_", 1)
		for _, r := range state.Records {
			if !r.HasUsage || !isTrackable(r.Definition) {
				continue
			}
			key := owner + ":f_" + r.Definition.Feature.ID
			if r.Definition.IsCredit {
				key = owner + ":credit_" + r.Definition.Currency.ID
			}
			value, err := json.Marshal(struct {
				CurrentUsage     float64 `json:"currentUsage"`
				UsagePeriodStart any     `json:"usagePeriodStart"`
				UsagePeriodEnd   any     `json:"usagePeriodEnd"`
			}{r.Usage.Current, millis(r.Usage.PeriodStart), millis(r.Usage.PeriodEnd)})
			require.NoError(t, err)
			at, err := json.Marshal(r.Usage.UpdatedAt.UnixMilli())
			require.NoError(t, err)
			got[key], got[key+"#timestamp"] = string(value), string(at)
		}
	}
	require.Equal(t, stored, got)
}

func TestDecodeFeature(t *testing.T) {
	state, err := apistate.Decode([]byte(`{"accessDeniedReason":"NoActiveSubscription","entitlementsV2":[{
		"__typename":"FeatureEntitlement","isGranted":false,"accessDeniedReason":"BudgetExceeded",
		"usageLimit":100,"hasUnlimitedUsage":true,"hasSoftLimit":true,"currentUsage":40.5,"enumValues":["eu","us"],
		"entitlementUpdatedAt":"2026-06-01T10:00:00.000Z","usageUpdatedAt":"2026-06-02T11:30:00Z",
		"usagePeriodAnchor":"2026-01-15T08:00:00.000Z","usagePeriodStart":1778832000000,"usagePeriodEnd":"4085193600000",
		"resetPeriod":"MONTH","resetPeriodConfiguration":{"__typename": "MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"},
		"feature":{"refId":"f","displayName":"F","description":"d","featureType":"NUMBER","meterType":"Incremental",
			"featureUnits":"GB","featureUnitsPlural":"GBs","unitTransformation":{ "divide":1024, "round":"UP" }},
		"creditRate":{"amount":2.5,"currencyId":"c"},"validUntil":"2099-03-01T01:00:00+01:00"}]}`))
	require.NoError(t, err)
	require.Equal(t, entitlements.NoActiveSubscription, state.AccessDeniedReason)
	require.Len(t, state.Records, 1)
	r := state.Records[0]
	require.NotNil(t, r.Definition.UsageLimit)
	require.Equal(t, 100.0, *r.Definition.UsageLimit)
	require.NotNil(t, r.Definition.CreditRate)
	require.Equal(t, 2.5, r.Definition.CreditRate.Amount)
	require.Equal(t, "c", r.Definition.CreditRate.CurrencyID)
	r.Definition.UsageLimit, r.Definition.CreditRate = nil, nil
	require.Equal(t, entitlements.Record{
		HasUsage: true,
		Usage: entitlements.Usage{
			Current:     40.5,
			PeriodStart: time.UnixMilli(1778832000000).UTC(),
			PeriodEnd:   time.UnixMilli(4085193600000).UTC(),
			UpdatedAt:   time.Date(2026, 6, 2, 11, 30, 0, 0, time.UTC),
		},
		Definition: entitlements.Definition{
			Feature: entitlements.Feature{
				ID: "f", DisplayName: "F", Description: "d", Type: entitlements.FeatureNumber,
				MeterType: entitlements.MeterIncremental, Units: "GB", UnitsPlural: "GBs",
			},
			HasUnlimitedUsage:           true,
			HasSoftLimit:                true,
			AccessDeniedReason:          entitlements.BudgetExceeded,
			EnumValues:                  []string{"eu", "us"},
			ValidUntil:                  time.Date(2099, 3, 1, 0, 0, 0, 0, time.UTC),
			UsagePeriodAnchor:           time.Date(2026, 1, 15, 8, 0, 0, 0, time.UTC),
			ResetPeriod:                 entitlements.ResetMonth,
			UpdatedAt:                   time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC),
			RawResetPeriodConfiguration: json.RawMessage(`{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"}`),
			RawUnitTransformation:       json.RawMessage(`{"divide":1024,"round":"UP"}`),
		},
	}, r)
}

func TestDecodeCredit(t *testing.T) {
	state, err := apistate.Decode([]byte(`{"entitlementsV2":[{"__typename":"CreditEntitlement","isGranted":false,
		"currency":{"currencyId":"c","displayName":"C","description":null,"unitSingular":"credit","unitPlural":"credits","additionalMetaData":{"a":[1]}},
		"usageLimit":100,"currentUsage":130,"hasSoftLimit":true,"usageUpdatedAt":"2026-06-02T11:30:00.1239Z",
		"usagePeriodEnd":"2099-06-15T08:00:00.000Z"}]}`))
	require.NoError(t, err)
	require.Len(t, state.Records, 1)
	r := state.Records[0]
	require.True(t, r.Definition.IsCredit)
	require.True(t, r.Definition.HasSoftLimit)
	require.Empty(t, r.Definition.AccessDeniedReason)
	require.Equal(t, "C", r.Definition.Currency.DisplayName)
	require.Equal(t, map[string]any{"a": []any{1.0}}, r.Definition.Currency.Metadata)
	require.Equal(t, `{"currencyId":"c","displayName":"C","description":null,"unitSingular":"credit","unitPlural":"credits","additionalMetaData":{"a":[1]}}`, string(r.Definition.RawCurrency))
	require.Equal(t, 130.0, r.Usage.Current)
	require.Equal(t, 123*int(time.Millisecond), r.Usage.UpdatedAt.Nanosecond(), "truncated to milliseconds")
	require.Equal(t, 2099, r.Usage.PeriodEnd.Year())
	require.True(t, r.HasUsage)
}

func TestDecodeTolerates(t *testing.T) {
	const feature = `{"__typename":"FeatureEntitlement","feature":{"refId":"a","featureType":"BOOLEAN"}}`
	for name, c := range map[string]struct {
		in  string
		ids []string
	}{
		"no list":              {`{}`, nil},
		"null list":            {`{"entitlementsV2":null,"accessDeniedReason":null}`, nil},
		"empty list":           {`{"entitlementsV2":[]}`, nil},
		"unknown kind":         {`{"entitlementsV2":[{"__typename":"New","feature":7},` + feature + `]}`, []string{"a"}},
		"no kind, feature":     {`{"entitlementsV2":[{"feature":{"refId":"b"}}]}`, []string{"b"}},
		"no kind, currency":    {`{"entitlementsV2":[{"feature":null,"currency":{"currencyId":"c"}}]}`, []string{"c"}},
		"twice":                {`{"entitlementsV2":[` + feature + `,{"currency":{"currencyId":"a"}},` + feature + `]}`, []string{"a", "a"}},
		"metadata of any kind": {`{"entitlementsV2":[{"currency":{"currencyId":"c","additionalMetaData":"text"}}]}`, []string{"c"}},
		"unknown fields":       {`{"more":1,"entitlementsV2":[{"more":{},"feature":{"refId":"b","more":[]}}]}`, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := apistate.Decode([]byte(c.in))
			require.NoError(t, err)
			var ids []string
			for _, r := range state.Records {
				ids = append(ids, r.Definition.Feature.ID+r.Definition.Currency.ID)
				require.False(t, r.HasUsage)
				require.Nil(t, r.Definition.UsageLimit)
			}
			require.Equal(t, c.ids, ids)
		})
	}
}

func TestDecodeLaterDuplicateCounts(t *testing.T) {
	state, err := apistate.Decode([]byte(`{"entitlementsV2":[{"feature":{"refId":"a"},"usageLimit":1},{"feature":{"refId":"a"},"usageLimit":2}]}`))
	require.NoError(t, err)
	require.Len(t, state.Records, 1)
	require.Equal(t, 2.0, *state.Records[0].Definition.UsageLimit)
}

// A denial without a reason must not be read as a grant where nothing but the
// reason denies.
func TestDecodeDeniedWithoutReason(t *testing.T) {
	for kind, want := range map[string]entitlements.AccessDeniedReason{
		`"BOOLEAN","meterType":"None"`:       entitlements.Unknown,
		`"ENUM"`:                             entitlements.Unknown,
		`"NUMBER","meterType":"None"`:        entitlements.Unknown,
		`"NUMBER","meterType":"Incremental"`: "",
		`"NUMBER","meterType":"Fluctuating"`: "",
	} {
		state, err := apistate.Decode([]byte(`{"entitlementsV2":[{"isGranted":false,"feature":{"refId":"a","featureType":` + kind + `}}]}`))
		require.NoError(t, err)
		require.Equal(t, want, state.Records[0].Definition.AccessDeniedReason, kind)
	}
}

func TestDecodeRefuses(t *testing.T) {
	element := func(fields string) string {
		return `{"entitlementsV2":[{"__typename":"FeatureEntitlement","feature":{"refId":"a"},` + fields + `}]}`
	}
	credit := func(fields string) string {
		return `{"entitlementsV2":[{"__typename":"CreditEntitlement",` + fields + `}]}`
	}
	for name, in := range map[string]string{
		"nothing":             ``,
		"null":                ` null `,
		"not json":            `<html>secret</html>`,
		"cut short":           `{"entitlementsV2":[{"__typename":"Fea`,
		"list":                `[]`,
		"more after it":       `{} {}`,
		"reason of type":      `{"accessDeniedReason":5}`,
		"entitlements object": `{"entitlementsV2":{}}`,
		"null element":        `{"entitlementsV2":[null]}`,
		"element of no kind":  `{"entitlementsV2":[{}]}`,
		"kind of type":        `{"entitlementsV2":[{"__typename":5}]}`,
		"no feature":          `{"entitlementsV2":[{"__typename":"FeatureEntitlement","feature":null}]}`,
		"no feature id":       `{"entitlementsV2":[{"__typename":"FeatureEntitlement","feature":{}}]}`,
		"empty feature id":    `{"entitlementsV2":[{"__typename":"FeatureEntitlement","feature":{"refId":""}}]}`,
		"feature id of type":  `{"entitlementsV2":[{"__typename":"FeatureEntitlement","feature":{"refId":1}}]}`,
		"no currency":         credit(`"currency":null`),
		"no currency id":      credit(`"currency":{"displayName":"secret"}`),
		"metadata not finite": credit(`"currency":{"currencyId":"c","additionalMetaData":{"n":1e999}}`),
		"limit string":        element(`"usageLimit":"secret"`),
		"limit not finite":    element(`"usageLimit":1e999`),
		"limit absurd":        element(`"usageLimit":1e22`),
		"usage absurd":        element(`"currentUsage":-1e22`),
		"unlimited string":    element(`"hasUnlimitedUsage":"secret"`),
		"granted number":      element(`"isGranted":1`),
		"enum string":         element(`"enumValues":"secret"`),
		"enum of numbers":     element(`"enumValues":[1]`),
		"enum with null":      element(`"enumValues":["a",null]`),
		"date":                element(`"validUntil":"secret"`),
		"date without time":   element(`"validUntil":"2026-06-01"`),
		"date empty":          element(`"validUntil":""`),
		"date object":         element(`"validUntil":{}`),
		"date far":            element(`"validUntil":1e18`),
		"rate string":         element(`"creditRate":"secret"`),
		"rate without amount": element(`"creditRate":{"currencyId":"c"}`),
		"rate of nothing":     element(`"creditRate":{"amount":1}`),
		"reset configuration": element(`"resetPeriodConfiguration":"secret"`),
	} {
		t.Run(name, func(t *testing.T) {
			state, err := apistate.Decode([]byte(in))
			require.Error(t, err)
			require.NotContains(t, err.Error(), "secret")
			require.Zero(t, state)
		})
	}
}

func TestParseTime(t *testing.T) {
	at := time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		`"2026-06-01T10:00:00Z"`:           at,
		`"2026-06-01T10:00:00.000Z"`:       at,
		`"2026-06-01T12:00:00+02:00"`:      at,
		`"2026-06-01T10:00:00.123456789Z"`: at.Add(123 * time.Millisecond),
		`1780308000000`:                    at,
		`1.780308e12`:                      at,
		`"1780308000000"`:                  at,
		`null`:                             {},
		``:                                 {},
		`0`:                                {},
		`"0"`:                              {},
		`"0001-01-01T00:00:00Z"`:           {},
	} {
		got, err := apistate.ParseTime([]byte(in))
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{`"yesterday"`, `""`, `true`, `[]`, `-1e17`, `"99999999999999999999"`, `"9999-12-31T23:59:59-01:00"`, `nul`} {
		got, err := apistate.ParseTime([]byte(in))
		require.Error(t, err, in)
		require.Zero(t, got, in)
	}
}

func FuzzDecode(f *testing.F) {
	for _, raw := range edgeStates(f) {
		f.Add([]byte(raw))
	}
	f.Add([]byte(`{"entitlementsV2":[{"feature":{"refId":"a"},"validUntil":-1.5,"usageLimit":1e999}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		state, err := apistate.Decode(in)
		if err != nil {
			require.Zero(t, state)
			return
		}
		for _, r := range state.Records {
			d := r.Definition
			require.NotEmpty(t, d.Feature.ID+d.Currency.ID)
			require.False(t, math.IsInf(r.Usage.Current, 0))
			for _, at := range []time.Time{d.ValidUntil, d.UpdatedAt, d.UsagePeriodAnchor, r.Usage.PeriodStart, r.Usage.PeriodEnd, r.Usage.UpdatedAt} {
				_, err := at.MarshalJSON()
				require.NoError(t, err)
			}
			for _, raw := range []json.RawMessage{d.RawCurrency, d.RawResetPeriodConfiguration, d.RawUnitTransformation} {
				require.True(t, raw == nil || json.Valid(raw))
			}
		}
	})
}
