package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// healCases are the rules for overwriting what is missing or unreadable under
// a timestamp that is newer than what a refetch brings.
func healCases() []testCase {
	older := changedAt(before, sample())
	heal := func(damaged []cache.Damaged) cache.WriteOptions {
		return cache.WriteOptions{Heal: true, Damaged: damaged}
	}
	return []testCase{
		{"an absent value is written", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.value(customer))
			b.requireApplied(0, 4, b.write(customer, older, cache.WriteOptions{}))
			b.requireNoKey(b.value(customer))

			r := b.write(customer, older, heal(b.read(customer, calls).Damaged))
			b.requireApplied(1, 3, r)
			require.Equal(b, before, r.ValueTime)
			b.requireKey(stamp(before), b.valueTime(customer))
			b.requireKey(stamp(changed), b.metadataTime(customer))
			b.requireHit(customer, calls)
			require.Equal(b, 0, len(b.readState(customer).Damaged))
		}},
		{"an unreadable value is written over", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			good := b.get(b.value(customer))
			for _, text := range append(unreadableValues(good), `{"calls":`+unreadableEntries()[0]+`}`) {
				b.set(b.value(customer), text)
				b.set(b.valueTime(customer), stamp(after))
				b.requireApplied(0, 4, b.write(customer, older, cache.WriteOptions{}))
				b.requireApplied(1, 3, b.write(customer, older, heal(b.read(customer, calls).Damaged)))
				b.requireHit(customer, calls)
				b.requireKey(stamp(before), b.valueTime(customer))
			}
		}},
		{"what a read of everything found is written over", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.set(b.value(customer), `{"calls":`+unreadableEntries()[0]+`}`)
			b.requireApplied(1, 3, b.write(customer, older, heal(b.readState(customer).Damaged)))
			b.requireFaults(0, b.readState(customer).Faults)
		}},
		{"a value that was written meanwhile stays", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			good := b.get(b.value(customer))
			b.set(b.value(customer), `[]`)
			damaged := b.read(customer, calls).Damaged
			b.set(b.value(customer), good)
			b.requireApplied(0, 4, b.write(customer, older, heal(damaged)))
			b.requireKey(good, b.value(customer))
			b.requireKey(stamp(changed), b.valueTime(customer))
			// So does one that is damaged in another way: nobody has seen it.
			b.set(b.value(customer), `[ ]`)
			b.requireApplied(0, 4, b.write(customer, older, heal(damaged)))
			b.requireKey(`[ ]`, b.value(customer))
		}},
		{"a value of another type is written over", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.wrongType(b.value(customer))
			b.requireApplied(1, 3, b.write(customer, older, heal(b.read(customer, calls).Damaged)))
			b.requireHit(customer, calls)
		}},
		{"an absent or unreadable usage is written", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.updateUsage(customer, calls, 41, after)
			const absent = "absent"
			for _, text := range append(unreadableUsages(), absent) {
				b.set(b.usage(customer, wallet), text)
				if text == absent {
					b.delete(b.usage(customer, wallet))
				}
				b.set(b.usageTime(customer, wallet), stamp(after))
				b.requireApplied(1, 3, b.write(customer, older, heal(b.read(customer, wallet).Damaged)))
				require.Equal(b, 100.0, b.requireHit(customer, wallet).Facts.Usage.Current)
				b.requireKey(stamp(before), b.usageTime(customer, wallet))
			}
			require.Equal(b, 41.0, b.requireHit(customer, calls).Facts.Usage.Current, "what is whole is not healed")
		}},
		{"unreadable metadata is written over", func(b *bed) {
			b.write(customer, entitlements.State{}, cache.WriteOptions{})
			for _, name := range []string{b.valueTime(customer), b.metadataTime(customer)} {
				b.set(name, stamp(after))
			}
			b.set(b.metadata(customer), `[]`)
			state := changedAt(before, stateOf(boolean(onOff.ID)))
			b.requireApplied(0, 2, b.write(customer, state, cache.WriteOptions{}))
			b.requireApplied(1, 1, b.write(customer, state, heal(b.read(customer, calls).Damaged)))
			b.requireKey(`{"accessDeniedReason":null}`, b.metadata(customer))
			b.requireKey(`{}`, b.value(customer))
			b.requireFaults(0, b.read(customer, calls).Faults)
		}},
		{"with an absent timestamp there is nothing to heal", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.valueTime(customer))
			b.requireApplied(1, 3, b.write(customer, older, cache.WriteOptions{}))
			b.requireHit(customer, calls)
		}},
	}
}
