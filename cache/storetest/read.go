package storetest

import (
	"context"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// readCases are the rules of a hit for one entitlement of a customer.
func readCases() []testCase {
	return []testCase{
		{"a cold read is a miss", func(b *bed) {
			r := b.read(customer, calls)
			b.requireFaults(cache.ValueAbsent, r.Faults)
			require.False(b, r.Faults.Usable())
			require.Nil(b, r.Facts.Definition)
			require.Equal(b, cache.Times{Value: cache.NoTimestamp, Global: cache.NoTimestamp}, r.Times)
			require.Empty(b, r.Damaged)
		}},
		{"a boolean needs no usage", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, withUsage := range []bool{false, true} {
				var r cache.Reading
				require.NoError(b, b.store.Read(b.Context(), customer, onOff, withUsage, &r))
				b.requireFaults(0, r.Faults)
				require.Equal(b, "on-off name", r.Facts.Definition.Feature.DisplayName)
				require.Equal(b, entitlements.SourceRedis, r.Facts.Source)
				require.Equal(b, at(changed), r.Facts.DataTime)
				require.Equal(b, changed, r.Times.Value)
			}
		}},
		{"the usage key counts, not the snapshot", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.set(b.usage(customer, calls), `{"currentUsage":41.5,"usagePeriodStart":1,"usagePeriodEnd":4085193600000}`)
			b.set(b.usageTime(customer, calls), "1780444800000")
			r := b.requireHit(customer, calls)
			require.Equal(b, entitlements.Usage{Current: 41.5, PeriodStart: at(1), PeriodEnd: at(4085193600000), UpdatedAt: at(after)}, r.Facts.Usage)
			require.Equal(b, at(after), r.Facts.DataTime)
		}},
		{"what the usage key leaves open is as in the snapshot", func(b *bed) {
			state := stateOf(metered(calls.ID, 40))
			state.Records[0].Usage.PeriodEnd = at(4085193600000)
			b.write(customer, state, cache.WriteOptions{})
			b.set(b.usage(customer, calls), `{"currentUsage":41}`)
			r := b.requireHit(customer, calls)
			require.Equal(b, 41.0, r.Facts.Usage.Current)
			require.Equal(b, at(4085193600000), r.Facts.Usage.PeriodEnd)
		}},
		{"a usage or its timestamp is missing", func(b *bed) {
			for _, ref := range []cache.Ref{calls, wallet} {
				for _, missing := range []string{b.usage(customer, ref), b.usageTime(customer, ref)} {
					b.write(customer, sample(), cache.WriteOptions{})
					b.requireHit(customer, ref)
					b.delete(missing)
					r := b.read(customer, ref)
					b.requireFaults(cache.UsageAbsent, r.Faults)
					require.True(b, r.Faults.Usable())
					require.NotNil(b, r.Facts.Definition)
				}
			}
		}},
		{"a usage that is not asked for is not missed", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.usage(customer, calls))
			var r cache.Reading
			require.NoError(b, b.store.Read(b.Context(), customer, calls, false, &r))
			b.requireFaults(0, r.Faults)
		}},
		{"a timestamp is missing or no number", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.valueTime(customer))
			b.requireFaults(cache.TimestampAbsent, b.read(customer, onOff).Faults)
			for _, text := range notTimestamps() {
				b.set(b.valueTime(customer), text)
				r := b.read(customer, onOff)
				b.requireFaults(cache.TimestampAbsent, r.Faults)
				require.Equal(b, cache.NoTimestamp, r.Times.Value, "%q", text)
			}
			b.set(b.valueTime(customer), "0")
			b.requireFaults(0, b.read(customer, onOff).Faults)
			for _, text := range notTimestamps() {
				b.set(b.usageTime(customer, calls), text)
				b.requireFaults(cache.UsageAbsent, b.read(customer, calls).Faults)
			}
		}},
		{"an entitlement that the customer does not have is a hit", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, ref := range []cache.Ref{{ID: "other"}, {IsCredit: true, ID: calls.ID}, {ID: wallet.ID}} {
				r := b.read(customer, ref)
				b.requireFaults(0, r.Faults)
				require.Nil(b, r.Facts.Definition, ref)
				require.False(b, r.Facts.NoEntitlements)
			}
		}},
		{"a customer without entitlements is a hit with the reason", func(b *bed) {
			b.write(customer, entitlements.State{AccessDeniedReason: entitlements.NoActiveSubscription}, cache.WriteOptions{})
			r := b.read(customer, calls)
			b.requireFaults(0, r.Faults)
			require.True(b, r.Facts.NoEntitlements)
			require.Equal(b, entitlements.NoActiveSubscription, r.Facts.StateDeniedReason)

			for _, metadata := range []string{`{}`, `{"accessDeniedReason":null}`} {
				b.set(b.metadata(customer), metadata)
				r = b.read(customer, calls)
				b.requireFaults(0, r.Faults)
				require.True(b, r.Facts.NoEntitlements)
				require.Empty(b, r.Facts.StateDeniedReason)
			}
			b.delete(b.metadata(customer))
			b.requireFaults(0, b.read(customer, calls).Faults)
		}},
		{"entries are known by their content", func(b *bed) {
			b.set(b.value(customer), `{
				"calls":  {"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"on-off","featureType":"BOOLEAN"}}},
				"x":      {"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"calls","featureType":"BOOLEAN","displayName":"the calls"}},"unknown":[1,{"a":null}]},
				"tokens": {"calculatedEntitlement":{"type":"TIME_MACHINE","feature":{"id":"machine"}}},
				"empty":  {"calculatedEntitlement":{}},
				"none":   {}}`)
			b.set(b.valueTime(customer), "1780308000000")
			require.Equal(b, "the calls", b.requireHit(customer, calls).Facts.Definition.Feature.DisplayName)
			b.requireHit(customer, onOff)
			require.Nil(b, b.read(customer, cache.Ref{ID: "machine"}).Facts.Definition)
			require.Len(b, b.readState(customer).Entitlements, 2)
		}},
		{"older formats", func(b *bed) {
			b.set(b.value(customer), `{"calls":{
				"calculatedEntitlement":{"feature":{"id":"calls","featureType":"NUMBER","meterType":"Fluctuating"},"usageLimit":7},
				"featureUsage":{"currentUsage":1,"resetPeriod":"MONTH","usagePeriodAnchor":1700000000000,"nextResetDate":1780500000000}}}`)
			b.set(b.valueTime(customer), "1780308000000")
			b.set(b.usage(customer, calls), `{"currentUsage":3,"nextResetDate":1790000000000}`)
			b.set(b.usageTime(customer, calls), "1780399800000")
			f := b.requireHit(customer, calls).Facts
			require.Equal(b, "calls", f.Definition.Feature.DisplayName)
			require.Equal(b, entitlements.ResetMonth, f.Definition.ResetPeriod)
			require.Equal(b, at(1700000000000), f.Definition.UsagePeriodAnchor)
			require.Equal(b, entitlements.Usage{Current: 3, PeriodEnd: at(1790000000000), UpdatedAt: at(usageMoved)}, f.Usage)
		}},
		{"a changed value is noticed", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.requireHit(customer, onOff)
			text := b.get(b.value(customer))
			b.set(b.value(customer), text[:len(text)-1]+`,"more":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"more"}}}}`)
			b.requireHit(customer, cache.Ref{ID: "more"})
			b.set(b.value(customer), `{}`)
			require.True(b, b.read(customer, onOff).Facts.NoEntitlements)
		}},
		{"the timestamps alone", func(b *bed) {
			requireTimes := func(k cache.Key, value, global int64) {
				b.Helper()
				times, err := b.store.ReadTimes(b.Context(), k)
				require.NoError(b, err)
				require.Equal(b, cache.Times{Value: value, Global: global}, times)
			}
			requireTimes(resource, cache.NoTimestamp, cache.NoTimestamp)
			b.write(customer, changedAt(before, sample()), cache.WriteOptions{})
			requireTimes(customer, before, cache.NoTimestamp)
			requireTimes(resource, cache.NoTimestamp, before)
			b.write(resource, sample(), cache.WriteOptions{})
			requireTimes(resource, changed, before)
			b.set(b.valueTime(resource), "soon")
			requireTimes(resource, cache.NoTimestamp, before)
		}},
		{"a context that is over is an error", func(b *bed) {
			ctx, cancel := context.WithCancel(b.Context())
			cancel()
			var r cache.Reading
			require.ErrorIs(b, b.store.Read(ctx, customer, calls, true, &r), context.Canceled)
			_, err := b.store.ReadState(ctx, customer)
			require.ErrorIs(b, err, context.Canceled)
		}},
	}
}

// resourceCases are the rules that tie a resource to its global customer.
func resourceCases() []testCase {
	return []testCase{
		{"nothing is cached", func(b *bed) {
			b.requireFaults(cache.ValueAbsent|cache.GlobalAbsent, b.read(resource, calls).Faults)
			b.requireFaults(cache.ValueAbsent|cache.GlobalAbsent, b.readState(resource).Faults)
		}},
		{"only the customer is cached", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			r := b.read(resource, calls)
			b.requireFaults(cache.ValueAbsent, r.Faults)
			require.Equal(b, cache.Times{Value: cache.NoTimestamp, Global: changed}, r.Times)
		}},
		{"the customer is missing", func(b *bed) {
			b.write(resource, sample(), cache.WriteOptions{})
			r := b.read(resource, calls)
			b.requireFaults(cache.GlobalAbsent, r.Faults)
			require.True(b, r.Faults.Usable())
			require.NotNil(b, r.Facts.Definition)
			for _, text := range notTimestamps() {
				b.set(b.valueTime(customer), text)
				b.requireFaults(cache.GlobalAbsent, b.read(resource, calls).Faults)
				b.requireFaults(cache.GlobalAbsent, b.readState(resource).Faults)
			}
		}},
		{"the customer is older, as old, newer", func(b *bed) {
			b.write(resource, sample(), cache.WriteOptions{})
			for global, want := range map[int64]cache.Faults{0: 0, before: 0, changed: 0, changed + 1: cache.GlobalNewer, after: cache.GlobalNewer} {
				b.client.Set(b.Context(), b.valueTime(customer), global, 0)
				r := b.read(resource, calls)
				b.requireFaults(want, r.Faults)
				require.Equal(b, cache.Times{Value: changed, Global: global}, r.Times)
				require.NotNil(b, r.Facts.Definition)
				state := b.readState(resource)
				b.requireFaults(want, state.Faults)
				require.Equal(b, r.Times, state.Times)
			}
		}},
		{"a resource has entitlements and usage of its own", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.write(resource, stateOf(metered(calls.ID, 7)), cache.WriteOptions{})
			require.Equal(b, 7.0, b.requireHit(resource, calls).Facts.Usage.Current)
			require.Equal(b, 40.0, b.requireHit(customer, calls).Facts.Usage.Current)
			require.Nil(b, b.read(resource, onOff).Facts.Definition)
		}},
	}
}

// walletCases are the rules for a feature that draws on a wallet.
func walletCases() []testCase {
	feature := cache.Ref{ID: "ai"}
	state := stateOf(backed(metered(feature.ID, 10), wallet.ID), credit(wallet.ID, 100))
	// Whether it is known from the value which wallet to ask for or not.
	twice := func(b *bed, check func()) {
		b.store = b.newStore(cache.Options{})
		check()
		check()
	}
	return []testCase{
		{"the wallet comes with the feature", func(b *bed) {
			b.write(customer, state, cache.WriteOptions{})
			b.updateUsage(customer, wallet, 111, after)
			twice(b, func() {
				f := b.requireHit(customer, feature).Facts
				require.Equal(b, 10.0, f.Usage.Current)
				require.Equal(b, wallet.ID, f.Wallet.Currency.ID)
				require.Equal(b, entitlements.Usage{Current: 111, UpdatedAt: at(after)}, f.WalletUsage)
				require.Equal(b, at(after), f.DataTime)
			})
		}},
		{"the wallet's usage or its timestamp is missing", func(b *bed) {
			for _, missing := range []string{b.usage(customer, wallet), b.usageTime(customer, wallet)} {
				b.write(customer, state, cache.WriteOptions{})
				b.delete(missing)
				twice(b, func() {
					r := b.read(customer, feature)
					b.requireFaults(cache.WalletUsageAbsent, r.Faults)
					require.True(b, r.Faults.Usable())
				})
			}
		}},
		{"the wallet's usage is unreadable", func(b *bed) {
			b.write(customer, state, cache.WriteOptions{})
			b.set(b.usage(customer, wallet), `{"currentUsage":`)
			twice(b, func() {
				r := b.read(customer, feature)
				b.requireFaults(cache.WalletUsageUnreadable, r.Faults)
				require.Len(b, r.Damaged, 1)
				require.Equal(b, b.usage(customer, wallet), r.Damaged[0].Key)
			})
		}},
		{"the customer does not have the wallet", func(b *bed) {
			b.write(customer, stateOf(state.Records[0]), cache.WriteOptions{})
			twice(b, func() { require.Nil(b, b.requireHit(customer, feature).Facts.Wallet) })
		}},
		{"the feature moves to another wallet", func(b *bed) {
			b.write(customer, state, cache.WriteOptions{})
			b.requireHit(customer, feature)
			b.write(customer, stateOf(backed(metered(feature.ID, 10), "gold"), credit(wallet.ID, 100), credit("gold", 3)), cache.WriteOptions{})
			f := b.requireHit(customer, feature).Facts
			require.Equal(b, "gold", f.Wallet.Currency.ID)
			require.Equal(b, 3.0, f.WalletUsage.Current)
		}},
		{"of a resource", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.write(resource, state, cache.WriteOptions{})
			b.updateUsage(resource, wallet, 5, after)
			twice(b, func() { require.Equal(b, 5.0, b.requireHit(resource, feature).Facts.WalletUsage.Current) })
		}},
	}
}
