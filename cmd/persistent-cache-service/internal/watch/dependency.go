// Package watch knows the state of what the service depends on: whether it
// works, since when, and what went wrong last.
package watch

import (
	"sync"
	"time"
)

const (
	// missesInARow and missesFor are how many uses in a row have to fail, and
	// for how long none may have worked, before a dependency that fails some of
	// its users and not others counts as away.
	missesInARow = 3
	missesFor    = 10 * time.Second
)

// State is what is known of a dependency at one moment.
type State struct {
	Known     bool // it was tried at all
	Up        bool
	Since     time.Time // of being up, or of being away
	LastError error     // the last failure; nil if there was none
	LastErrAt time.Time
}

// Dependency is something that the service depends on. It counts as away until
// it first worked. It is safe for concurrent use.
type Dependency struct {
	mu       sync.Mutex
	state    State
	worked   time.Time // when it last did
	misses   int       // since then
	onChange func(State)
}

// NewDependency makes a Dependency. onChange is told when it comes and goes;
// it must be quick, and must not ask the Dependency.
func NewDependency(onChange func(State)) *Dependency {
	return &Dependency{state: State{Since: time.Now()}, onChange: onChange}
}

// State returns what is known now.
func (d *Dependency) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Worked says that it worked.
func (d *Dependency) Worked() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.worked, d.misses = time.Now(), 0
	d.turn(true)
}

// Erred notes an error that does not make it away.
func (d *Dependency) Erred(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state.LastError, d.state.LastErrAt = err, time.Now()
}

// Failed says that it is away, and why.
func (d *Dependency) Failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state.LastError, d.state.LastErrAt = err, time.Now()
	d.turn(false)
}

// Missed says that it failed one of many who use it at the same time, and why.
// That it is away is believed when nobody finds it working any more, so that it
// does not come and go with every use while it fails some of them.
func (d *Dependency) Missed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.state.LastError, d.state.LastErrAt = err, now
	d.misses++
	if !d.state.Known || d.misses >= missesInARow && now.Sub(d.worked) >= missesFor {
		d.turn(false)
	}
}

func (d *Dependency) turn(up bool) {
	if d.state.Known && d.state.Up == up {
		return
	}
	d.state.Known, d.state.Up, d.state.Since = true, up, time.Now()
	if d.onChange != nil {
		d.onChange(d.state)
	}
}
