package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	stigg "github.com/stiggio/server-sdk-go"
)

// row is one answer as it is shown.
type row struct {
	hasAccess bool
	reason    stigg.AccessDeniedReason
	detail    string // what is left or used; empty: nothing to say
	source    stigg.Source
}

func booleanRow(e stigg.BooleanEntitlement) row {
	return row{hasAccess: e.HasAccess, reason: e.AccessDeniedReason, source: e.Source}
}

func meteredRow(e stigg.MeteredEntitlement) row {
	r := row{hasAccess: e.HasAccess, reason: e.AccessDeniedReason, source: e.Source}
	if !e.IsFallback {
		r.detail = usageDetail(e.CurrentUsage, e.UsageLimit, e.IsUnlimited)
	}
	return r
}

func creditRow(e stigg.CreditEntitlement) row {
	r := row{hasAccess: e.HasAccess, reason: e.AccessDeniedReason, source: e.Source}
	if !e.IsFallback {
		r.detail = number(e.Remaining) + " left"
	}
	return r
}

func usageDetail(used, limit float64, unlimited bool) string {
	if unlimited {
		return number(used) + " used, unlimited"
	}
	return number(used) + " of " + number(limit) + " used"
}

// answer is the row's text: yes or no, why not, how much.
func (r row) answer() string {
	parts := []string{"yes"}
	if !r.hasAccess {
		parts[0] = "no: " + string(r.reason)
	}
	if r.detail != "" {
		parts = append(parts, r.detail)
	}
	return strings.Join(parts, ", ")
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

const (
	rowFormat = "  %-34s %-46s %-9s %9s\n"
	// errorIndent and errorWidth lay out errors under the row they belong to.
	errorIndent = "      "
	errorWidth  = 98
)

// table prints rows, and log lines between them. It is safe for concurrent
// use, because a client logs from goroutines of its own.
type table struct {
	mu     sync.Mutex
	w      io.Writer
	failed error
}

func newTable(w io.Writer) *table { return &table{w: w} }

// err is the first error of writing.
func (t *table) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *table) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := fmt.Fprintf(t.w, format, args...); err != nil && t.failed == nil {
		t.failed = err
	}
}

func (t *table) text(line string) { t.printf("%s\n", line) }

func (t *table) heading() { t.printf("\n"+rowFormat, "check", "answer", "source", "time") }

// check carries out one check and prints its answer, where it came from, how
// long it took, and its error if there is one.
func (t *table) check(what string, do func() (row, error)) {
	began := time.Now()
	r, err := do()
	took := time.Since(began)
	t.printf(rowFormat, what, r.answer(), r.source, fmt.Sprintf("%.2f ms", took.Seconds()*1000))
	if err != nil {
		t.printf("%s", wrap("error: "+err.Error()))
	}
}

// wrap breaks a long text into indented lines.
func wrap(text string) string {
	var b strings.Builder
	line := errorIndent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > errorWidth && line != errorIndent {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = errorIndent + "  "
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}
