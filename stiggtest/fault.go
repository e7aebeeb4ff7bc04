package stiggtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Fault is something that goes wrong with a request. Make one with [Latency],
// [Status], [Body], [Malformed], [HTML], [Truncated], [Hang], [Hold], [Reset],
// [Errors] or [Custom], narrow it with its methods, and add it with
// [Server.Fault]. A Fault is a value: each method returns a changed copy.
type Fault struct {
	filters    []Filter
	times      int
	latency    time.Duration
	retryAfter time.Duration
	// respond answers in the place of the server; nil for latency alone.
	respond func(w http.ResponseWriter, r *http.Request, answer http.Handler, closing <-chan struct{})
}

// Latency delays the answer by d. It goes together with any other fault: the
// latencies of all faults that apply to a request add up.
func Latency(d time.Duration) Fault { return Fault{latency: d} }

// Status answers with an HTTP status and a short JSON message. The operation
// is not carried out.
func Status(status int) Fault {
	return Fault{respond: func(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) {
		writeStatus(w, status)
	}}
}

// Body answers with a status, a content type and a body of your own. The
// operation is not carried out.
func Body(status int, contentType, body string) Fault {
	return Fault{respond: func(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the client has gone: nobody is left to tell
	}}
}

// Malformed answers 200 with a complete body that says it is JSON and is not.
// The operation is not carried out.
func Malformed() Fault {
	return Body(http.StatusOK, "application/json; charset=utf-8", `{"data":{"entitlementsState":{"entitlementsV2":[`)
}

// HTML answers with a status and a page for people, as a proxy in between
// does. The operation is not carried out.
func HTML(status int) Fault {
	page := fmt.Sprintf("<!doctype html><html><body><h1>%d %s</h1></body></html>", status, http.StatusText(status))
	return Body(status, "text/html; charset=utf-8", page)
}

// Truncated carries the operation out, sends the first half of the answer's
// body, and closes the connection.
func Truncated() Fault {
	return Fault{respond: func(w http.ResponseWriter, r *http.Request, answer http.Handler, _ <-chan struct{}) {
		whole := &capture{header: w.Header(), status: http.StatusOK}
		answer.ServeHTTP(whole, r)
		// A handler that writes less than it declared makes net/http close
		// the connection.
		w.Header().Set("Content-Length", strconv.Itoa(whole.body.Len()))
		w.WriteHeader(whole.status)
		_, _ = w.Write(whole.body.Bytes()[:whole.body.Len()/2]) // the client has gone: nobody is left to tell
	}}
}

// Hang never answers: the request ends when its client gives up or the server
// is closed. The operation is not carried out.
func Hang() Fault { return Hold(nil) }

// Hold lets requests wait until the channel is closed, then answers them as
// without a fault. Removing the fault does not release them.
func Hold(release <-chan struct{}) Fault {
	return Fault{respond: func(w http.ResponseWriter, r *http.Request, answer http.Handler, closing <-chan struct{}) {
		select {
		case <-release:
			answer.ServeHTTP(w, r)
		case <-r.Context().Done():
			abort(w)
		case <-closing:
			abort(w)
		}
	}}
}

// Reset resets the TCP connection without an answer. The operation is not
// carried out.
func Reset() Fault {
	return Fault{respond: func(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) { abort(w) }}
}

// Errors answers 200 with one GraphQL error that has this code and trace id;
// an empty one is left out. Both APIs fail this way. The operation is not
// carried out.
func Errors(code, traceID string) Fault {
	return Fault{respond: func(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) {
		writeJSON(w, http.StatusOK, errorBody(code, "stiggtest fault", traceID))
	}}
}

// Custom answers with the handler that wrap makes. It is given the handler
// that answers as without a fault, to call or not. Let your handler end when
// its request's context does.
func Custom(wrap func(answer http.Handler) http.Handler) Fault {
	return Fault{respond: func(w http.ResponseWriter, r *http.Request, answer http.Handler, _ <-chan struct{}) {
		wrap(answer).ServeHTTP(w, r)
	}}
}

// On narrows the fault to the requests that all filters select, such as
// [Edge] or [GraphQL]. Without it, every request is meant.
func (f Fault) On(filters ...Filter) Fault {
	f.filters = append(slices.Clip(f.filters), filters...)
	return f
}

// Times limits the fault to the next n requests that it applies to; n < 1 is
// no limit, which is also the default.
func (f Fault) Times(n int) Fault {
	f.times = n
	return f
}

// RetryAfter adds a Retry-After header, in whole seconds, rounded up.
func (f Fault) RetryAfter(d time.Duration) Fault {
	f.retryAfter = d
	return f
}

func (f *Fault) serve(w http.ResponseWriter, r *http.Request, answer http.Handler, closing <-chan struct{}) {
	if f.retryAfter > 0 {
		seconds := (f.retryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	f.respond(w, r, answer, closing)
}

// activeFault is a fault that was added to a server.
type activeFault struct {
	Fault
	left int // requests that it still applies to; negative: no limit
}

// Fault adds faults, after those that were added before. All latencies that
// apply to a request are added up; of the other faults the oldest that applies
// answers, so a script of answers is a list of faults with Times(1). The
// returned function removes the faults added by this call.
func (s *Server) Fault(faults ...Fault) (remove func()) {
	added := make([]*activeFault, len(faults))
	for i, fault := range faults {
		left := fault.times
		if left < 1 {
			left = -1
		}
		added[i] = &activeFault{Fault: fault, left: left}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, added...)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(f *activeFault) bool { return slices.Contains(added, f) })
	}
}

// ClearFaults removes all faults. Requests that are already held by one stay
// so.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFaults returns the fault that answers the request, if any, and the delay
// before any answer. It needs the lock.
func (s *Server) takeFaults(r Request) (answering *Fault, delay time.Duration) {
	for _, fault := range s.faults {
		if fault.left == 0 || (fault.respond != nil && answering != nil) || !selects(fault.filters, r) {
			continue
		}
		if fault.left > 0 {
			fault.left--
		}
		delay += fault.latency
		if fault.respond != nil {
			answering = &fault.Fault
		}
	}
	s.faults = slices.DeleteFunc(s.faults, func(f *activeFault) bool { return f.left == 0 })
	return answering, delay
}

// sleep waits for d and reports false if the client or the server ended first.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.closing:
		return false
	}
}

// abort ends the request without an answer, by a TCP reset.
func abort(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return // closed already
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // turns the close into a reset; without it the close still ends the request
	}
	_ = conn.Close() // nothing was promised to the client
}

// capture keeps an answer instead of sending it.
type capture struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *capture) Header() http.Header         { return c.header }
func (c *capture) WriteHeader(status int)      { c.status = status }
func (c *capture) Write(b []byte) (int, error) { return c.body.Write(b) }
