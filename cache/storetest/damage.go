package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// unreadableValues are texts that are no customer value.
func unreadableValues(good string) []string {
	return []string{
		``, `null`, `[]`, `"text"`, `7`, `not json`, `{`, `{"a":1}`, `{"a":[]}`,
		good[:len(good)/2], good[:len(good)-1], good + `}`, good + good,
		`{"a":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":7}}}}`,
		`{"a":{"calculatedEntitlement":{"type":5,"feature":{"id":"calls"}}}}`,
		`{"a":{"calculatedEntitlement":{"type":"FEATURE","feature":"calls"}}}`,
	}
}

// unreadableEntries are entries for the feature "calls" that cannot be decoded.
func unreadableEntries() []string {
	const start = `{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"calls","featureType":"NUMBER","meterType":"Incremental"}`
	return []string{
		start + `,"usageLimit":"100"}}`,
		start + `,"usageLimit":1e999}}`,
		start + `,"hasSoftLimit":1}}`,
		start + `,"enumValues":"eu"}}`,
		start + `,"enumValues":[1]}}`,
		start + `,"validUntil":"2026-01-01"}}`,
		start + `,"validUntil":1e17}}`,
		start + `,"creditRate":{"amount":1}}}`,
		start + `,"creditRate":{"amount":-1,"currencyId":"tokens"}}}`,
		start + `},"usageData":[]}`,
		start + `},"usageData":{"currentUsage":"40"}}`,
	}
}

// unreadableUsages are texts that are no usage.
func unreadableUsages() []string {
	return []string{``, `null`, `[]`, `40`, `{"currentUsage":"40"}`, `{"currentUsage":1e999}`, `{"currentUsage":4`, `{"usagePeriodEnd":true}`, `{"usagePeriodEnd":1e300}`}
}

// damageCases check that data which is there and cannot be read is a miss that
// names what is damaged: never an error, never "not entitled".
func damageCases() []testCase {
	return []testCase{
		{"values", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, text := range unreadableValues(b.get(b.value(customer))) {
				b.set(b.value(customer), text)
				r := b.read(customer, calls)
				require.Equal(b, cache.ValueUnreadable, r.Faults, "%q: %v", text, r.Faults)
				require.False(b, r.Faults.Usable())
				require.Nil(b, r.Facts.Definition)
				require.Len(b, r.Damaged, 1)
				require.Equal(b, b.value(customer), r.Damaged[0].Key)
				state := b.readState(customer)
				b.requireFaults(cache.ValueUnreadable, state.Faults)
				require.Equal(b, r.Damaged, state.Damaged)
			}
		}},
		{"entries", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, entry := range unreadableEntries() {
				b.set(b.value(customer), `{"calls":`+entry+`}`)
				r := b.read(customer, calls)
				require.Equal(b, cache.ValueUnreadable, r.Faults, "%s: %v", entry, r.Faults)
				require.Nil(b, r.Facts.Definition)
				require.Len(b, r.Damaged, 1)
				require.Equal(b, b.value(customer), r.Damaged[0].Key)
				require.Equal(b, r.Damaged, b.readState(customer).Damaged)
			}
		}},
		{"usages", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, ref := range []cache.Ref{calls, wallet} {
				for _, text := range unreadableUsages() {
					b.set(b.usage(customer, ref), text)
					r := b.read(customer, ref)
					require.Equal(b, cache.UsageUnreadable, r.Faults, "%q: %v", text, r.Faults)
					require.True(b, r.Faults.Usable())
					require.NotNil(b, r.Facts.Definition)
					require.Len(b, r.Damaged, 1)
					require.Equal(b, b.usage(customer, ref), r.Damaged[0].Key)
				}
			}
		}},
		{"metadata, where it is needed", func(b *bed) {
			for _, text := range []string{``, `null`, `[]`, `{"accessDeniedReason":5}`, `{"accessDeniedReason":`} {
				b.write(customer, entitlements.State{}, cache.WriteOptions{})
				b.set(b.metadata(customer), text)
				r := b.read(customer, calls)
				require.Equal(b, cache.MetadataUnreadable, r.Faults, "%q: %v", text, r.Faults)
				require.Len(b, r.Damaged, 1)
				require.Equal(b, b.metadata(customer), r.Damaged[0].Key)
				state := b.readState(customer)
				b.requireFaults(cache.MetadataUnreadable, state.Faults)
				require.Equal(b, r.Damaged, state.Damaged)

				b.write(customer, sample(), cache.WriteOptions{})
				b.set(b.metadata(customer), text)
				b.requireHit(customer, calls)
				b.requireFaults(0, b.readState(customer).Faults)
			}
		}},
		{"keys of other types are absent", func(b *bed) {
			for _, c := range []struct {
				key  string
				want cache.Faults
			}{
				{b.value(customer), cache.ValueAbsent},
				{b.valueTime(customer), cache.TimestampAbsent},
				{b.usage(customer, calls), cache.UsageAbsent},
				{b.usageTime(customer, calls), cache.UsageAbsent},
				{b.metadata(customer), 0},
			} {
				b.write(customer, sample(), cache.WriteOptions{})
				b.wrongType(c.key)
				b.requireFaults(c.want, b.read(customer, calls).Faults)
				b.requireFaults(c.want, b.readState(customer).Faults)
				b.delete(c.key)
			}
		}},
		{"keys of other types are written over", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			all := []string{
				b.value(customer), b.valueTime(customer), b.metadata(customer), b.metadataTime(customer),
				b.usage(customer, calls), b.usageTime(customer, calls),
			}
			for _, key := range all {
				b.wrongType(key)
			}
			b.requireApplied(4, 0, b.write(customer, sample(), cache.WriteOptions{}))
			b.requireHit(customer, calls)
			for _, key := range all {
				b.get(key)
			}
		}},
		{"a usage of another type is written over", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.wrongType(b.usage(customer, calls))
			b.wrongType(b.usageTime(customer, calls))
			b.requireApplied(1, 0, b.updateUsage(customer, calls, 41, after))
			require.Equal(b, 41.0, b.requireHit(customer, calls).Facts.Usage.Current)
		}},
	}
}

// wrongType puts a hash where the layout has a string.
func (b *bed) wrongType(key string) {
	b.Helper()
	b.delete(key)
	require.NoError(b, b.client.HSet(b.Context(), key, "field", "value").Err())
}
