package cache

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"

	"github.com/stiggio/server-sdk-go/entitlements"
)

// Faults says why a reading is not a hit as it stands. Several can be true at
// once.
type Faults uint16

// The faults of a reading.
const (
	ValueAbsent           Faults = 1 << iota // there is no customer value
	ValueUnreadable                          // the customer value is not JSON of the known shape
	TimestampAbsent                          // the value has no timestamp, or one that is not a number
	GlobalAbsent                             // a resource's global customer has no timestamp
	GlobalNewer                              // a resource's global customer changed after the resource did
	UsageAbsent                              // a usage or its timestamp is missing
	UsageUnreadable                          // a usage is not JSON of the known shape
	WalletUsageAbsent                        // the same for the wallet of a credit-backed feature
	WalletUsageUnreadable                    //
	MetadataUnreadable                       // the metadata is needed and is not JSON of the known shape
)

var faultNames = [...]string{"value absent", "value unreadable", "timestamp absent", "global customer absent", "global customer newer", "usage absent", "usage unreadable", "wallet usage absent", "wallet usage unreadable", "metadata unreadable"}

// String names the faults.
func (f Faults) String() string {
	var names []string
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Unreadable are the faults of data that is there and cannot be read, as
// opposed to data that is not there.
const Unreadable = ValueUnreadable | UsageUnreadable | WalletUsageUnreadable | MetadataUnreadable

// Usable reports whether the data of a reading can be answered from, if
// nothing better can be had: the value itself was read.
func (f Faults) Usable() bool {
	return f&(ValueAbsent|ValueUnreadable|MetadataUnreadable) == 0
}

// NoTimestamp stands for a timestamp that is absent or not a number.
const NoTimestamp int64 = -1

// Damaged is a key whose value could not be read, with the digest of the
// bytes, so that a refetch can overwrite just them.
type Damaged struct {
	Key    string
	Digest string
}

// Times are the timestamps that a reading saw.
type Times struct {
	Value  int64 // of the customer value; NoTimestamp when absent
	Global int64 // of a resource's global customer; NoTimestamp when absent or not read
}

// Reading is what Redis holds about one entitlement of a customer.
type Reading struct {
	Faults Faults
	Times  Times
	// Facts are what was read; complete if Faults is 0, and as far as they go
	// if Faults.Usable().
	Facts   entitlements.Facts
	Damaged []Damaged
	// ValueSize is the length of the customer value in bytes.
	ValueSize int

	// The usages as they came with the entitlements, under what the usage keys say.
	snapshot, walletSnapshot *entitlements.Usage
	// kept is the entry that was revalidated; nil if everything was read.
	kept *Entry
	// before is the timestamp that was read before the value; 0 if none was.
	before int64
}

// keptTimes are the times that what was read is kept with: with another one
// than Redis has, it will be read again rather than confirmed.
func keptTimes(t Times, before int64) Times {
	if before != 0 {
		t.Value = before
	}
	return t
}

// StateReading is what Redis holds about a customer as a whole.
type StateReading struct {
	Faults       Faults
	Times        Times
	Entitlements []CachedEntitlement
	// DeniedReason is the state-level reason for having no entitlements.
	DeniedReason entitlements.AccessDeniedReason
	Damaged      []Damaged
	ValueSize    int // length of the customer value in bytes

	before int64 // as for Reading
}

// CachedEntitlement is one entitlement of a StateReading.
type CachedEntitlement struct {
	Definition *entitlements.Definition
	Usage      entitlements.Usage
	DataTime   int64 // epoch milliseconds of the change that the data reflects
	Faults     Faults

	snapshot *entitlements.Usage // as it came with the entitlement, under what the usage key says
}

func damaged(key, raw string) Damaged {
	sum := sha1.Sum([]byte(raw))
	return Damaged{Key: strings.Clone(key), Digest: hex.EncodeToString(sum[:])}
}

// globalFaults judges a resource's timestamp against its global customer's.
func globalFaults(valuePresent bool, t Times) Faults {
	switch {
	case t.Global == NoTimestamp:
		return GlobalAbsent
	case valuePresent && t.Global > t.Value:
		return GlobalNewer
	}
	return 0
}
