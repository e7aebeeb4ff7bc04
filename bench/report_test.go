package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDocumentKeepsWhatIsAroundTheResults(t *testing.T) {
	folder := t.TempDir()
	name := filepath.Join(folder, documentName)
	require.NoError(t, os.WriteFile(name, []byte("above\n"+beginMark+"\nold\n"+endMark+"\nbelow\n"), 0o600))
	require.NoError(t, writeDocument(folder, "new\n"))
	require.NoError(t, writeDocument(folder, "newer\n"))
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "above\n"+beginMark+"\n\nnewer\n\n"+endMark+"\nbelow\n", string(text))

	require.NoError(t, os.WriteFile(name, []byte("above\n"+endMark+beginMark), 0o600))
	require.ErrorContains(t, writeDocument(folder, "new"), "not both there")
}

func TestTheRepositoryHasADocumentForTheResults(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", documentName))
	require.NoError(t, err)
	_, err = between(string(text), "")
	require.NoError(t, err)
}

// sample makes the results of one group at one size, as they are after rounds
// in which the SDK was ratio times as fast as its floor.
func sample(name string, size, inFlight int, ratio float64) result {
	return result{
		group: group{name: name, about: "About it."}, size: size, value: 4600, inFlight: inFlight,
		figures: []figures{
			{way: "floor", window: window{rate: 20000, p50: 50 * time.Microsecond, p99: 1234 * time.Microsecond, cpu: 12345}, ratio: 1, low: 1, high: 1, allocs: 21, bytes: 5528},
			{way: sdkName, window: window{rate: 20000 * ratio, p50: 900, p99: 2 * time.Second, cpu: 15 * time.Microsecond}, ratio: ratio, low: ratio - 0.01, high: ratio + 0.01, allocs: 24, bytes: 5960},
		},
	}
}

func TestMarkdown(t *testing.T) {
	text := markdown("The machine.", []result{
		sample("a check", 10, 1, 0.9), sample("a check", 10, 64, 0.8),
		sample("another", 10, 1, 0.7), sample("another", 10, 64, 0.6),
	})
	require.Equal(t, `The machine.

Columns: entitlements of the customer × reads in flight.

| share of the floor's throughput | 10 × 1 | 10 × 64 | allocs on top |
| --- | ---: | ---: | ---: |
| a check | 0.90 | 0.80 | +3 |
| another | 0.70 | 0.60 | +3 |

### A check

About it.

| entitlements (value) | in flight |  | reads/s | ns/read | CPU/read | p50 | p99 | allocs | bytes | of the floor |
| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| 10 (4.6 kB) | 1 | floor | 20,000 | 50,000 | 12.3 µs | 50 µs | 1.23 ms | 21 | 5,528 | floor |
| 10 (4.6 kB) | 1 | this SDK | 18,000 | 55,556 | 15 µs | 900 ns | 2e+03 ms | 24 | 5,960 | 0.90 (0.89–0.91) |
| 10 (4.6 kB) | 64 | floor | 20,000 | 50,000 | 12.3 µs | 50 µs | 1.23 ms | 21 | 5,528 | floor |
| 10 (4.6 kB) | 64 | this SDK | 16,000 | 62,500 | 15 µs | 900 ns | 2e+03 ms | 24 | 5,960 | 0.80 (0.79–0.81) |
`, text[:strings.Index(text, "\n### Another")])
}

func TestSummarizeTakesMediansOfRatiosWithinARound(t *testing.T) {
	floor := []window{{rate: 100, p50: 1, p99: 10}, {rate: 1000, p50: 2, p99: 20}, {rate: 10, p50: 3, p99: 90}}
	own := []window{{rate: 50, p50: 4, p99: 40}, {rate: 900, p50: 5, p99: 50}, {rate: 8, p50: 6, p99: 60}}
	var f figures
	f.summarize(own, floor)
	require.Equal(t, 50.0, f.rate)
	require.Equal(t, 0.8, f.ratio)
	require.Equal(t, time.Duration(5), f.p50)
	require.Equal(t, time.Duration(50), f.p99)
}

func TestQuantile(t *testing.T) {
	values := []float64{1, 2, 3, 4, 5}
	require.Equal(t, 1.0, quantile(values, 0))
	require.Equal(t, 3.0, quantile(values, 0.5))
	require.Equal(t, 5.0, quantile(values, 0.99))
	require.Zero(t, quantile([]float64(nil), 0.5))
}
