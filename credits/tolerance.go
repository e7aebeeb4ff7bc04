package credits

import "math"

// tolerance is the relative error that a comparison of usage forgives: far
// above what adding floats in another order can cost, far below what anybody
// bills.
const tolerance = 1e-9

// Within reports whether used units fit into limit, forgiving a relative error
// of 1e-9 of the limit, so that 0.1 + 0.2 fits into 0.3. A limit of zero
// forgives nothing. NaN is never within; an infinite usage is within an
// infinite limit only.
func Within(used, limit float64) bool {
	if used <= limit {
		return true
	}
	// The tolerance of an infinite limit would be infinite, and forgive anything.
	if math.IsInf(limit, 0) {
		return false
	}
	return used-limit <= tolerance*math.Abs(limit)
}
