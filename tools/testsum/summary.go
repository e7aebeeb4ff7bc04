package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of `go test -json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build that failed, in the place of Package
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// summary counts tests and keeps the output of those that may yet fail.
type summary struct {
	w                       io.Writer
	passed, failed, skipped int
	output                  map[string]*strings.Builder // by package, or package and test
	failedIn                map[string]int              // failed tests by package
}

func newSummary(w io.Writer) *summary {
	return &summary{w: w, output: map[string]*strings.Builder{}, failedIn: map[string]int{}}
}

// read counts the events of one go test run. Lines that are none are printed.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil {
				s.add(e)
			} else {
				s.printf("%s", line)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read go test's output: %w", err)
		}
	}
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		s.printf("%s", e.Output)
	case "output":
		b := s.output[key]
		if b == nil {
			b = &strings.Builder{}
			s.output[key] = b
		}
		b.WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			s.test(e, key)
		} else {
			s.pkg(e, key)
		}
	}
}

// test counts one test that has ended.
func (s *summary) test(e event, key string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
	case "fail":
		s.failed++
		s.failedIn[e.Package]++
		s.show(key)
	}
	delete(s.output, key)
}

// pkg prints how a package's tests ended.
func (s *summary) pkg(e event, key string) {
	switch e.Action {
	case "pass":
		s.printf("ok   %s %.1fs\n", e.Package, e.Elapsed)
	case "fail":
		// What belongs to no test that failed: a build error, a panic, a
		// leak found at the end. A test that was running then never ended,
		// so its output is still here.
		if s.failedIn[e.Package] == 0 {
			s.failed++
		}
		for k := range s.output {
			if k != key && strings.HasPrefix(k, e.Package+" ") {
				s.show(k)
			}
		}
		s.show(key) // ends with go test's own FAIL line
	}
	for k := range s.output {
		if strings.HasPrefix(k, e.Package+" ") {
			delete(s.output, k)
		}
	}
}

// close prints the counts and reports whether all is well.
func (s *summary) close(ok bool) bool {
	if s.passed+s.failed == 0 {
		s.printf("no test ran\n")
		ok = false
	}
	if !ok && s.failed == 0 {
		s.failed = 1 // never "0 failed" on a run that failed
	}
	s.printf("%d passed, %d failed", s.passed, s.failed)
	if s.skipped > 0 {
		s.printf(", %d skipped", s.skipped)
	}
	s.printf("\n")
	return ok && s.failed == 0
}

func (s *summary) show(key string) {
	if b := s.output[key]; b != nil {
		s.printf("%s", b)
	}
}

// printf prints; a terminal that is gone is nothing to act on.
func (s *summary) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.w, format, args...)
}
