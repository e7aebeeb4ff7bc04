package stiggtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// maxBody bounds what is read of one request: more than the largest event
	// batch that a test sends.
	maxBody = 64 << 20
	// drainTimeout bounds how long Close waits for handlers. Only a fault's
	// own handler that ignores its request's context can take so long.
	drainTimeout = time.Second
)

// T is what [New] needs of a test. Any [testing.TB] is one.
type T interface {
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Server is a fake Stigg API. Make one with [New] or [Start]. Its methods are
// safe for concurrent use and take effect on the requests that arrive after
// they return.
type Server struct {
	url     string
	http    *http.Server
	served  chan struct{} // closed when the accept loop has ended
	closing chan struct{} // closed when Close begins: ends hung requests
	drained chan struct{} // closed when the last handler has ended

	mu        sync.Mutex
	closed    bool
	active    int // handlers that are running
	apiKey    string
	clock     clock
	customers map[string]*customer
	documents map[string]string
	eventCost map[string]eventCost
	events    []Event
	answered  map[idempotency]any
	lastID    int
	faults    []*activeFault
	requests  []Request
	arrival   chan struct{} // closed and replaced at each request
}

// New starts a server that is closed when the test ends. It fails the test if
// the machine has no port to give.
func New(t T) *Server {
	s, err := Start()
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server for a program that is not a test. Close it when done.
// The error is that of listening on a local port.
func Start() (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("stiggtest: %w", err)
	}
	s := &Server{
		url:       "http://" + listener.Addr().String(),
		served:    make(chan struct{}),
		closing:   make(chan struct{}),
		drained:   make(chan struct{}),
		customers: make(map[string]*customer),
		documents: make(map[string]string),
		eventCost: make(map[string]eventCost),
		answered:  make(map[idempotency]any),
		arrival:   make(chan struct{}),
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		// Serve returns when Close closes the listener, and has nothing to
		// say that a test would not notice by itself.
		_ = s.http.Serve(listener)
	}()
	return s, nil
}

// URL is the base of both APIs, without a path and without a slash at the end,
// such as "http://127.0.0.1:40123".
func (s *Server) URL() string { return s.url }

// Close ends the server at once: connections are closed, requests in flight
// (hung ones too) are aborted. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	if first {
		close(s.closing)
		if s.active == 0 {
			close(s.drained)
		}
	}
	s.mu.Unlock()

	_ = s.http.Close() // closing a listener and connections that are given up anyway
	<-s.served
	_ = s.http.Close() // a connection that was just being accepted is known only now
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-s.drained:
	case <-timeout.C:
	}
}

// SetAPIKey makes the server accept this API key only; with any other the Edge
// API answers 401 and the GraphQL API the error Unauthenticated. Until then,
// and after SetAPIKey(""), every key that is not empty is accepted. A request
// without a key is always answered with 401.
func (s *Server) SetAPIKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apiKey = key
}

// serve handles every request: record it, let the faults have it, check the
// key, answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		abort(w)
		return
	}
	defer s.leave()

	// Reading the whole body first also lets net/http notice a client that
	// goes away, which ends the request's context.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	request := newRequest(r, body)
	fault, delay := s.record(request)

	if !s.sleep(r.Context(), delay) {
		abort(w)
		return
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, request) })
	if fault == nil {
		answer.ServeHTTP(w, r)
		return
	}
	fault.serve(w, r, answer, s.closing)
}

// answer is what the server does when no fault prevents it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, request Request) {
	key := r.Header.Get("X-API-KEY")
	switch {
	case key == "":
		writeStatus(w, http.StatusUnauthorized)
	case !s.accepts(key) && request.API == APIGraphQL:
		writeJSON(w, http.StatusOK, s.errorBody(&apiError{"Unauthenticated", "invalid api key"}))
	case !s.accepts(key):
		writeStatus(w, http.StatusUnauthorized)
	case request.API == APIGraphQL:
		s.serveGraphQL(w, r, request)
	case request.API == APIEdge:
		s.serveEdge(w, r, request)
	default:
		writeStatus(w, http.StatusNotFound)
	}
}

func (s *Server) accepts(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apiKey == "" || s.apiKey == key
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.closed && s.active == 0 {
		close(s.drained)
	}
}

// writeStatus answers with a status that has no other body than its name.
func writeStatus(w http.ResponseWriter, status int) {
	text := strings.ToLower(http.StatusText(status))
	writeJSON(w, status, fmt.Appendf(nil, `{"message":%q}`, text))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
}
