package storetest

import (
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// Times of changes, in epoch milliseconds, in their order.
const (
	before     int64 = 1780000000000
	changed    int64 = 1780308000000 // the entitlements of the samples
	usageMoved int64 = 1780399800000 // their usage
	after      int64 = 1780444800000
	fetchBegan int64 = 1780500000000
)

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// The customer, the resource and the entitlements of the samples.
var (
	customer = cache.Key{CustomerID: "cust-1"}
	resource = cache.Key{CustomerID: "cust-1", ResourceID: "res-1"}

	onOff  = cache.Ref{ID: "on-off"}
	calls  = cache.Ref{ID: "calls"}
	wallet = cache.Ref{IsCredit: true, ID: "tokens"}
)

func boolean(id string) entitlements.Record {
	return entitlements.Record{Definition: entitlements.Definition{
		Feature:   entitlements.Feature{ID: id, DisplayName: id + " name", Type: entitlements.FeatureBoolean, MeterType: entitlements.MeterNone},
		UpdatedAt: at(changed),
	}}
}

func metered(id string, used float64) entitlements.Record {
	limit := 100.0
	return entitlements.Record{
		Definition: entitlements.Definition{
			Feature: entitlements.Feature{
				ID: id, DisplayName: id + " name", Type: entitlements.FeatureNumber,
				MeterType: entitlements.MeterIncremental, Units: "call", UnitsPlural: "calls",
			},
			UsageLimit: &limit,
			UpdatedAt:  at(changed),
		},
		Usage:    entitlements.Usage{Current: used, UpdatedAt: at(usageMoved)},
		HasUsage: true,
	}
}

func credit(id string, used float64) entitlements.Record {
	granted := 1000.0
	return entitlements.Record{
		Definition: entitlements.Definition{
			IsCredit:   true,
			Currency:   credits.Currency{ID: id, DisplayName: id + " name"},
			UsageLimit: &granted,
			UpdatedAt:  at(changed),
		},
		Usage:    entitlements.Usage{Current: used, UpdatedAt: at(usageMoved)},
		HasUsage: true,
	}
}

// backed makes a metered feature draw on a wallet.
func backed(r entitlements.Record, currency string) entitlements.Record {
	r.Definition.CreditRate = &credits.Rate{Amount: 2.5, CurrencyID: currency}
	return r
}

func stateOf(records ...entitlements.Record) entitlements.State {
	return entitlements.State{Records: records}
}

// changedAt makes all of a state's entitlements and usages as old as ms.
func changedAt(ms int64, state entitlements.State) entitlements.State {
	records := make([]entitlements.Record, len(state.Records))
	for i, r := range state.Records {
		r.Definition.UpdatedAt, r.Usage.UpdatedAt = at(ms), at(ms)
		records[i] = r
	}
	state.Records = records
	return state
}

// sample is a customer with one entitlement of each kind that matters here.
func sample() entitlements.State {
	return stateOf(boolean(onOff.ID), metered(calls.ID, 40), credit(wallet.ID, 100))
}

// notTimestamps are texts that a timestamp key can hold and that are no times.
func notTimestamps() []string {
	return []string{"", "abc", "-5", "1.5", "1e3", " 1780308000000", "0x10", "NaN", "null", "9999999999999999", "99999999999999999999"}
}

// awkwardIDs are ids with what means something to JSON, to Redis or to the
// layout.
func awkwardIDs() []string {
	return []string{
		"has space", "user@example.com", "клиент-ñ-客户-🙂", `"quoted" 'id'`, `back\slash`, "{tag}", "}{", "{", "*?[a-z]",
		"new\nline\r\n", "tab\tnul\x00", "a:b", "a#b", "c_a", "\u2028", "<&>", "null", "0",
	}
}
