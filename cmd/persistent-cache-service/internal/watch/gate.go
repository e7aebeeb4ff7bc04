package watch

import (
	"context"
	"sync"
	"time"
)

const (
	// probeInterval is the time between two probes.
	probeInterval = time.Second
	// probeTimeout bounds a probe.
	probeTimeout = time.Second
	// probeFailures is how many probes have to fail in a row.
	probeFailures = 2
)

// Gate watches a dependency without which nothing can be done, by probing it
// all the time, and lets those who need it wait for it. It is closed until the
// first probe worked.
type Gate struct {
	*Dependency
	probe func(context.Context) error
	doubt chan struct{} // asks for a probe before it is due

	mu   sync.Mutex
	open chan struct{} // closed while the dependency is up
}

// NewGate makes a Gate. Nothing is probed until Run.
func NewGate(probe func(context.Context) error, onChange func(State)) *Gate {
	return &Gate{
		Dependency: NewDependency(onChange), probe: probe,
		doubt: make(chan struct{}, 1), open: make(chan struct{}),
	}
}

// Up reports whether the dependency is there.
func (g *Gate) Up() bool { return g.State().Up }

// Wait waits until the dependency is there. The error is ctx's.
func (g *Gate) Wait(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return ctx.Err()
	default:
	}
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Doubt says that the dependency failed someone, so that it is probed at once.
func (g *Gate) Doubt(err error) {
	g.Erred(err)
	select {
	case g.doubt <- struct{}{}:
	default:
	}
}

// Run probes until ctx ends.
func (g *Gate) Run(ctx context.Context) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	failures := 0
	for {
		err := g.probeOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			g.set(nil)
		default:
			failures++
			if failures >= probeFailures {
				g.set(err)
			} else {
				g.Erred(err)
				if !Sleep(ctx, probeInterval/5) {
					return
				}
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.doubt:
			// Not more often than this, however much is doubted.
			if !Sleep(ctx, probeInterval/10) {
				return
			}
		}
	}
}

func (g *Gate) probeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return g.probe(ctx)
}

func (g *Gate) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	isOpen := false
	select {
	case <-g.open:
		isOpen = true
	default:
	}
	if err == nil {
		g.Worked()
		if !isOpen {
			close(g.open)
		}
		return
	}
	g.Failed(err)
	if isOpen {
		g.open = make(chan struct{})
	}
}
