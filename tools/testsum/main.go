// Testsum runs the tests of several Go modules and counts them. It prints a
// line for every package, the output of what failed, and last a line
//
//	N passed, N failed
//
// over all modules, with ", N skipped" behind it if there are any. Subtests
// count. Its exit code is 1 if a test failed, a package did not build, or no
// test ran.
//
// Usage: testsum [go test flags] -- module-folder...
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

func main() {
	args := os.Args[1:]
	split := slices.Index(args, "--")
	if split < 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum [go test flags] -- module-folder...")
		os.Exit(2)
	}
	s := newSummary(os.Stdout)
	ok := true
	for _, dir := range args[split+1:] {
		if err := testModule(s, dir, args[:split]); err != nil {
			fmt.Printf("FAIL module %s: %v\n", dir, err)
			ok = false
		}
	}
	if !s.close(ok) {
		os.Exit(1)
	}
}

// testModule runs the tests of one module.
func testModule(s *summary, dir string, flags []string) error {
	cmd := exec.Command("go", slices.Concat([]string{"test", "-json"}, flags, []string{"./..."})...)
	cmd.Dir = dir
	cmd.Env = environment(dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	readErr := s.read(out)
	if readErr != nil {
		// Else go test would wait for somebody to read the rest.
		_, _ = io.Copy(io.Discard, out)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	return readErr
}

// environment is the one to run go in for a module. A module that requires the
// SDK of this repository, which need not be released yet, finds it through
// go.work; all others are tested as their users have them.
func environment(dir string) []string {
	file, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err == nil && bytes.Contains(file, []byte(sdk+" v")) && !bytes.Contains(file, []byte("replace "+sdk)) {
		return os.Environ()
	}
	return append(os.Environ(), "GOWORK=off")
}

const sdk = "github.com/stiggio/server-sdk-go"
