package cache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

func decodeOne(t *testing.T, entry string) *item {
	t.Helper()
	v, err := parse(`{"x":`+entry+`}`, 1)
	require.NoError(t, err)
	all, err := v.list([]string{"value"})
	require.NoError(t, err)
	require.Len(t, all, 1, entry)
	return all[0]
}

func ms(n int64) time.Time { return time.UnixMilli(n).UTC() }

func TestDecodeItem(t *testing.T) {
	const feature = `"feature":{"id":"f","featureType":"NUMBER","meterType":"Incremental"}`
	for name, c := range map[string]struct {
		entry string
		want  func(*item)
	}{
		"the current format counts over the old one": {
			`{"usageData":{"currentUsage":1},"calculatedEntitlement":{` + feature + `},"featureUsage":{"currentUsage":2}}`,
			func(i *item) { i.usage.Current = 1 },
		},
		"in whatever order they come": {
			`{"featureUsage":{"currentUsage":2},"calculatedEntitlement":{` + feature + `},"usageData":{"currentUsage":1}}`,
			func(i *item) { i.usage.Current = 1 },
		},
		"what moved is taken from the usage": {
			`{"calculatedEntitlement":{` + feature + `},"featureUsage":{"usagePeriodAnchor":5,"resetPeriod":"DAY"}}`,
			func(i *item) { i.definition.UsagePeriodAnchor, i.definition.ResetPeriod = ms(5), entitlements.ResetDay },
		},
		"unless it is where it belongs": {
			`{"featureUsage":{"usagePeriodAnchor":5,"resetPeriod":"DAY"},"calculatedEntitlement":{"usagePeriodAnchor":6,"resetPeriod":"WEEK",` + feature + `}}`,
			func(i *item) {
				i.definition.UsagePeriodAnchor, i.definition.ResetPeriod = ms(6), entitlements.ResetWeek
			},
		},
		"the next reset is the period's end": {
			`{"calculatedEntitlement":{` + feature + `},"usageData":{"nextResetDate":7}}`,
			func(i *item) { i.usage.PeriodEnd = ms(7) },
		},
		"if there is no other": {
			`{"calculatedEntitlement":{` + feature + `},"usageData":{"nextResetDate":7,"usagePeriodEnd":8}}`,
			func(i *item) { i.usage.PeriodEnd = ms(8) },
		},
		"null is absent": {
			`{"calculatedEntitlement":{"type":null,` + feature + `,"currency":null,"usageLimit":null,"enumValues":null,"creditRate":null,"validUntil":null,` +
				`"accessDeniedReason":null,"hasSoftLimit":null},"usageData":{"currentUsage":null,"usagePeriodStart":null,"usagePeriodEnd":null,"usageUpdatedAt":null}}`,
			func(*item) {},
		},
		"names and texts with escapes": {
			`{"calculated\u0045ntitlement":{"typ\u0065":"\u0046EATURE","f\u0065ature":{"\u0069d":"\u0066","featureType":"NUMBER","meterType":"Incremental"}},` +
				`"usage\u0044ata":{"current\u0055sage":3}}`,
			func(i *item) { i.usage.Current = 3 },
		},
		"unknown fields of any kind": {
			`{"new":[{"a":{"b":[1,2,"}"]}}],"calculatedEntitlement":{"new":{},` + feature + `,"newer":[[]]},"newest":"x"}`,
			func(*item) {},
		},
		"a rate": {
			`{"calculatedEntitlement":{` + feature + `,"creditRate":{"currencyId":"u","amount":2.5,"new":1}}}`,
			func(i *item) { i.definition.CreditRate = &credits.Rate{Amount: 2.5, CurrencyID: "u"} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := item{definition: entitlements.Definition{Feature: entitlements.Feature{
				ID: "f", DisplayName: "f", Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental,
			}}}
			c.want(&want)
			got := decodeOne(t, c.entry)
			require.Equal(t, want.definition, got.definition)
			require.Equal(t, want.usage, got.usage)
		})
	}
}

func TestEntriesThatAreSkipped(t *testing.T) {
	for _, entry := range []string{
		`{}`, `{"calculatedEntitlement":{}}`, `{"calculatedEntitlement":null}`, `{"calculatedEntitlement":{"type":"NEW"}}`,
		`{"calculatedEntitlement":{"type":"NEW","feature":{"id":"f"}}}`, `{"calculatedEntitlement":{"currency":{"currencyId":"u"}}}`,
	} {
		v, err := parse(`{"x":`+entry+`}`, 1)
		require.NoError(t, err, entry)
		require.Empty(t, v.entries, entry)
	}
}

func TestOfTwoEntriesTheFirstCounts(t *testing.T) {
	v, err := parse(`{"a":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"f","displayName":"first"}}},`+
		`"b":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"f","displayName":"second"}}}}`, 2)
	require.NoError(t, err)
	all, err := v.list([]string{"value"})
	require.NoError(t, err)
	require.Len(t, all, 1)
	one, err := v.find(Ref{ID: "f"})
	require.NoError(t, err)
	require.Same(t, all[0], one)
	require.Equal(t, "first", one.definition.Feature.DisplayName)
}

// A usage key says what it says; what it leaves open is as in the snapshot.
func TestUsageOverSnapshot(t *testing.T) {
	snapshot := entitlements.Usage{Current: 1, PeriodStart: ms(1), PeriodEnd: ms(2), UpdatedAt: ms(3)}
	for text, want := range map[string]entitlements.Usage{
		`{}`:                   snapshot,
		`{"currentUsage":5}`:   {Current: 5, PeriodStart: ms(1), PeriodEnd: ms(2), UpdatedAt: ms(3)},
		`{"nextResetDate":9}`:  {Current: 1, PeriodStart: ms(1), PeriodEnd: ms(9), UpdatedAt: ms(3)},
		`{"usageUpdatedAt":9}`: {Current: 1, PeriodStart: ms(1), PeriodEnd: ms(2), UpdatedAt: ms(9)},
		`{"currentUsage":0,"usagePeriodStart":null,"usagePeriodEnd":null}`:            {UpdatedAt: ms(3)},
		`{"currentUsage":0,"usagePeriodStart":4,"usagePeriodEnd":5}`:                  {PeriodStart: ms(4), PeriodEnd: ms(5), UpdatedAt: ms(3)},
		`{"currentUsage":0,"usagePeriodEnd":null,"nextResetDate":9,"unknown":[{}]}`:   {PeriodStart: ms(1), PeriodEnd: ms(9), UpdatedAt: ms(3)},
		`{"currentUsage":0,"usagePeriodEnd":8,"nextResetDate":9,"resetPeriod":"DAY"}`: {PeriodStart: ms(1), PeriodEnd: ms(8), UpdatedAt: ms(3)},
	} {
		fields, err := decodeUsage(text)
		require.NoError(t, err, text)
		require.Equal(t, want, fields.over(snapshot), text)
	}
}

// An entry is decoded as the entitlement that the index says it is: else a
// customer would be granted one entitlement for another.
func FuzzIndexAgreesWithDecode(f *testing.F) {
	f.Add(`{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"x"},"feature":{"id":"y"}}}`)
	f.Add(`{"calculatedEntitlement":{"type":"CREDIT","currency":{"currencyId":"x"},"currency":{}},"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"y"}}}`)
	f.Add(`{"calculatedEntitlement":{"type":null,"feature":{"id":"\ud83d\ude42"},"currency":{"currencyId":"x"},"type":"CREDIT"}}`)
	f.Fuzz(func(t *testing.T, entry string) {
		v, err := parse(`{"x":`+entry+`}`, 1)
		if err != nil {
			return
		}
		for _, e := range v.entries {
			it, err := v.find(e.ref)
			if err == nil && RefOf(&it.definition) != e.ref {
				t.Fatalf("indexed as %+v, decoded as %+v: %q", e.ref, RefOf(&it.definition), entry)
			}
		}
	})
}
