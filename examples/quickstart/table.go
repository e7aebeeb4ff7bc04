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

// answer is the row's text: yes or no, and how much.
func (r row) answer() string {
	text := "no"
	if r.hasAccess {
		text = "yes"
	}
	if r.detail != "" {
		text += ", " + r.detail
	}
	return text
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

const (
	// rowFormat is a line of 78 columns: check, answer, source, time.
	rowFormat = "  %-31s %-24s %-8s %10s"
	// noteIndent and noteWidth lay out what is said under a row.
	noteIndent = "      "
	noteWidth  = 78
)

// table prints rows, one goroutine at a time. A client's log lines, which come
// from goroutines of their own, can come between them.
type table struct {
	mu        sync.Mutex
	w         io.Writer
	lastError string // the last error that was printed whole
	failed    error
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

// section begins a part in which something is different.
func (t *table) section(line string) { t.printf("\n%s\n", line) }

func (t *table) heading() { t.printf("\n"+rowFormat+"\n", "check", "answer", "source", "time") }

// check carries out one check and prints its answer, where it came from and
// how long it took.
func (t *table) check(what string, do func() (row, error)) {
	began := time.Now()
	r, err := do()
	took := time.Since(began)
	t.row(what, r, string(r.source), milliseconds(took))
	t.error(err)
}

// row prints an answer, and under it why access is denied.
func (t *table) row(what string, r row, source, took string) {
	t.text(strings.TrimRight(fmt.Sprintf(rowFormat, what, r.answer(), source, took), " "))
	if !r.hasAccess {
		t.note("denied: " + string(r.reason))
	}
}

// error prints an error, in short if it is the same as the last one.
func (t *table) error(err error) {
	switch {
	case err == nil:
	case err.Error() == t.lastError:
		t.note("error: the same")
	default:
		t.lastError = err.Error()
		t.note("error: " + t.lastError)
	}
}

// note prints a text under a row, in as many lines as it takes.
func (t *table) note(text string) {
	var b strings.Builder
	line := noteIndent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > noteWidth && line != noteIndent {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = noteIndent + "  "
		}
		line += word + " "
	}
	t.printf("%s%s\n", b.String(), strings.TrimRight(line, " "))
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
