package stigg_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests, or, where a test has started this binary again, one
// process of a fleet.
func TestMain(m *testing.M) {
	if config := os.Getenv(memberConfig); config != "" {
		os.Exit(runMember(config))
	}
	goleak.VerifyTestMain(m)
}
