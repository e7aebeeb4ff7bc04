// Package apierr defines the errors that callers of the SDK act on. The root
// package re-exports them.
package apierr

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stiggio/server-sdk-go/entitlements"
)

// The sentinels. Test with [errors.Is].
var (
	// ErrInvalidConfig: fix the Config; every wrong field is named.
	ErrInvalidConfig = errors.New("invalid config")
	// ErrInvalidArgument: the call was wrong and nothing was sent. Fix the caller.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrUnauthenticated: the API key is wrong or revoked. Retrying does not help.
	ErrUnauthenticated = errors.New("invalid api key")
	// ErrForbidden: the API key may not do this. Retrying does not help.
	ErrForbidden = errors.New("forbidden")
	// ErrNotFound: the API answered 404; its URL may be wrong. What a report or
	// a consumption names and the API does not know is an ErrRejected.
	ErrNotFound = errors.New("not found")
	// ErrRejected: the API understood the request and refused it; the
	// *Error's Code says why. Retrying does not help.
	ErrRejected = errors.New("rejected by the api")
	// ErrRateLimited: the API asks to slow down; the *Error's RetryAfter says for how long, when known.
	ErrRateLimited = errors.New("rate limited")
	// ErrUnavailable: the API could not be reached, timed out or failed. Try again later.
	ErrUnavailable = errors.New("api unavailable")
	// ErrMalformedResponse: the API answered something that is not an answer.
	ErrMalformedResponse = errors.New("malformed response")
	// ErrOffline: the client was configured to make no calls.
	ErrOffline = errors.New("client is offline")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client is closed")
)

// Error is a failed operation. Reach it with [errors.As].
type Error struct {
	Op         string              // the operation, such as "GetEntitlementsState"
	Source     entitlements.Source // who failed: edge or graphql
	Kind       error               // one of the sentinels
	Status     int                 // HTTP status; 0 when there was no answer
	Code       string              // the API's extensions.code, when it gave one
	TraceID    string              // the API's extensions.traceId: give it to Stigg's support
	RetryAfter time.Duration       // how long the API asked to wait; 0 when it did not say
	Err        error               // the cause, when there is one
}

// Error describes the failure without secrets and without bodies.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("stigg: ")
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Source != "" {
		b.WriteString(string(e.Source))
		b.WriteString(": ")
	}
	if e.Kind != nil {
		b.WriteString(e.Kind.Error())
	} else {
		b.WriteString("failed")
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (http %d)", e.Status)
	}
	if e.Code != "" {
		fmt.Fprintf(&b, " [%s]", e.Code)
	}
	if e.TraceID != "" {
		fmt.Fprintf(&b, " trace %s", e.TraceID)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the sentinel and the cause.
func (e *Error) Unwrap() []error {
	switch {
	case e.Kind != nil && e.Err != nil:
		return []error{e.Kind, e.Err}
	case e.Kind != nil:
		return []error{e.Kind}
	case e.Err != nil:
		return []error{e.Err}
	}
	return nil
}
