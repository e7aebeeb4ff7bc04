// Package watch knows the state of what the service depends on: whether it
// works, since when, and what went wrong last.
package watch

import (
	"sync"
	"time"
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

func (d *Dependency) turn(up bool) {
	if d.state.Known && d.state.Up == up {
		return
	}
	d.state.Known, d.state.Up, d.state.Since = true, up, time.Now()
	if d.onChange != nil {
		d.onChange(d.state)
	}
}
