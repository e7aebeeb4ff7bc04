package refetch

import (
	"errors"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

// EventKind says what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	Started  EventKind = iota // a flight began
	Joined                    // a caller joined a flight that was under way
	Waited                    // another process has the refetch lock
	Fetched                   // the API was asked: Source, Err, Duration
	Written                   // an answer was written back: Result, Err
	Repeated                  // a failure of a moment ago was repeated: Err
)

// Event is something that a Group did.
type Event struct {
	Kind     EventKind
	Key      cache.Key
	Faults   cache.Faults // Started: why
	Source   entitlements.Source
	Result   cache.WriteResult
	Err      error
	Duration time.Duration
}

func (g *Group) event(e Event) {
	if g.config.OnEvent != nil {
		g.config.OnEvent(e)
	}
}

// kindOf gives the sentinel of an error of the API; ErrUnavailable for others.
func kindOf(err error) error {
	for _, kind := range []error{
		apierr.ErrClosed, apierr.ErrUnauthenticated, apierr.ErrForbidden, apierr.ErrNotFound,
		apierr.ErrRateLimited, apierr.ErrMalformedResponse, apierr.ErrRejected,
	} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return apierr.ErrUnavailable
}
