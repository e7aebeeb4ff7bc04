package main

import (
	"strings"

	"github.com/stiggio/server-sdk-go/cache"
)

// keysOf gives the keys that one read of a customer takes, by round trip. They
// are those that the SDK asks for, in its order: a test compares them with
// what it sends.
type keysOf func(c *customers, customerID string) [][]string

func entitlementKeys(_ *customers, customerID string) [][]string {
	k := cache.Key{CustomerID: customerID}
	value := cache.ValueKey(prefix, k)
	return [][]string{{value, cache.MetadataKey(prefix, k), cache.TimestampKey(value)}}
}

func meteredKeys(c *customers, customerID string) [][]string {
	return withUsages(customerID, cache.Ref{ID: c.metered})
}

func creditKeys(c *customers, customerID string) [][]string {
	return withUsages(customerID, c.wallet())
}

func creditBackedKeys(c *customers, customerID string) [][]string {
	return withUsages(customerID, cache.Ref{ID: c.creditBacked}, c.wallet())
}

func creditBackedApartKeys(c *customers, customerID string) [][]string {
	trips := withUsages(customerID, cache.Ref{ID: c.creditBacked})
	// The value's timestamp once more, to notice a change in between.
	return append(trips, append(usagePair(customerID, c.wallet()), trips[0][2]))
}

func allKeys(c *customers, customerID string) [][]string {
	usages := make([]string, len(c.usages))
	for i, key := range c.usages {
		usages[i] = strings.Replace(key, c.many[0], customerID, 1)
	}
	trips := entitlementKeys(c, customerID)
	trips[0] = append(trips[0], usages...)
	return trips
}

func (c *customers) wallet() cache.Ref { return cache.Ref{IsCredit: true, ID: c.credit} }

func withUsages(customerID string, refs ...cache.Ref) [][]string {
	trips := entitlementKeys(nil, customerID)
	for _, ref := range refs {
		trips[0] = append(trips[0], usagePair(customerID, ref)...)
	}
	return trips
}

func usagePair(customerID string, ref cache.Ref) []string {
	key := cache.UsageKey(prefix, cache.Key{CustomerID: customerID}, ref)
	return []string{key, cache.TimestampKey(key)}
}

// allTrips gives the keys of all customers, made before anything is measured.
func allTrips(c *customers, ids []string, keys keysOf) [][][]string {
	trips := make([][][]string, len(ids))
	for i, id := range ids {
		trips[i] = keys(c, id)
	}
	return trips
}
