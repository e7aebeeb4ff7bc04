package stiggtest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The documents of the Edge API that are not about one customer.
const (
	sdkConfigurationPath   = "config/server-sdk-configuration.json"
	cacheConfigurationPath = "config/persistent-cache-service-configuration.json"
	eventQueuePath         = "credentials/event-queue.json"
)

// The life of event queue credentials that the API grants, in seconds.
const (
	minCredentialsSeconds = 900
	maxCredentialsSeconds = 3600
)

// SetEdgeDocument sets what the Edge API answers, with status 200, to a GET of
// /v1/ and the path: config/server-sdk-configuration.json,
// config/persistent-cache-service-configuration.json,
// credentials/event-queue.json, or any other. The body is sent as it is. An
// empty body brings the default answer back.
func (s *Server) SetEdgeDocument(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if body == "" {
		delete(s.documents, path)
		return
	}
	s.documents[path] = body
}

func (s *Server) serveEdge(w http.ResponseWriter, r *http.Request, request Request) {
	if r.Method != http.MethodGet {
		writeStatus(w, http.StatusMethodNotAllowed)
		return
	}
	query, err := url.ParseQuery(request.Query)
	if err != nil {
		writeStatus(w, http.StatusBadRequest)
		return
	}
	path := strings.TrimPrefix(request.Path, "/v1/")
	if body, ok := s.document(path); ok {
		writeJSON(w, http.StatusOK, []byte(body))
		return
	}
	switch path {
	case sdkConfigurationPath:
		writeJSON(w, http.StatusOK, []byte(`{"data":{"sdkConfiguration":{"sentryDsn":null}}}`))
	case cacheConfigurationPath:
		writeJSON(w, http.StatusOK, []byte(`{"sentryDsn":null}`))
	case eventQueuePath:
		serveEventQueue(w, query)
	default:
		customerID, ok := customerOfPath(request.Path)
		if !ok {
			writeStatus(w, http.StatusNotFound)
			return
		}
		writeJSON(w, http.StatusOK, s.stateBody(customerID, query.Get("resourceId")))
	}
}

func (s *Server) document(path string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.documents[path]
	return body, ok
}

// customerOfPath returns the customer whose entitlements the path names. The
// path is split before it is unescaped: an id that was not escaped names
// another path, as with the real API.
func customerOfPath(path string) (string, bool) {
	segments := strings.Split(path, "/")
	if len(segments) != 5 || segments[1] != "v1" || segments[2] != "c" || segments[4] != "entitlements-state.json" {
		return "", false
	}
	customerID, err := url.PathUnescape(segments[3])
	return customerID, err == nil && customerID != ""
}

func serveEventQueue(w http.ResponseWriter, query url.Values) {
	seconds := maxCredentialsSeconds
	if given := query.Get("durationSeconds"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < minCredentialsSeconds || n > maxCredentialsSeconds {
			writeStatus(w, http.StatusBadRequest)
			return
		}
		seconds = n
	}
	if query.Get("queueUrl") == "" {
		writeStatus(w, http.StatusBadRequest)
		return
	}
	expiration := time.Now().Add(time.Duration(seconds) * time.Second)
	writeJSON(w, http.StatusOK, fmt.Appendf(nil,
		`{"accessKeyId":"stiggtest-key-id","secretAccessKey":"stiggtest-secret","sessionToken":"stiggtest-token","expiration":%q}`,
		expiration.UTC().Format(wireTimeLayout)))
}
