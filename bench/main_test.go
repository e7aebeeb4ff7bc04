package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hurried measures next to nothing, to see that everything works together.
func hurried(only string) options {
	return options{
		sizes: []int{large}, inFlight: []int{1, 8}, rounds: 1, window: time.Millisecond, counted: 20,
		only: regexp.MustCompile(only),
	}
}

func TestRunWritesDocumentAndCharts(t *testing.T) {
	o := hurried("^metered check(, in memory)?$")
	o.out = filepath.Join(t.TempDir(), "docs")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), o, &out))

	document, err := os.ReadFile(filepath.Join(o.out, documentName))
	require.NoError(t, err)
	for _, part := range []string{"### Metered check", "| " + sdkName + " |", "| rueidis |", "| golang-lru |", "| 200 × 8 |"} {
		require.Contains(t, string(document), part)
		require.Contains(t, out.String(), part, "what is written is printed as well")
	}
	for _, name := range []string{"benchmarks-1.svg", "benchmarks-8.svg"} {
		chart, err := os.ReadFile(filepath.Join(o.out, name))
		require.NoError(t, err)
		require.Contains(t, string(chart), "metered check")
		require.NotContains(t, string(chart), "in memory", "its floor is no Redis")
	}
}

func TestRunWritesProfile(t *testing.T) {
	o := hurried("in memory")
	o.profile = filepath.Join(t.TempDir(), "cpu")
	require.NoError(t, run(t.Context(), o, new(bytes.Buffer)))
	info, err := os.Stat(o.profile)
	require.NoError(t, err)
	require.Positive(t, info.Size())
}

func TestRunSaysThatNothingIsNamedSo(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), hurried("no such group"), new(bytes.Buffer)), "no such group")
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	o := hurried("")
	o.rounds = 1_000_000
	began := time.Now()
	require.Error(t, run(ctx, o, new(bytes.Buffer)))
	require.Less(t, time.Since(began), 20*time.Second)
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-short", "-o", "docs", "-run", "credit"}, new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, "docs", o.out)
	require.Equal(t, []int{10}, o.sizes)
	require.True(t, o.only.MatchString("credit check"))
	require.False(t, o.only.MatchString("metered check"))

	for _, args := range [][]string{{"-rounds", "0"}, {"-window", "-1s"}, {"-run", "("}, {"more"}, {"-unknown"}} {
		var usage bytes.Buffer
		_, err := parseOptions(args, &usage)
		require.Error(t, err, args)
		require.NotEmpty(t, usage.String(), args)
	}
}
