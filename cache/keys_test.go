package cache_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
)

func TestKeyNames(t *testing.T) {
	customer, resource := cache.Key{CustomerID: "C"}, cache.Key{CustomerID: "C", ResourceID: "R"}
	feature, credit := cache.Ref{ID: "F"}, cache.Ref{IsCredit: true, ID: "U"}
	for want, got := range map[string]string{
		"P:c_C":              cache.ValueKey("P", customer),
		"P:c_C:r_R":          cache.ValueKey("P", resource),
		"P:c_C:metadata":     cache.MetadataKey("P", customer),
		"P:c_C:r_R:metadata": cache.MetadataKey("P", resource),
		"P:c_C:f_F":          cache.UsageKey("P", customer, feature),
		"P:c_C:r_R:f_F":      cache.UsageKey("P", resource, feature),
		"P:c_C:credit_U":     cache.UsageKey("P", customer, credit),
		"P:c_C:r_R:credit_U": cache.UsageKey("P", resource, credit),
		"P:c_C#timestamp":    cache.TimestampKey(cache.ValueKey("P", customer)),
		"P-C":                cache.WriteLockKey("P", customer),
		"P-C:R":              cache.WriteLockKey("P", resource),
		"P:refetchEntityEntitlementsAfterCacheMiss-C":   cache.RefetchLockKey("P", customer),
		"P:refetchEntityEntitlementsAfterCacheMiss-C:R": cache.RefetchLockKey("P", resource),
		"P:refetchEntityEntitlementsAfterCacheMiss:C":   cache.RefetchChannel("P", customer),
		"P:refetchEntityEntitlementsAfterCacheMiss:C:R": cache.RefetchChannel("P", resource),
	} {
		require.Equal(t, want, got)
	}
	require.Equal(t, customer, resource.Customer())
	require.Equal(t, customer, customer.Customer())
}

func TestAmbiguousIDs(t *testing.T) {
	for _, id := range []string{"acme:r_1", ":r_", "a:f_b", "a:credit_b", "a:metadata", "a:metadata#timestamp", "a#timestamp", "#timestamp"} {
		require.True(t, cache.Key{CustomerID: id}.Ambiguous(), id)
		require.True(t, cache.Key{CustomerID: "a", ResourceID: id}.Ambiguous(), id)
	}
	for _, id := range []string{"", "acme", "a:b", "a#b", "a:r", "r_1", "f_1", "metadata", "timestamp", "a:rx_1", "has space", "é:客", "a:R_1"} {
		require.False(t, cache.Key{CustomerID: id}.Ambiguous(), id)
		require.False(t, cache.Key{CustomerID: "a", ResourceID: id}.Ambiguous(), id)
	}
}

// Of ids that are not ambiguous no two name the same key, whatever is asked of
// them: else one customer could read what another is entitled to.
func TestUnambiguousIDsShareNoKeys(t *testing.T) {
	parts := []string{"a", "b", ":", "r_", "f_", "credit_", "metadata", "#", "timestamp", ":r", "_"}
	ids := append([]string(nil), parts...)
	for _, p := range parts {
		for _, q := range parts {
			ids = append(ids, p+q)
		}
	}
	owners := make(map[string]cache.Key)
	for i, id := range ids {
		keys := []cache.Key{{CustomerID: id}}
		for _, other := range ids[:i] {
			keys = append(keys, cache.Key{CustomerID: id, ResourceID: other}, cache.Key{CustomerID: other, ResourceID: id})
		}
		for _, k := range keys {
			if k.Ambiguous() {
				continue
			}
			value, metadata := cache.ValueKey("P", k), cache.MetadataKey("P", k)
			names := []string{value, cache.TimestampKey(value), metadata, cache.TimestampKey(metadata)}
			for _, ref := range []cache.Ref{{ID: "a"}, {IsCredit: true, ID: "a"}} {
				usage := cache.UsageKey("P", k, ref)
				names = append(names, usage, cache.TimestampKey(usage))
			}
			for _, name := range names {
				owner, taken := owners[name]
				require.False(t, taken && owner != k, "%q is a key of %+v and of %+v", name, owner, k)
				owners[name] = k
			}
		}
	}
	require.Greater(t, len(owners), 10_000)
}
