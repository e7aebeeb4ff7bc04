package credits

import "math"

// Remaining returns the credits that are left: granted less consumed, negative
// when overdrawn. A remainder of at most 1e-9 of the larger of the two is
// rounding, and returned as 0.
func (w Wallet) Remaining() float64 {
	remaining := w.Granted - w.Consumed
	if math.IsInf(remaining, 0) {
		return remaining
	}
	if math.Abs(remaining) <= tolerance*max(math.Abs(w.Granted), math.Abs(w.Consumed)) {
		return 0
	}
	return remaining
}

// Covers reports whether the wallet allows amount more credits to be consumed.
// With a soft limit it always does; else credits must be left, also for an
// amount of 0, and suffice as [Within] compares.
func (w Wallet) Covers(amount float64) bool {
	if w.HasSoftLimit {
		return true
	}
	return w.Remaining() > 0 && Within(w.Consumed+amount, w.Granted)
}
