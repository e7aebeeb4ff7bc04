package storetest

import (
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// usageCases are the rules for writing one usage.
func usageCases() []testCase {
	return []testCase{
		{"a customer that is not cached is left alone", func(b *bed) {
			b.requireApplied(0, 0, b.updateUsage(customer, calls, 1, after))
			require.Empty(b, b.keys(b.Context()))
			// A resource is not cached because its customer is.
			b.write(customer, sample(), cache.WriteOptions{})
			b.requireApplied(0, 0, b.updateUsage(resource, calls, 1, after))
			b.requireNoKey(b.usage(resource, calls))
			b.requireNoKey(b.usageTime(resource, calls))
		}},
		{"a newer usage counts", func(b *bed) {
			for _, k := range []cache.Key{customer, resource} {
				b.write(k, sample(), cache.WriteOptions{})
				for _, ref := range []cache.Ref{calls, wallet} {
					b.requireApplied(1, 0, b.updateUsage(k, ref, 111, after))
					b.requireKey(`{"currentUsage":111,"usagePeriodStart":null,"usagePeriodEnd":null}`, b.usage(k, ref))
					b.requireKey(stamp(after), b.usageTime(k, ref))
				}
				b.requireKey(stamp(changed), b.valueTime(k))
			}
			require.Equal(b, entitlements.Usage{Current: 111, UpdatedAt: at(after)}, b.requireHit(customer, calls).Facts.Usage)
		}},
		{"with its period", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			usage := entitlements.Usage{Current: 0.5, PeriodStart: at(changed), PeriodEnd: at(after)}
			_, err := b.store.UpdateUsage(b.Context(), customer, calls, usage, at(after))
			require.NoError(b, err)
			b.requireKey(`{"currentUsage":0.5,"usagePeriodStart":1780308000000,"usagePeriodEnd":1780444800000}`, b.usage(customer, calls))
		}},
		{"an older usage is skipped", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.requireApplied(0, 1, b.updateUsage(customer, wallet, 99, usageMoved-1))
			require.Equal(b, 100.0, b.requireHit(customer, wallet).Facts.Usage.Current)
			b.requireKey(stamp(usageMoved), b.usageTime(customer, wallet))
		}},
		{"of equal times the later write counts", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.requireApplied(1, 0, b.updateUsage(customer, wallet, 99, usageMoved))
			require.Equal(b, 99.0, b.requireHit(customer, wallet).Facts.Usage.Current)
		}},
		{"an entitlement without usage gets one", func(b *bed) {
			state := stateOf(metered(calls.ID, 0))
			state.Records[0].HasUsage = false
			b.write(customer, state, cache.WriteOptions{})
			b.requireApplied(1, 0, b.updateUsage(customer, calls, 1, before))
			require.Equal(b, 1.0, b.requireHit(customer, calls).Facts.Usage.Current)
		}},
		{"a stored timestamp that is no number counts as absent", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, text := range notTimestamps() {
				b.set(b.usageTime(customer, calls), text)
				require.Equal(b, 1, b.updateUsage(customer, calls, 1, before).Applied, "%q", text)
			}
		}},
		{"a usage without a time is refused", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.delete(b.usageTime(customer, calls))
			_, err := b.store.UpdateUsage(b.Context(), customer, calls, entitlements.Usage{Current: 1}, time.Time{})
			require.Error(b, err)
			b.requireNoKey(b.usageTime(customer, calls))
		}},
		{"no time is the far past", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			for _, ms := range []int64{0, -1, 1} {
				b.requireApplied(0, 1, b.updateUsage(customer, calls, 1, ms))
			}
			b.delete(b.usageTime(customer, calls))
			b.requireApplied(1, 0, b.updateUsage(customer, calls, 1, -1))
			b.requireHit(customer, calls)
		}},
		{"several in one step", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			r, err := b.store.UpdateUsages(b.Context(), customer, []cache.UsageUpdate{
				{Ref: calls, Usage: entitlements.Usage{Current: 41}, At: at(before)},
				{Ref: wallet, Usage: entitlements.Usage{Current: 112}, At: at(after + 1)},
				{Ref: wallet, Usage: entitlements.Usage{Current: 111}, At: at(after)},
			})
			require.NoError(b, err)
			b.requireApplied(1, 1, r)
			require.Equal(b, 40.0, b.requireHit(customer, calls).Facts.Usage.Current)
			require.Equal(b, 112.0, b.requireHit(customer, wallet).Facts.Usage.Current)
		}},
		{"none", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			r, err := b.store.UpdateUsages(b.Context(), customer, nil)
			require.NoError(b, err)
			b.requireApplied(0, 0, r)
		}},
		{"of many at once the newest stays", func(b *bed) {
			const rounds, writers = 10, 6
			b.write(customer, sample(), cache.WriteOptions{})
			for round := range rounds {
				newest := after + int64((round+1)*writers)
				var wg sync.WaitGroup
				errs := make([]error, writers)
				for i := range writers {
					wg.Go(func() {
						ms := newest - int64(i)
						_, errs[i] = b.store.UpdateUsage(b.Context(), customer, wallet, entitlements.Usage{Current: float64(ms)}, at(ms))
					})
				}
				wg.Wait()
				for _, err := range errs {
					require.NoError(b, err)
				}
				f := b.requireHit(customer, wallet).Facts
				require.Equal(b, entitlements.Usage{Current: float64(newest), UpdatedAt: at(newest)}, f.Usage, "round %d", round)
			}
		}},
	}
}
