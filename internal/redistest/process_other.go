//go:build !linux

package redistest

import (
	"os/exec"
	"time"
)

// dieWithParent does nothing: only Linux can tie a child to its parent.
func dieWithParent(*exec.Cmd) {}

// waitPaused gives the signal a moment to arrive.
func waitPaused(int) error {
	time.Sleep(20 * time.Millisecond)
	return nil
}
