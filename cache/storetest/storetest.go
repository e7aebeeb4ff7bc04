// Package storetest checks that a [cache.Store] keeps the layout and the rules
// of the shared cache on a given Redis: what counts as a hit, what is written,
// who wins. Run it against the Redis, or the substitute for one, that you
// operate:
//
//	func TestOurRedis(t *testing.T) {
//		storetest.Run(t, func(testing.TB) redis.UniversalClient {
//			return redis.NewClient(&redis.Options{Addr: "redis.test:6379"})
//		})
//	}
package storetest

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// Run runs the suite. Every test asks newClient for a client, to which it may
// add hooks, and closes it at its end. The clients may lead to one and the same
// Redis, even to one in use: every test keeps to keys under a random prefix of
// its own, and deletes them at its end. The commands that the suite needs beside
// those of the store are those that set, read, list and delete keys of any type.
func Run(t *testing.T, newClient func(testing.TB) redis.UniversalClient) {
	t.Helper()
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"Read", readCases()},
		{"ReadResource", resourceCases()},
		{"ReadWallet", walletCases()},
		{"ReadState", stateCases()},
		{"Damage", damageCases()},
		{"WriteState", writeCases()},
		{"WriteTimes", timeCases()},
		{"Heal", healCases()},
		{"UpdateUsage", usageCases()},
		{"Purge", purgeCases()},
		{"WriteLock", lockCases()},
		{"Refetch", refetchCases()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.run(newBed(t, newClient)) })
			}
		})
	}
}

// testCase is one test of the suite.
type testCase struct {
	name string
	run  func(*bed)
}
