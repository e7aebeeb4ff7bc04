package main

import "context"

// read does one read. i counts the reads, so that it can go through all customers.
type read func(ctx context.Context, i int) error

// way is one way to read. open prepares it for the customers of one size.
type way struct {
	name string
	open func(b *bed, c *customers) (read, error)
}

// group is what is compared with each other: ways to get the same data, and
// the floor that none of them can be under. A new way is one entry.
type group struct {
	name  string
	about string // one sentence for the report
	floor way
	ways  []way
	// batch is how many reads are timed as one, where a read is too short for
	// a clock; 0 means 1. There are no percentiles then.
	batch int
	// inMemory says that nothing is read from Redis, so that the number of
	// entitlements makes no difference.
	inMemory bool
}

// sdkName is the way whose ratio to the floor is what all of this is about.
const sdkName = "this SDK"

func table() []group {
	return []group{
		{
			name:  "boolean check",
			about: "`GetBooleanEntitlement`: value, metadata, timestamp in one MGET.",
			floor: pooled(few, entitlementKeys),
			ways:  []way{sdk(few, askBoolean)},
		}, {
			name:  "metered check",
			about: "`GetMeteredEntitlement`: the same and the usage with its timestamp.",
			floor: pooled(few, meteredKeys),
			ways:  []way{sdk(few, askMetered), autoPipelined(few, meteredKeys), throughRueidis(few, meteredKeys)},
		}, {
			name:  "credit check",
			about: "`GetCreditEntitlement`: the same for a wallet.",
			floor: pooled(few, creditKeys),
			ways:  []way{sdk(few, askCredit), autoPipelined(few, creditKeys)},
		}, {
			name:  "credit-backed check",
			about: "`GetMeteredEntitlement` of a feature that draws on a wallet: the usages of both.",
			floor: pooled(few, creditBackedKeys),
			ways:  []way{sdk(few, askCreditBacked)},
		}, {
			name:  "all entitlements",
			about: "`GetEntitlements`: value, metadata, timestamp and all usages at once; the value read before names the usages.",
			floor: pooled(few, allKeys),
			ways:  []way{sdk(few, askAll), autoPipelined(few, allKeys)},
		}, {
			name: "metered check, changed value",
			about: "A metered check whose customer value differs from the one read before, in its last entry: " +
				"what the SDK remembers is of no use, every read decodes, and a value above 32 kB is read twice.",
			floor: pooledChanging(few, meteredKeys),
			ways:  []way{sdkChanging(few, askMetered)},
		}, {
			name: "metered check, many customers",
			about: "A metered check of so many customers in turn that none is remembered: " +
				"every read decodes, and something remembered is dropped for it.",
			floor: pooled(many, meteredKeys),
			ways:  []way{sdk(many, askMetered)},
		}, {
			name: "credit-backed check, many customers",
			about: "The same for a credit-backed feature: which wallet it draws on is not known in advance, " +
				"so that it takes two MGETs, as the floor does here.",
			floor: pooled(many, creditBackedApartKeys),
			ways:  []way{sdk(many, askCreditBacked)},
		}, {
			name: "metered check, revalidated",
			about: "A metered check with `LRUConfig.Revalidate`: all but the value is read, and its length, " +
				"to see whether what is remembered still holds.",
			floor: revalidating(few, meteredKeys),
			ways:  []way{sdkRevalidating(few, askMetered), revalidatingAutoPipelined(few, meteredKeys)},
		}, {
			name: "metered check, in memory",
			about: "A metered check with `LRUConfig`: nothing is sent, because Redis tells of changes. " +
				"The floor is a look into a golang-lru cache of as many entries.",
			floor:    lookedUp(few),
			ways:     []way{sdkInMemory(few, askMetered)},
			batch:    1024,
			inMemory: true,
		}, {
			name:     "credit check, in memory",
			about:    "The same for a wallet.",
			floor:    lookedUp(few),
			ways:     []way{sdkInMemory(few, askCredit)},
			batch:    1024,
			inMemory: true,
		}, {
			name:     "metered check, without Redis",
			about:    "A metered check with `LRUConfig` alone: what the API said is kept in memory.",
			floor:    lookedUp(few),
			ways:     []way{sdkAlone(few, askMetered)},
			batch:    1024,
			inMemory: true,
		},
	}
}

// few and many choose the customers that are read.
func few(c *customers) []string  { return c.few }
func many(c *customers) []string { return c.many }
