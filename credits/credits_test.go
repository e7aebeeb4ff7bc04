package credits_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stiggio/server-sdk-go/credits"
)

// sum adds at run time: constants are added exactly.
func sum(a, b float64) float64 { return a + b }

func TestWithin(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, tc := range []struct {
		name        string
		used, limit float64
		want        bool
	}{
		{"below", 1, 2, true},
		{"equal", 2, 2, true},
		{"above", 3, 2, false},
		{"rounding", sum(0.1, 0.2), 0.3, true},
		{"in tolerance", 1 + 0.9e-9, 1, true},
		{"out of tolerance", 1 + 1.1e-9, 1, false},
		{"relative: large", 1e12 + 900, 1e12, true},
		{"relative: large, above", 1e12 + 1100, 1e12, false},
		{"relative: small", 1e-12, 0.5e-12, false},
		{"zero in zero", 0, 0, true},
		{"little in zero", 1e-12, 0, false},
		{"least in zero", math.SmallestNonzeroFloat64, 0, false},
		{"negative limit", 0, -1, false},
		{"negative limit, in tolerance", -1 + 0.5e-9, -1, true},
		{"infinite usage", inf, 5, false},
		{"infinite usage, greatest limit", inf, math.MaxFloat64, false},
		{"infinite limit", 5, inf, true},
		{"both infinite", inf, inf, true},
		{"limit of minus infinity", 5, -inf, false},
		{"usage of minus infinity", -inf, 5, true},
		{"overflow", sum(math.MaxFloat64, math.MaxFloat64), 1e300, false},
		{"overflowing difference", math.MaxFloat64, -math.MaxFloat64, false},
		{"usage NaN", nan, 5, false},
		{"limit NaN", 5, nan, false},
		{"NaN in infinity", nan, inf, false},
		{"both NaN", nan, nan, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, credits.Within(tc.used, tc.limit))
		})
	}
}

func TestWithinIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(0, 1e15).Draw(t, "limit")
		// Near the limit is where an error would show.
		near := func(name string) float64 {
			return limit * (1 + rapid.Float64Range(-3e-9, 3e-9).Draw(t, name))
		}
		low, high := near("a"), near("b")
		if low > high {
			low, high = high, low
		}
		if credits.Within(high, limit) && !credits.Within(low, limit) {
			t.Fatalf("%v is within %v, and %v is not", high, limit, low)
		}
		if credits.Within(limit, low) && !credits.Within(limit, high) {
			t.Fatalf("%v is within %v, and not within %v", limit, low, high)
		}
	})
}

func TestRemaining(t *testing.T) {
	inf := math.Inf(1)
	for _, tc := range []struct {
		name              string
		granted, consumed float64
		want              float64
	}{
		{"left", 100, 40, 60},
		{"none left", 100, 100, 0},
		{"overdraft", 100, 130, -30},
		{"empty", 0, 0, 0},
		{"nothing granted", 0, 5, -5},
		{"little granted", 1e-12, 0, 1e-12},
		{"rounding above", 0.3, sum(0.1, 0.2), 0},
		{"rounding below", sum(0.1, 0.2), 0.3, 0},
		{"snapped", 1, 1 - 0.5e-9, 0},
		{"not snapped", 1024, 1024 - 1.0/256, 1.0 / 256},
		{"infinite grant", inf, 5, inf},
		{"infinite consumption", 5, inf, -inf},
		{"overflow", math.MaxFloat64, -math.MaxFloat64, inf},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, credits.Wallet{Granted: tc.granted, Consumed: tc.consumed}.Remaining())
		})
	}
	require.True(t, math.IsNaN(credits.Wallet{Granted: inf, Consumed: inf}.Remaining()))
}

func TestCovers(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, tc := range []struct {
		name              string
		granted, consumed float64
		soft              bool
		amount            float64
		want              bool
	}{
		{"enough", 100, 40, false, 59, true},
		{"exactly enough", 100, 40, false, 60, true},
		{"too little", 100, 40, false, 61, false},
		{"nothing asked, some left", 100, 99, false, 0, true},
		{"nothing asked, none left", 100, 100, false, 0, false},
		{"nothing asked, left is rounding", sum(0.1, 0.2), 0.3, false, 0, false},
		{"overdraft", 100, 130, false, 0, false},
		{"rounding in the sum", 0.3, 0.1, false, 0.2, true},
		{"empty", 0, 0, false, 0, false},
		{"soft, enough", 100, 40, true, 10, true},
		{"soft, none left", 100, 100, true, 10, true},
		{"soft, overdraft", 100, 130, true, 10, true},
		{"soft, empty", 0, 0, true, 0, true},
		{"overflow", 100, 40, false, math.MaxFloat64, false},
		{"infinite amount", 100, 40, false, inf, false},
		{"NaN amount", 100, 40, false, nan, false},
		{"NaN consumed", 100, nan, false, 0, false},
		{"infinite grant", inf, 5, false, 1e9, true},
		{"all infinite", inf, inf, false, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := credits.Wallet{Granted: tc.granted, Consumed: tc.consumed, HasSoftLimit: tc.soft}
			require.Equal(t, tc.want, w.Covers(tc.amount))
		})
	}
}

func TestCost(t *testing.T) {
	require.Equal(t, 7.5, credits.Rate{Amount: 2.5, CurrencyID: "c"}.Cost(3))
	require.Zero(t, credits.Rate{Amount: 2.5}.Cost(0))
}

func ExampleWallet_Covers() {
	wallet := credits.Wallet{Granted: 100, Consumed: 97}
	rate := credits.Rate{Amount: 1.5}

	fmt.Println(wallet.Remaining(), wallet.Covers(rate.Cost(2)), wallet.Covers(rate.Cost(3)))
	// Output: 3 true false
}
