package storetest

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// writeCases are the rules for writing a customer.
func writeCases() []testCase {
	return []testCase{
		{"key for key", func(b *bed) {
			for _, k := range []cache.Key{customer, resource} {
				b.requireApplied(4, 0, b.write(k, sample(), cache.WriteOptions{}))
				for name, want := range b.sampleKeys(k) {
					if name == b.value(k) {
						require.JSONEq(b, want, b.get(name))
					} else {
						b.requireKey(want, name)
					}
				}
			}
			require.Len(b, b.keys(b.Context()), 2*len(b.sampleKeys(customer)), "and nothing else: %v", b.keys(b.Context()))
		}},
		{"entries that share an id", func(b *bed) {
			state := stateOf(boolean("tokens"), boolean("credit_tokens"), credit("tokens", 5))
			b.write(customer, state, cache.WriteOptions{})
			var entries map[string]json.RawMessage
			require.NoError(b, json.Unmarshal([]byte(b.get(b.value(customer))), &entries))
			require.Len(b, entries, 3)
			require.Contains(b, string(entries["tokens"]), `"FEATURE"`)
			require.Contains(b, string(entries["credit_tokens"]), `"FEATURE"`, "a feature is named by its bare id")
			for _, r := range state.Records {
				b.requireHit(customer, cache.RefOf(&r.Definition))
			}
		}},
		{"ids of all kinds", func(b *bed) {
			for _, id := range awkwardIDs() {
				k := cache.Key{CustomerID: id, ResourceID: id}
				state := stateOf(boolean(id+"!"), metered(id, 40), credit(id, 100))
				b.write(k.Customer(), sample(), cache.WriteOptions{})
				b.write(k, state, cache.WriteOptions{})
				for _, r := range state.Records {
					got := b.requireHit(k, cache.RefOf(&r.Definition)).Facts
					require.Equal(b, r.Definition.Feature, got.Definition.Feature)
					require.Equal(b, r.Usage, got.Usage)
				}
				b.requireApplied(1, 0, b.updateUsage(k, cache.Ref{ID: id}, 41, after))
				require.Equal(b, 41.0, b.readState(k).Entitlements[1].Usage.Current)
				require.NoError(b, b.store.Purge(b.Context(), k))
				b.requireFaults(cache.ValueAbsent, b.read(k, calls).Faults)
				b.requireHit(k.Customer(), calls)
			}
		}},
		{"by default keys live for seven days", func(b *bed) {
			b.requireTTL(7*24*time.Hour, cache.Options{})
		}},
		{"keys live as long as they should", func(b *bed) {
			b.requireTTL(90*time.Second, cache.Options{TTL: 90 * time.Second})
		}},
		{"with a negative TTL keys do not expire", func(b *bed) {
			b.requireTTL(-1, cache.Options{TTL: -1})
		}},
		{"a write renews the time to live, or its absence", func(b *bed) {
			b.requireTTL(-1, cache.Options{TTL: -time.Hour})
			b.requireTTL(time.Hour, cache.Options{TTL: time.Hour})
			b.requireTTL(-1, cache.Options{TTL: -time.Hour})
		}},
		{"an older customer does not overwrite a newer one", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			value := b.get(b.value(customer))
			older := changedAt(before, stateOf(metered(calls.ID, 1)))
			older.Records[0].Usage.UpdatedAt = at(after)
			r := b.write(customer, older, cache.WriteOptions{})
			b.requireApplied(1, 2, r)
			require.Equal(b, changed, r.ValueTime)
			b.requireKey(value, b.value(customer))
			b.requireKey(stamp(changed), b.valueTime(customer))
			b.requireKey(stamp(changed), b.metadataTime(customer))
			// Its usage is newer, and counts.
			require.Equal(b, 1.0, b.requireHit(customer, calls).Facts.Usage.Current)
			b.requireKey(stamp(after), b.usageTime(customer, calls))
		}},
		{"a newer customer does not take a usage back", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			newer := changedAt(after, stateOf(metered(calls.ID, 1)))
			newer.Records[0].Usage.UpdatedAt = at(before)
			r := b.write(customer, newer, cache.WriteOptions{})
			b.requireApplied(2, 1, r)
			require.Equal(b, after, r.ValueTime)
			require.Equal(b, 40.0, b.requireHit(customer, calls).Facts.Usage.Current)
			b.requireKey(stamp(usageMoved), b.usageTime(customer, calls))
		}},
		{"of equal times the later write counts", func(b *bed) {
			b.write(customer, stateOf(metered(calls.ID, 1)), cache.WriteOptions{})
			r := b.write(customer, stateOf(metered(calls.ID, 2), boolean(onOff.ID)), cache.WriteOptions{})
			b.requireApplied(3, 0, r)
			require.Equal(b, changed, r.ValueTime)
			require.Equal(b, 2.0, b.requireHit(customer, calls).Facts.Usage.Current)
			b.requireHit(customer, onOff)
		}},
		{"an empty list comes from the far past and always counts", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			r := b.write(customer, entitlements.State{AccessDeniedReason: entitlements.CustomerIsArchived}, cache.WriteOptions{})
			b.requireApplied(2, 0, r)
			require.Zero(b, r.ValueTime)
			b.requireKey(`{}`, b.value(customer))
			b.requireKey("0", b.valueTime(customer))
			b.requireKey(`{"accessDeniedReason":"CustomerIsArchived"}`, b.metadata(customer))
			b.requireKey("0", b.metadataTime(customer))
			b.get(b.usage(customer, calls))
			// Anything that has a time counts over it.
			b.write(customer, changedAt(before, stateOf(metered(calls.ID, 1))), cache.WriteOptions{})
			b.requireKey(stamp(before), b.valueTime(customer))
			require.Equal(b, 40.0, b.requireHit(customer, calls).Facts.Usage.Current)
		}},
		{"only what is cached is updated", func(b *bed) {
			o := cache.WriteOptions{Policy: cache.UpdateIfExists}
			r := b.write(customer, sample(), o)
			b.requireApplied(0, 0, r)
			require.Equal(b, cache.NoTimestamp, r.ValueTime)
			require.Empty(b, b.keys(b.Context()))
			// One timestamp of those that would be written is enough.
			for _, name := range []string{b.valueTime(customer), b.metadataTime(customer), b.usageTime(customer, wallet)} {
				b.set(name, stamp(before))
				b.requireApplied(4, 0, b.write(customer, sample(), o))
				require.NoError(b, b.store.Purge(b.Context(), customer))
				for _, ref := range []cache.Ref{calls, wallet} {
					b.delete(b.usage(customer, ref))
					b.delete(b.usageTime(customer, ref))
				}
			}
			b.set(b.value(customer), `{}`)
			b.requireApplied(0, 0, b.write(customer, sample(), o))
		}},
		{"no usage came: no usage is written", func(b *bed) {
			state := sample()
			for i := range state.Records {
				state.Records[i].HasUsage = false
			}
			b.requireApplied(2, 0, b.write(customer, state, cache.WriteOptions{}))
			require.Len(b, b.keys(b.Context()), 4)
			require.NotContains(b, b.get(b.value(customer)), "usageData")
			b.requireFaults(cache.UsageAbsent, b.read(customer, calls).Faults)
		}},
		{"what is not counted has no usage key", func(b *bed) {
			r := boolean(onOff.ID)
			r.HasUsage, r.Usage.UpdatedAt = true, at(usageMoved)
			b.requireApplied(2, 0, b.write(customer, stateOf(r), cache.WriteOptions{}))
			b.requireNoKey(b.usage(customer, onOff))
			b.requireHit(customer, onOff)
		}},
		{"a usage with its period", func(b *bed) {
			state := stateOf(metered(calls.ID, 7.25))
			state.Records[0].Usage.PeriodStart = at(1)
			state.Records[0].Usage.PeriodEnd = at(4085193600000)
			b.write(customer, state, cache.WriteOptions{})
			b.requireKey(`{"currentUsage":7.25,"usagePeriodStart":1,"usagePeriodEnd":4085193600000}`, b.usage(customer, calls))
			require.Equal(b, state.Records[0].Usage, b.requireHit(customer, calls).Facts.Usage)
		}},
		{"a stored timestamp that is no number counts as absent", func(b *bed) {
			for _, text := range notTimestamps() {
				b.write(customer, sample(), cache.WriteOptions{})
				for _, name := range []string{b.valueTime(customer), b.metadataTime(customer), b.usageTime(customer, calls), b.usageTime(customer, wallet)} {
					b.set(name, text)
				}
				r := b.write(customer, changedAt(before, sample()), cache.WriteOptions{})
				require.Equal(b, 4, r.Applied, "%q", text)
				require.Equal(b, before, r.ValueTime, "%q", text)
				b.requireHit(customer, calls)
			}
		}},
		{"a context that is over is an error", func(b *bed) {
			ctx, cancel := context.WithCancel(b.Context())
			cancel()
			_, err := b.store.WriteState(ctx, customer, sample(), cache.WriteOptions{})
			require.Error(b, err)
			require.Empty(b, b.keys(b.Context()))
		}},
	}
}

// sampleKeys are the keys that a write of the sample leaves.
func (b *bed) sampleKeys(k cache.Key) map[string]string {
	return map[string]string{
		b.value(k): `{
			"on-off": {"calculatedEntitlement":{"type":"FEATURE",
				"feature":{"id":"on-off","displayName":"on-off name","featureType":"BOOLEAN","meterType":"None","units":"","unitsPlural":""},
				"usageLimit":null,"hasUnlimitedUsage":false,"hasSoftLimit":false,"enumValues":[]}},
			"calls": {"calculatedEntitlement":{"type":"FEATURE",
				"feature":{"id":"calls","displayName":"calls name","featureType":"NUMBER","meterType":"Incremental","units":"call","unitsPlural":"calls"},
				"usageLimit":100,"hasUnlimitedUsage":false,"hasSoftLimit":false,"enumValues":[]},
				"usageData":{"currentUsage":40,"usagePeriodStart":null,"usagePeriodEnd":null,"usageUpdatedAt":1780399800000}},
			"credit_tokens": {"calculatedEntitlement":{"type":"CREDIT",
				"currency":{"currencyId":"tokens","displayName":"tokens name","description":null,"unitSingular":null,"unitPlural":null,"additionalMetaData":null},
				"usageLimit":1000,"hasSoftLimit":false},
				"usageData":{"currentUsage":100,"usagePeriodStart":null,"usagePeriodEnd":null,"usageUpdatedAt":1780399800000}}}`,
		b.valueTime(k):         "1780308000000",
		b.metadata(k):          `{"accessDeniedReason":null}`,
		b.metadataTime(k):      "1780308000000",
		b.usage(k, calls):      `{"currentUsage":40,"usagePeriodStart":null,"usagePeriodEnd":null}`,
		b.usageTime(k, calls):  "1780399800000",
		b.usage(k, wallet):     `{"currentUsage":100,"usagePeriodStart":null,"usagePeriodEnd":null}`,
		b.usageTime(k, wallet): "1780399800000",
	}
}

// requireTTL writes a customer and a usage and checks how long every key lives;
// -1 means for ever.
func (b *bed) requireTTL(want time.Duration, o cache.Options) {
	b.Helper()
	b.store = b.newStore(o)
	b.write(customer, sample(), cache.WriteOptions{})
	b.updateUsage(customer, wallet, 111, after)
	keys := b.keys(b.Context())
	require.Len(b, keys, len(b.sampleKeys(customer)))
	for _, key := range keys {
		ttl, err := b.client.PTTL(b.Context(), key).Result()
		require.NoError(b, err)
		if want < 0 {
			require.Equal(b, want, ttl, key)
		} else {
			require.InDelta(b, want.Seconds(), ttl.Seconds(), 10, key)
		}
	}
}

// timeCases are the rules for the times of what is written.
func timeCases() []testCase {
	none := time.Time{}
	return []testCase{
		{"the first entitlement that has a time gives the customer's", func(b *bed) {
			state := stateOf(boolean("a"), boolean("b"), boolean("c"))
			state.Records[0].Definition.UpdatedAt = none
			state.Records[2].Definition.UpdatedAt = at(after)
			r := b.write(customer, state, cache.WriteOptions{})
			require.Equal(b, changed, r.ValueTime)
			b.requireKey(stamp(changed), b.valueTime(customer))
			b.requireKey(stamp(changed), b.metadataTime(customer))
		}},
		{"without any the time is when the fetch began", func(b *bed) {
			state := stateOf(boolean("a"))
			state.Records[0].Definition.UpdatedAt = none
			require.Equal(b, fetchBegan, b.write(customer, state, cache.WriteOptions{FetchBegan: at(fetchBegan)}).ValueTime)
			b.requireKey(stamp(fetchBegan), b.valueTime(customer))
		}},
		{"without even that it is now", func(b *bed) {
			state := stateOf(boolean("a"))
			state.Records[0].Definition.UpdatedAt = none
			began := time.Now().UnixMilli()
			r, err := b.store.WriteState(b.Context(), customer, state, cache.WriteOptions{})
			require.NoError(b, err)
			require.GreaterOrEqual(b, r.ValueTime, began)
			require.LessOrEqual(b, r.ValueTime, time.Now().UnixMilli())
			b.requireKey(stamp(r.ValueTime), b.valueTime(customer))
		}},
		{"a usage without a time has its entitlement's", func(b *bed) {
			state := stateOf(boolean("a"), metered(calls.ID, 1))
			state.Records[0].Definition.UpdatedAt = at(before)
			state.Records[1].Usage.UpdatedAt = none
			b.write(customer, state, cache.WriteOptions{})
			b.requireKey(stamp(before), b.valueTime(customer))
			b.requireKey(stamp(changed), b.usageTime(customer, calls))
		}},
		{"else the customer's", func(b *bed) {
			state := stateOf(metered(calls.ID, 1), boolean("a"))
			state.Records[0].Usage.UpdatedAt, state.Records[0].Definition.UpdatedAt = none, none
			b.write(customer, state, cache.WriteOptions{})
			b.requireKey(stamp(changed), b.valueTime(customer))
			b.requireKey(stamp(changed), b.usageTime(customer, calls))
		}},
		{"else that of the fetch", func(b *bed) {
			state := stateOf(metered(calls.ID, 1))
			state.Records[0].Usage.UpdatedAt, state.Records[0].Definition.UpdatedAt = none, none
			b.write(customer, state, cache.WriteOptions{FetchBegan: at(fetchBegan)})
			b.requireKey(stamp(fetchBegan), b.usageTime(customer, calls))
			b.requireHit(customer, calls)
		}},
	}
}

func stamp(ms int64) string { return strconv.FormatInt(ms, 10) }
