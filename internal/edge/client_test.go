package edge_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/edge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) *edge.Client {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := edge.New(edge.Config{BaseURL: s.URL + "/", APIKey: "secret-key", UserAgent: "agent/1"})
	t.Cleanup(c.CloseIdle)
	return c
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func TestEntitlementsStateOfRecordedCustomers(t *testing.T) {
	raw, err := os.ReadFile("testdata/edge-entitlements-state.json")
	require.NoError(t, err)
	var answers map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &answers))
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v1/c/"), "/entitlements-state.json")
		if resource := r.URL.Query().Get("resourceId"); resource != "" {
			name += "/" + resource
		}
		_, _ = w.Write(answers[name])
	})
	require.NotEmpty(t, answers)
	for name, answer := range answers {
		var want struct {
			Data struct {
				EntitlementsState struct {
					EntitlementsV2     []json.RawMessage
					AccessDeniedReason entitlements.AccessDeniedReason
				}
			}
		}
		require.NoError(t, json.Unmarshal(answer, &want))
		customer, resource, _ := strings.Cut(name, "/")
		state, err := c.EntitlementsState(t.Context(), customer, resource)
		require.NoError(t, err, name)
		require.Len(t, state.Records, len(want.Data.EntitlementsState.EntitlementsV2), name)
		require.Equal(t, want.Data.EntitlementsState.AccessDeniedReason, state.AccessDeniedReason, name)
	}
}

func TestRequestsAreAsDocumented(t *testing.T) {
	var got *http.Request
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		answer(`{"data":{"entitlementsState":{}}}`)(w, r)
	})

	_, err := c.EntitlementsState(t.Context(), "cust-1", "res-1")
	require.NoError(t, err)
	require.Equal(t, "/v1/c/cust-1/entitlements-state.json?resourceId=res-1", got.RequestURI)
	require.Equal(t, http.MethodGet, got.Method)
	require.Equal(t, "secret-key", got.Header.Get("X-API-KEY"))
	require.Equal(t, "1", got.Header.Get("X-API-VERSION"))
	require.Equal(t, "agent/1", got.Header.Get("User-Agent"))

	require.NoError(t, c.CheckAPIKey(t.Context()))
	require.Equal(t, "/v1/config/server-sdk-configuration.json", got.RequestURI)

	_, err = c.PersistentCacheServiceConfiguration(t.Context())
	require.NoError(t, err)
	require.Equal(t, "/v1/config/persistent-cache-service-configuration.json", got.RequestURI)

	_, err = c.EventQueueCredentials(t.Context(), "https://sqs/1/q?a=b&c", 0)
	require.ErrorIs(t, err, apierr.ErrMalformedResponse)
	require.Equal(t, "/v1/credentials/event-queue.json?queueUrl=https%3A%2F%2Fsqs%2F1%2Fq%3Fa%3Db%26c", got.RequestURI)
	_, err = c.EventQueueCredentials(t.Context(), "q", time.Hour)
	require.ErrorIs(t, err, apierr.ErrMalformedResponse)
	require.Equal(t, "3600", got.URL.Query().Get("durationSeconds"))
}

// An id is one segment of the path, whatever is in it, as it was sent.
func TestIDsAreEscaped(t *testing.T) {
	var uri string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		uri = r.RequestURI
		answer(`{"data":{"entitlementsState":{}}}`)(w, r)
	})
	for _, id := range []string{
		"a/b?c#d %2F ..", ".", "..", "../..", "/", "//", "a;b,c", "a+b&c=d", "%", "%2e", `\`, "\n\x00", "\xff",
		"клиент-ñ-客户-🙂", "user@example.com", "has space", "entitlements-state.json",
	} {
		_, err := c.EntitlementsState(t.Context(), id, id)
		require.NoError(t, err, "%q", id)
		path, query, ok := strings.Cut(uri, "?")
		require.True(t, ok, uri)
		segments := strings.Split(path, "/")
		require.Len(t, segments, 5, uri)
		require.Equal(t, []string{"", "v1", "c"}, segments[:3], uri)
		require.Equal(t, "entitlements-state.json", segments[4], uri)
		require.NotContains(t, []string{".", ".."}, segments[3])
		got, err := url.PathUnescape(segments[3])
		require.NoError(t, err)
		require.Equal(t, id, got)
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		require.Equal(t, url.Values{"resourceId": {id}}, values)
	}
}

func TestErrors(t *testing.T) {
	const secret = "secret"
	for name, c := range map[string]struct {
		status int
		body   string
		kind   error
	}{
		"bad key":       {401, secret, apierr.ErrUnauthenticated},
		"not found":     {404, secret, apierr.ErrNotFound},
		"html":          {200, "<html>" + secret, apierr.ErrMalformedResponse},
		"no data":       {200, `{"entitlementsV2":[]}`, apierr.ErrMalformedResponse},
		"null data":     {200, `{"data":null}`, apierr.ErrMalformedResponse},
		"data of type":  {200, `{"data":"secret"}`, apierr.ErrMalformedResponse},
		"no state":      {200, `{"data":{}}`, apierr.ErrMalformedResponse},
		"null state":    {200, `{"data":{"entitlementsState":null}}`, apierr.ErrMalformedResponse},
		"bad state":     {200, `{"data":{"entitlementsState":{"entitlementsV2":["secret"]}}}`, apierr.ErrMalformedResponse},
		"errors":        {200, `{"data":{"entitlementsState":{}},"errors":[{"message":"secret"}]}`, apierr.ErrRejected},
		"errors by key": {200, `{"errors":[{"extensions":{"code":"Unauthenticated"}}]}`, apierr.ErrUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			state, err := client.EntitlementsState(t.Context(), "secret-id", "")
			require.Zero(t, state)
			require.ErrorIs(t, err, c.kind)
			var e *apierr.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "GetEntitlementsState", e.Op)
			require.Equal(t, entitlements.SourceEdge, e.Source)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

func TestInvalidArguments(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	_, err := c.EntitlementsState(t.Context(), "", "r")
	require.ErrorIs(t, err, apierr.ErrInvalidArgument)
	_, err = c.EventQueueCredentials(t.Context(), "", 0)
	require.ErrorIs(t, err, apierr.ErrInvalidArgument)
	for _, d := range []time.Duration{-1, time.Minute, 2 * time.Hour} {
		_, err = c.EventQueueCredentials(t.Context(), "q", d)
		require.ErrorIs(t, err, apierr.ErrInvalidArgument, d)
	}
}

func TestMaxRetries(t *testing.T) {
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer s.Close()
	for configured, want := range map[int]int32{0: 4, 1: 2, -1: 1} {
		n.Store(0)
		c := edge.New(edge.Config{BaseURL: s.URL, MaxRetries: configured})
		err := c.CheckAPIKey(t.Context())
		c.CloseIdle()
		require.ErrorIs(t, err, apierr.ErrUnavailable)
		require.Equal(t, want, n.Load(), configured)
	}
}
