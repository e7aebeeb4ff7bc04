package stiggtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// API names one of the two APIs that a [Server] fakes.
type API string

// The APIs. A request to any other path has none.
const (
	APIEdge    API = "edge"    // paths below /v1/
	APIGraphQL API = "graphql" // the path /graphql
)

// Request is one request that arrived. The maps and slices are shared by all
// copies of it: read them, do not change them.
type Request struct {
	API    API
	Method string
	// Path is the path as it was sent, with its escapes, without the query.
	Path string
	// Query is the query as it was sent, without the question mark.
	Query string
	// Operation is the operation's name on GraphQL. On the Edge API it is the
	// document's name without .json: entitlements-state,
	// server-sdk-configuration, persistent-cache-service-configuration,
	// event-queue.
	Operation string
	// CustomerID and ResourceID are what the request is about, unescaped.
	// They are empty for the operations that carry a list, such as
	// ReportUsageBulk.
	CustomerID string
	ResourceID string
	Header     http.Header
	Variables  map[string]any // GraphQL's variables, numbers as float64
	Body       []byte
	Time       time.Time // when it arrived
}

// Filter selects requests, for [Server.Count], [Server.WaitForRequests] and
// [Fault.On]. Several filters select what all of them select. Any function of
// this shape can be one; it must be quick and must not call the server.
type Filter func(Request) bool

// Edge is a [Filter] that selects requests to the Edge API.
func Edge(r Request) bool { return r.API == APIEdge }

// GraphQL is a [Filter] that selects requests to the GraphQL API.
func GraphQL(r Request) bool { return r.API == APIGraphQL }

// Operation selects the requests for one operation; see [Request].
func Operation(name string) Filter {
	return func(r Request) bool { return r.Operation == name }
}

// Customer selects the requests about one customer and its resources.
func Customer(customerID string) Filter {
	return func(r Request) bool { return r.CustomerID == customerID }
}

// Resource selects the requests about one resource of a customer.
func Resource(customerID, resourceID string) Filter {
	return func(r Request) bool { return r.CustomerID == customerID && r.ResourceID == resourceID }
}

func selects(filters []Filter, r Request) bool {
	for _, filter := range filters {
		if !filter(r) {
			return false
		}
	}
	return true
}

// Requests returns the requests that arrived so far and that all filters
// select, oldest first.
func (s *Server) Requests(filters ...Filter) []Request {
	s.mu.Lock()
	all := slices.Clone(s.requests)
	s.mu.Unlock()
	return slices.DeleteFunc(all, func(r Request) bool { return !selects(filters, r) })
}

// Count returns the number of requests that arrived so far and that all
// filters select.
func (s *Server) Count(filters ...Filter) int { return len(s.Requests(filters...)) }

// ResetRequests forgets the requests that arrived so far.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// WaitForRequests waits until at least n requests have arrived that all
// filters select. The error is the context's, with the number that did.
func (s *Server) WaitForRequests(ctx context.Context, n int, filters ...Filter) error {
	for {
		s.mu.Lock()
		arrival := s.arrival // taken before counting, so that none is missed
		s.mu.Unlock()
		got := s.Count(filters...)
		if got >= n {
			return nil
		}
		select {
		case <-arrival:
		case <-ctx.Done():
			return fmt.Errorf("stiggtest: %d of %d requests arrived: %w", got, n, ctx.Err())
		}
	}
}

// newRequest describes a request. What it cannot read it leaves empty: to
// refuse the request is the answer's part.
func newRequest(r *http.Request, body []byte) Request {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	request := Request{
		Method: r.Method,
		Path:   path,
		Query:  query,
		Header: r.Header.Clone(),
		Body:   body,
		Time:   time.Now(),
	}
	switch {
	case path == "/graphql":
		request.API = APIGraphQL
		request.Operation, request.Variables, request.CustomerID, request.ResourceID = describeGraphQL(r, body)
	case strings.HasPrefix(path, "/v1/"):
		request.API = APIEdge
		request.Operation = strings.TrimSuffix(path[strings.LastIndex(path, "/")+1:], ".json")
		request.CustomerID, _ = customerOfPath(path)
		request.ResourceID = r.URL.Query().Get("resourceId")
	}
	return request
}

func describeGraphQL(r *http.Request, body []byte) (operation string, variables map[string]any, customerID, resourceID string) {
	var payload struct {
		OperationName string         `json:"operationName"`
		Variables     map[string]any `json:"variables"`
	}
	// A body that cannot be read leaves the operation to the header.
	_ = json.Unmarshal(body, &payload)
	operation = payload.OperationName
	if operation == "" {
		operation = r.Header.Get("X-Graphql-Operation-Name")
	}
	for _, argument := range payload.Variables {
		if fields, ok := argument.(map[string]any); ok {
			customerID, _ = fields["customerId"].(string)
			resourceID, _ = fields["resourceId"].(string)
		}
	}
	return operation, payload.Variables, customerID, resourceID
}

// record keeps the request, wakes those who wait for it, and takes the faults
// that are due for it.
func (s *Server) record(r Request) (*Fault, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	close(s.arrival)
	s.arrival = make(chan struct{})
	return s.takeFaults(r)
}
