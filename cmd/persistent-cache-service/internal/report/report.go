// Package report sends errors to Sentry: what went wrong and where in the
// program, never a message's body, a customer or a key.
package report

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/getsentry/sentry-go"
)

// Reporter reports errors once it was started. Its zero value reports nothing.
// It is safe for concurrent use.
type Reporter struct {
	client atomic.Pointer[sentry.Client]
}

// Start begins to report to the DSN. The error says that the DSN is none,
// without quoting it.
func (r *Reporter) Start(dsn, version, environment string) error {
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: dsn, Release: "persistent-cache-service@" + version, Environment: environment,
		// Without the default ones, which add the command line and source code.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
	})
	if err != nil {
		return fmt.Errorf("not a sentry dsn")
	}
	r.client.Store(client)
	return nil
}

// Panic reports a panic that was caught. Call it in the function that caught
// it, so that its place is known. The value of a panic can quote a message:
// only what the runtime says is sent.
func (r *Reporter) Panic(value any, messageType, messageID string) {
	client := r.client.Load()
	if client == nil {
		return
	}
	kind := fmt.Sprintf("%T", value)
	text := kind
	if err, ok := value.(runtime.Error); ok {
		text = err.Error()
	}
	event := sentry.NewEvent()
	event.Level = sentry.LevelFatal
	event.Exception = []sentry.Exception{{Type: "panic " + kind, Value: text, Stacktrace: sentry.NewStacktrace()}}
	event.Tags = map[string]string{"message_type": messageType, "message_id": messageID}
	client.CaptureEvent(event, nil, nil)
}

// Lost reports that a dependency went away.
func (r *Reporter) Lost(dependency string, err error) {
	client := r.client.Load()
	if client == nil {
		return
	}
	event := sentry.NewEvent()
	event.Level = sentry.LevelError
	event.Message = dependency + " is away: " + err.Error()
	event.Tags = map[string]string{"dependency": dependency}
	client.CaptureEvent(event, nil, nil)
}

// Close sends what is waiting to be sent, for no longer than wait.
func (r *Reporter) Close(wait time.Duration) {
	if client := r.client.Swap(nil); client != nil {
		client.Flush(wait)
		client.Close()
	}
}
