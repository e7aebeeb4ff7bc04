package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The results stand between these lines of the document; the rest of it is
// written by hand.
const (
	documentName = "benchmarks.md"
	beginMark    = "<!-- results: written by `make bench` -->"
	endMark      = "<!-- end of results -->"
)

// writeDocument puts the results into benchmarks.md in the folder. Where there
// is none yet, it makes one.
func writeDocument(folder, results string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	name := filepath.Join(folder, documentName)
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = []byte(beginMark + "\n" + endMark + "\n")
	case err != nil:
		return err
	}
	text, err := between(string(old), results)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// between replaces what stands between the marks.
func between(text, results string) (string, error) {
	before, rest, begins := strings.Cut(text, beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return "", fmt.Errorf("the lines %q and %q are not both there, in this order", beginMark, endMark)
	}
	return before + beginMark + "\n\n" + strings.TrimSpace(results) + "\n\n" + endMark + after, nil
}
