// Package metrics holds the figures that the service publishes for Prometheus.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are the figures of one service. No label is ever an id: the values
// of all labels are fixed in this program.
type Metrics struct {
	Registry *prometheus.Registry

	// The figures that the service has always published.
	WriteDuration   prometheus.Histogram
	WriteErrors     prometheus.Counter
	MessageDuration prometheus.Histogram
	Processed       prometheus.Counter

	Messages     *prometheus.CounterVec // type, outcome
	Lag          prometheus.Histogram
	SkippedOlder prometheus.Counter
	LockFailures prometheus.Counter
	Refetches    *prometheus.CounterVec // result
	Coalesced    prometheus.Counter
	RefetchWait  prometheus.Histogram
	Purged       prometheus.Counter
	Panics       prometheus.Counter
	QueueErrors  *prometheus.CounterVec // operation
	Heartbeats   prometheus.Counter
	Credentials  *prometheus.GaugeVec // source
}

var (
	// durations reach from a local Redis to one that is about to be given up.
	durations = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	// lags reach from at once to a backlog of a day.
	lags = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400}
)

// New makes the figures, with those of the Go runtime and of the process.
func New(version string) *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry()}
	m.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.Registry.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.Registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		m.Registry.MustRegister(h)
		return h
	}
	m.WriteDuration = histogram("persistent_cache_write_duration_seconds", "Time to write one change to Redis, failed tries included.", durations)
	m.WriteErrors = counter("persistent_cache_write_errors_total", "Writes to Redis that failed. They are tried again.")
	m.MessageDuration = histogram("persistent_cache_message_handling_duration_seconds", "Time from a message's arrival in this process until it was dealt with.", durations)
	m.Processed = counter("persistent_cache_messages_processed_total", "Messages that were dealt with and may be deleted from the queue.")

	m.Messages = counters("persistent_cache_messages_total", "Messages by type and by what became of them.", "type", "outcome")
	m.Lag = histogram("persistent_cache_message_lag_seconds", "Time from a message's being sent to the queue until it was dealt with.", lags)
	m.SkippedOlder = counter("persistent_cache_skipped_older_total", "Keys that were not written because Redis holds a newer value.")
	m.LockFailures = counter("persistent_cache_lock_failures_total", "Writes that were put off because another writer held the customer's lock.")
	m.Refetches = counters("persistent_cache_refetches_total", "Requests for a customer's state to the Edge API, by result: ok, error, or not_cached when none was needed.", "result")
	m.Coalesced = counter("persistent_cache_refetches_coalesced_total", "Messages that were served by a refetch that another message had asked for.")
	m.RefetchWait = histogram("persistent_cache_refetch_wait_seconds", "Time that a refetch waited for its turn: for one of those under way to end, and for the rate limit.", durations)
	m.Purged = counter("persistent_cache_purged_keys_total", "Keys deleted because a package was published to all customers.")
	m.Panics = counter("persistent_cache_panics_total", "Panics that were caught while a message was worked on. The message stays in the queue.")
	m.QueueErrors = counters("persistent_cache_queue_errors_total", "Failed calls to the queue, by operation.", "operation")
	m.Heartbeats = counter("persistent_cache_heartbeats_total", "Heartbeats written for readers.")
	m.Credentials = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "persistent_cache_credentials_source", Help: "1 for where the queue's credentials come from: aws or edge.",
	}, []string{"source"})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "persistent_cache_build_info", Help: "1, with the version of this program."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.Registry.MustRegister(m.Credentials, build)

	for _, result := range []string{"ok", "error", "not_cached"} {
		m.Refetches.WithLabelValues(result)
	}
	for _, operation := range []string{"receive", "delete", "visibility", "attributes"} {
		m.QueueErrors.WithLabelValues(operation)
	}
	return m
}

// Gauge adds a figure that is read when it is asked for.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}
