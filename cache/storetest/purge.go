package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
)

// purgeCases are the rules for deleting what is cached of a customer.
func purgeCases() []testCase {
	return []testCase{
		{"the value and its metadata go, usages stay", func(b *bed) {
			for _, k := range []cache.Key{customer, resource} {
				b.write(k, sample(), cache.WriteOptions{})
				require.NoError(b, b.store.Purge(b.Context(), k))
				b.requireFaults(cache.ValueAbsent, b.read(k, calls).Faults&^cache.GlobalAbsent)
				for _, name := range []string{b.value(k), b.valueTime(k), b.metadata(k), b.metadataTime(k)} {
					b.requireNoKey(name)
				}
				for _, ref := range []cache.Ref{calls, wallet} {
					b.get(b.usage(k, ref))
					b.get(b.usageTime(k, ref))
				}
			}
		}},
		{"nobody else is touched", func(b *bed) {
			others := []cache.Key{resource, {CustomerID: "cust-2"}, {CustomerID: "cust-1", ResourceID: "res-2"}}
			for _, k := range append(others, customer) {
				b.write(k, sample(), cache.WriteOptions{})
			}
			require.NoError(b, b.store.Purge(b.Context(), customer))
			for _, k := range others {
				b.requireFaults(0, b.read(k, calls).Faults&^cache.GlobalAbsent)
			}
		}},
		{"many at once", func(b *bed) {
			keys := []cache.Key{customer, resource, {CustomerID: "cust-2"}, {CustomerID: "never cached"}}
			for _, k := range keys[:3] {
				b.write(k, stateOf(boolean(onOff.ID)), cache.WriteOptions{})
			}
			require.NoError(b, b.store.Purge(b.Context(), keys...))
			require.Empty(b, b.keys(b.Context()))
			require.NoError(b, b.store.Purge(b.Context()))
		}},
		{"what was purged can be written again", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			require.NoError(b, b.store.Purge(b.Context(), customer))
			b.requireApplied(2, 2, b.write(customer, changedAt(before, sample()), cache.WriteOptions{}))
			require.Equal(b, 40.0, b.requireHit(customer, calls).Facts.Usage.Current)
		}},
	}
}
