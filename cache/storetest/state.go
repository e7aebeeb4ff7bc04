package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// stateCases are the rules for reading all of a customer's entitlements.
func stateCases() []testCase {
	return []testCase{
		{"a cold read is a miss", func(b *bed) {
			r := b.readState(customer)
			b.requireFaults(cache.ValueAbsent, r.Faults)
			require.Empty(b, r.Entitlements)
		}},
		{"all entitlements with their usage, in the value's order", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.updateUsage(customer, wallet, 111, after)
			r := b.readState(customer)
			b.requireFaults(0, r.Faults)
			require.Equal(b, changed, r.Times.Value)
			require.Empty(b, r.Damaged)
			require.Len(b, r.Entitlements, 3)
			for i, want := range []struct {
				ref      cache.Ref
				usage    entitlements.Usage
				dataTime int64
			}{
				{onOff, entitlements.Usage{}, changed},
				{calls, entitlements.Usage{Current: 40, UpdatedAt: at(usageMoved)}, usageMoved},
				{wallet, entitlements.Usage{Current: 111, UpdatedAt: at(after)}, after},
			} {
				got := r.Entitlements[i]
				require.Equal(b, want.ref, cache.RefOf(got.Definition))
				require.Equal(b, want.usage, got.Usage)
				require.Equal(b, want.dataTime, got.DataTime)
				b.requireFaults(0, got.Faults)
			}
		}},
		{"a fault is told of the entitlement that has it", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.usageTime(customer, calls))
			b.set(b.usage(customer, wallet), `[]`)
			r := b.readState(customer)
			b.requireFaults(cache.UsageAbsent|cache.UsageUnreadable, r.Faults)
			require.True(b, r.Faults.Usable())
			require.Len(b, r.Entitlements, 3)
			b.requireFaults(0, r.Entitlements[0].Faults)
			b.requireFaults(cache.UsageAbsent, r.Entitlements[1].Faults)
			b.requireFaults(cache.UsageUnreadable, r.Entitlements[2].Faults)
			require.Len(b, r.Damaged, 1)
			require.Equal(b, b.usage(customer, wallet), r.Damaged[0].Key)
		}},
		{"no entitlements, with and without a reason", func(b *bed) {
			b.write(customer, entitlements.State{AccessDeniedReason: entitlements.CustomerNotFound}, cache.WriteOptions{})
			r := b.readState(customer)
			b.requireFaults(0, r.Faults)
			require.Empty(b, r.Entitlements)
			require.Equal(b, entitlements.CustomerNotFound, r.DeniedReason)
			b.set(b.metadata(customer), `{}`)
			r = b.readState(customer)
			b.requireFaults(0, r.Faults)
			require.Empty(b, r.DeniedReason)
		}},
		{"no timestamp", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.valueTime(customer))
			r := b.readState(customer)
			b.requireFaults(cache.TimestampAbsent, r.Faults)
			require.Len(b, r.Entitlements, 3)
		}},
	}
}
