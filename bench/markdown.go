package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// markdown gives the results as tables: the ratios first, then everything.
func markdown(machine string, results []result) string {
	var b strings.Builder
	b.WriteString(machine + "\n\n")
	writeRatios(&b, results)
	for len(results) > 0 {
		n := 1
		for n < len(results) && results[n].group.name == results[0].group.name {
			n++
		}
		writeGroup(&b, results[:n])
		results = results[n:]
	}
	return b.String()
}

// writeRatios writes a row for each group in which the SDK reads from Redis.
func writeRatios(b *strings.Builder, results []result) {
	head, rows := []string{"share of the floor's throughput"}, [][]string(nil)
	var allocs []string
	for i := range results {
		r := &results[i]
		f := r.sdk()
		if f == nil || r.group.inMemory {
			continue
		}
		column := fmt.Sprintf("%d × %d", r.size, r.inFlight)
		if !slices.Contains(head, column) {
			head = append(head, column)
		}
		if len(rows) == 0 || rows[len(rows)-1][0] != r.group.name {
			rows, allocs = append(rows, []string{r.group.name}), append(allocs, "")
		}
		last := len(rows) - 1
		rows[last] = append(rows[last], fmt.Sprintf("%.2f", f.ratio))
		if more := fmt.Sprintf("%+.0f", f.allocs-r.figures[0].allocs); !strings.HasSuffix(allocs[last], more) {
			allocs[last] = strings.TrimPrefix(allocs[last]+" / "+more, " / ")
		}
	}
	if len(rows) == 0 {
		return
	}
	b.WriteString("Columns: entitlements of the customer × reads in flight.\n\n")
	for i := range rows {
		rows[i] = append(rows[i], allocs[i])
	}
	writeTable(b, append(head, "allocs on top"), rows)
}

// writeGroup writes all figures of one group.
func writeGroup(b *strings.Builder, results []result) {
	g := results[0].group
	fmt.Fprintf(b, "### %s%s\n\n%s\n\n", strings.ToUpper(g.name[:1]), g.name[1:], g.about)
	head := []string{"entitlements (value)", "in flight", "", "reads/s", "ns/read", "CPU/read", "p50", "p99", "allocs", "bytes", "of the floor"}
	var rows [][]string
	for _, r := range results {
		for i, f := range r.figures {
			size, share := fmt.Sprintf("%d (%.1f kB)", r.size, float64(r.value)/1000), fmt.Sprintf("%.2f (%.2f–%.2f)", f.ratio, f.low, f.high)
			if g.inMemory {
				size = "any"
			}
			if i == 0 {
				share = "floor"
			}
			p50, p99 := short(f.p50), short(f.p99)
			if g.batch > 1 {
				p50, p99 = "–", "–"
			}
			rows = append(rows, []string{
				size, strconv.Itoa(r.inFlight), f.way, thousands(f.rate), thousands(1e9 / f.rate), short(f.cpu), p50, p99,
				fmt.Sprintf("%.0f", f.allocs), thousands(f.bytes), share,
			})
		}
	}
	writeTable(b, head, rows)
}

// writeTable writes a table whose columns stand right where they hold numbers.
func writeTable(b *strings.Builder, head []string, rows [][]string) {
	write := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	write(head)
	rule := make([]string, len(head))
	for i := range rule {
		rule[i] = "---"
		if first := rows[0][i]; first != "" && strings.ContainsAny(first[:1], "0123456789+") {
			rule[i] = "---:"
		}
	}
	write(rule)
	for _, row := range rows {
		write(row)
	}
	b.WriteString("\n")
}

// thousands writes a number without decimals, in groups of three digits.
func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short writes a duration with three digits.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Millisecond, time.Microsecond} {
		if d >= unit {
			return strconv.FormatFloat(float64(d)/float64(unit), 'g', 3, 64) + " " + strings.TrimLeft(unit.String(), "1")
		}
	}
	return strconv.FormatInt(int64(d), 10) + " ns"
}
