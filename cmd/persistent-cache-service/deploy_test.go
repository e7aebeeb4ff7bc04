package main

import (
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The alerts and the dashboard ask for metrics that the service publishes, and
// every metric of its own is shown somewhere.
func TestDeployFilesMatchTheMetrics(t *testing.T) {
	w := newWorld(t)
	s := start(t, w.environ())
	s.awaitReady(200, 10*time.Second)
	w.sqs.Send(w.queue, `{"type":"coupon.created"}`)
	w.sqs.WaitEmpty(w.queue, 10*time.Second)
	_, metrics := s.get("/metrics")
	published := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(metrics, -1) {
		published[m[1]] = true
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	alerts, dashboard := read("deploy/alerts.yaml"), read("deploy/grafana-dashboard.json")
	require.Contains(t, alerts, strings.TrimPrefix(operationsPage, "../../"), "where to read on")
	require.NoError(t, json.NewDecoder(strings.NewReader(dashboard)).Decode(&struct{ Panels []any }{}))
	for name, text := range map[string]string{"alerts": alerts, "dashboard": dashboard} {
		names := regexp.MustCompile(`(persistent_cache|process)_\w+`).FindAllString(text, -1)
		require.NotEmpty(t, names)
		for _, metric := range names {
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(metric, "")
			require.True(t, published[metric] || published[base], "%s ask for %s, which is not published", name, metric)
		}
	}
	operations := read(operationsPage)
	for metric := range published {
		if strings.HasPrefix(metric, "persistent_cache_") {
			require.Contains(t, operations, metric, operationsPage)
		}
	}
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(alerts, -1) {
		require.Contains(t, operations, alert[1], operationsPage)
	}
}

// Whatever leaves a message in the queue is alerted of.
func TestAlertOfEveryMessageLeft(t *testing.T) {
	operations, err := os.ReadFile(operationsPage)
	require.NoError(t, err)
	alerts, err := os.ReadFile("deploy/alerts.yaml")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(operations), "| outcome | meaning |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	selectors := regexp.MustCompile(`outcome=~"([^"]+)"`).FindAllStringSubmatch(string(alerts), -1)
	require.NotEmpty(t, selectors)
	left := regexp.MustCompile("(?m)^\\| (`.+?`) \\|").FindAllStringSubmatch(table, -1)
	require.NotEmpty(t, left)
	for _, row := range left {
		for _, outcome := range regexp.MustCompile(`\w+`).FindAllString(row[1], -1) {
			for _, selector := range selectors {
				require.Contains(t, strings.Split(selector[1], "|"), outcome)
			}
		}
	}
}

// operationsPage tells what each failure looks like.
const operationsPage = "../../docs/operations.md"

// The manifest sets only variables that the service reads, and asks only for
// paths that it answers.
func TestManifestMatchesTheService(t *testing.T) {
	text, err := os.ReadFile("deploy/kubernetes.yaml")
	require.NoError(t, err)
	_, help, _ := command(t, nil, "--help")
	for _, m := range regexp.MustCompile(`(?m)^ +- name: ([A-Z_]+)$`).FindAllStringSubmatch(string(text), -1) {
		if m[1] != "GOMEMLIMIT" {
			require.Contains(t, help, m[1])
		}
	}
	for _, m := range regexp.MustCompile(`path: (/\S+)`).FindAllStringSubmatch(string(text), -1) {
		require.Contains(t, []string{"/livez", "/readyz", "/metrics"}, m[1])
	}
	readme, err := os.Open(operationsPage)
	require.NoError(t, err)
	defer readme.Close()
	operations, err := io.ReadAll(readme)
	require.NoError(t, err)
	for line := range strings.Lines(help) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok && regexp.MustCompile(`^[A-Z][A-Z_]+$`).MatchString(name) {
			require.Contains(t, string(operations), name)
		}
	}
}
