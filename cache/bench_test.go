package cache

import (
	"encoding/json"
	"fmt"
	"testing"
)

// The benchmarks compare what a check does with a customer value to decoding
// all of it with encoding/json.

func benchmarkSizes(b *testing.B, run func(b *testing.B, text string, n int)) {
	for _, n := range []int{10, 50, 200} {
		text := sampleValue(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			run(b, text, n)
		})
	}
}

// BenchmarkParse checks and indexes a value that was not seen before.
func BenchmarkParse(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, text string, n int) {
		for b.Loop() {
			if _, err := parse(text, n); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkParseAndFind is a check on a value that was not seen before.
func BenchmarkParseAndFind(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, text string, n int) {
		ref := middle(n)
		for b.Loop() {
			v, err := parse(text, n)
			if err != nil {
				b.Fatal(err)
			}
			if it, err := v.find(ref); err != nil || it == nil {
				b.Fatal(it, err)
			}
		}
	})
}

// BenchmarkWarmFind is a check on a value that has not changed: its bytes are
// compared, and what was decoded is used again.
func BenchmarkWarmFind(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, text string, n int) {
		m, k, ref := newMemo(), Key{CustomerID: "customer"}, middle(n)
		m.put(k, mustParse(b, sampleValue(b, n)))
		for b.Loop() {
			v := m.get(k)
			if v.raw != text {
				b.Fatal("changed")
			}
			if it, err := v.find(ref); err != nil || it == nil {
				b.Fatal(it, err)
			}
		}
	})
}

// BenchmarkDecodeAll decodes every entitlement.
func BenchmarkDecodeAll(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, text string, n int) {
		for b.Loop() {
			v, err := parse(text, n)
			if err != nil {
				b.Fatal(err)
			}
			if all, err := v.list([]string{"value"}); err != nil || len(all) != n {
				b.Fatal(len(all), err)
			}
		}
	})
}

// BenchmarkJSON decodes every entitlement with encoding/json.
func BenchmarkJSON(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, text string, n int) {
		for b.Loop() {
			var entries map[string]struct {
				CalculatedEntitlement struct {
					featureValue
					Currency *currencyObject `json:"currency"`
				} `json:"calculatedEntitlement"`
				UsageData *usageDataObject `json:"usageData"`
			}
			if err := json.Unmarshal([]byte(text), &entries); err != nil || len(entries) != n {
				b.Fatal(len(entries), err)
			}
		}
	})
}
