// Package health tells whether a dependency is worth asking. After a few
// failures in a row it is not asked by callers any more; it is probed beside
// them until it answers, so that its absence costs no caller any time.
package health

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a Monitor.
type Config struct {
	// Probe asks the dependency for a sign of life.
	Probe func(context.Context) error
	// ProbeTimeout bounds one probe.
	ProbeTimeout time.Duration
	// Interval is the time between two probes.
	Interval time.Duration
	// Threshold is how many failures in a row make the dependency count as away.
	Threshold int
	// OnLost is called when it begins to count as away, OnBack when it
	// answered again. Neither is called concurrently with the other, and both
	// must be quick.
	OnLost func(err error)
	OnBack func(away time.Duration)
}

// State is what a Monitor knows at one moment.
type State struct {
	Up        bool
	Since     time.Time // of being up, or of being away
	LastError error     // the last failure; nil if there was none
	LastErrAt time.Time
}

// Monitor watches one dependency. It is safe for concurrent use.
type Monitor struct {
	config   Config
	away     atomic.Bool
	failures atomic.Int32

	mu      sync.Mutex
	state   State
	closed  bool
	stop    context.CancelFunc
	context context.Context
	probing sync.WaitGroup
}

// New makes a Monitor that trusts the dependency until it fails.
func New(config Config) *Monitor {
	m := &Monitor{config: config, state: State{Up: true, Since: time.Now()}}
	m.context, m.stop = context.WithCancel(context.Background())
	return m
}

// Up reports whether the dependency is worth asking.
func (m *Monitor) Up() bool { return !m.away.Load() }

// Succeeded says that the dependency answered.
func (m *Monitor) Succeeded() {
	if m.failures.Load() != 0 {
		m.failures.Store(0)
	}
}

// Failed says that the dependency did not answer.
func (m *Monitor) Failed(err error) {
	failures := m.failures.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.LastError, m.state.LastErrAt = err, time.Now()
	if int(failures) < m.config.Threshold || m.closed || !m.state.Up {
		return
	}
	m.state.Up, m.state.Since = false, time.Now()
	m.away.Store(true)
	m.probing.Add(1) // before anybody is told: it must go on whatever they do
	go m.probe()
	if m.config.OnLost != nil {
		m.config.OnLost(err)
	}
}

// State returns what is known now.
func (m *Monitor) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

func (m *Monitor) probe() {
	defer m.probing.Done()
	tick := time.NewTicker(m.config.Interval)
	defer tick.Stop()
	for {
		select {
		case <-m.context.Done():
			return
		case <-tick.C:
		}
		err := m.probeOnce()
		if m.context.Err() != nil {
			return
		}
		m.mu.Lock()
		if err != nil {
			m.state.LastError, m.state.LastErrAt = err, time.Now()
			m.mu.Unlock()
			continue
		}
		away := time.Since(m.state.Since)
		m.state.Up, m.state.Since = true, time.Now()
		m.failures.Store(0)
		m.away.Store(false)
		if m.config.OnBack != nil {
			m.config.OnBack(away)
		}
		m.mu.Unlock()
		return
	}
}

func (m *Monitor) probeOnce() error {
	ctx, cancel := context.WithTimeout(m.context, m.config.ProbeTimeout)
	defer cancel()
	return m.config.Probe(ctx)
}

// Close ends the probing. It waits for a probe that is under way.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.probing.Wait()
}
