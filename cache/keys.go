// Package cache is the Redis cache that Stigg's programs share: its key names,
// its wire format, its atomic writes. The layout is fixed by the programs that
// already use it; other Go programs, such as the daemon that keeps the cache
// fresh, use this package to speak it.
package cache

import "strings"

// Key names a customer, or one of its resources when ResourceID is set.
type Key struct {
	CustomerID string
	ResourceID string
}

// Customer returns the key of the customer itself.
func (k Key) Customer() Key { return Key{CustomerID: k.CustomerID} }

// Ref names one entitlement of a customer: a feature or a credit currency.
type Ref struct {
	IsCredit bool
	ID       string
}

// separators are the parts of the layout from which the key of another
// customer, resource or usage can be built, because ids are not escaped.
var separators = [...]string{":r_", ":f_", ":credit_", ":metadata", "#timestamp"}

// Ambiguous reports whether the ids could name the keys of another customer or
// resource. Such a customer must not be read from or written to Redis.
func (k Key) Ambiguous() bool { return ambiguousID(k.CustomerID) || ambiguousID(k.ResourceID) }

func ambiguousID(id string) bool {
	if strings.IndexByte(id, ':') < 0 && strings.IndexByte(id, '#') < 0 {
		return false
	}
	for _, s := range separators {
		if strings.Contains(id, s) {
			return true
		}
	}
	return false
}

const (
	timestampSuffix = "#timestamp"
	metadataSuffix  = ":metadata"
	refetchName     = "refetchEntityEntitlementsAfterCacheMiss"
)

// ValueKey returns the name of the key that holds k's entitlements.
func ValueKey(prefix string, k Key) string {
	if k.ResourceID == "" {
		return prefix + ":c_" + k.CustomerID
	}
	return prefix + ":c_" + k.CustomerID + ":r_" + k.ResourceID
}

// MetadataKey returns the name of the key that holds what is said of k as a whole.
func MetadataKey(prefix string, k Key) string { return ValueKey(prefix, k) + metadataSuffix }

// UsageKey returns the name of the key that holds the usage of one entitlement of k.
func UsageKey(prefix string, k Key, ref Ref) string {
	return ValueKey(prefix, k) + usageInfix(ref) + ref.ID
}

// TimestampKey returns the name of the key that holds the time of the change
// that key's value reflects.
func TimestampKey(key string) string { return key + timestampSuffix }

// WriteLockKey returns the name of the lock that a writer of k holds.
func WriteLockKey(prefix string, k Key) string { return prefix + "-" + joinIDs(k) }

// RefetchLockKey returns the name of the lock that whoever refetches k holds.
func RefetchLockKey(prefix string, k Key) string {
	return prefix + ":" + refetchName + "-" + joinIDs(k)
}

// RefetchChannel returns the name of the channel on which the end of a refetch of k is announced.
func RefetchChannel(prefix string, k Key) string {
	return prefix + ":" + refetchName + ":" + joinIDs(k)
}

func usageInfix(ref Ref) string {
	if ref.IsCredit {
		return ":credit_"
	}
	return ":f_"
}

func joinIDs(k Key) string {
	if k.ResourceID == "" {
		return k.CustomerID
	}
	return k.CustomerID + ":" + k.ResourceID
}

// keyNames builds the names for one read in a single allocation: the value,
// its metadata and timestamp, and whatever usages and timestamps are asked for
// are parts of one string.
type keyNames struct {
	buf strings.Builder
	cut [maxReadKeys]int32
	n   int
}

// maxReadKeys is the most keys that a read of one entitlement names: value,
// metadata, timestamp, the global customer's timestamp, a usage and a wallet
// with their timestamps.
const maxReadKeys = 8

func (b *keyNames) grow(n int) { b.buf.Grow(n) }

func (b *keyNames) add(prefix string, k Key, parts ...string) {
	b.buf.WriteString(prefix)
	b.buf.WriteString(":c_")
	b.buf.WriteString(k.CustomerID)
	if k.ResourceID != "" {
		b.buf.WriteString(":r_")
		b.buf.WriteString(k.ResourceID)
	}
	for _, p := range parts {
		b.buf.WriteString(p)
	}
	b.cut[b.n] = int32(b.buf.Len())
	b.n++
}

// names returns the names.
func (b *keyNames) names() []string {
	names := make([]string, b.n)
	s, from := b.buf.String(), int32(0)
	for i, to := range b.cut[:b.n] {
		names[i] = s[from:to]
		from = to
	}
	return names
}
