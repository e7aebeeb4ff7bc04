package stiggtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestStartAndClose(t *testing.T) {
	api, err := stiggtest.Start()
	require.NoError(t, err)
	require.Equal(t, 200, edge(t, api, "/v1/config/server-sdk-configuration.json").status)
	api.Close()
	api.Close()
	require.Error(t, edge(t, api, "/v1/config/server-sdk-configuration.json").err)
}

func TestCloseBeforeAnyRequest(t *testing.T) {
	for range 20 {
		api, err := stiggtest.Start()
		require.NoError(t, err)
		api.Close()
	}
}

func TestNewClosesWithTheTest(t *testing.T) {
	var api *stiggtest.Server
	t.Run("inner", func(t *testing.T) {
		api = stiggtest.New(t)
		require.Equal(t, 404, edge(t, api, "/").status)
	})
	require.Error(t, edge(t, api, "/").err)
}

func TestAPIKey(t *testing.T) {
	api := acme(t)
	ask := func(method, path, key string) answer {
		body, err := json.Marshal(map[string]any{
			"operationName": "GetEntitlementsState", "query": "query GetEntitlementsState { x }",
			"variables": map[string]any{"query": map[string]any{"customerId": "acme"}},
		})
		require.NoError(t, err)
		request, err := http.NewRequestWithContext(t.Context(), method, api.URL()+path, bytes.NewReader(body))
		require.NoError(t, err)
		request.Header["X-Api-Key"] = []string{key}
		response, err := client().Do(request)
		require.NoError(t, err)
		defer func() { require.NoError(t, response.Body.Close()) }()
		var buffer bytes.Buffer
		_, err = buffer.ReadFrom(response.Body)
		require.NoError(t, err)
		return answer{status: response.StatusCode, body: buffer.String()}
	}
	onEdge := func(key string) answer { return ask(http.MethodGet, acmePath, key) }
	onGraphQL := func(key string) answer { return ask(http.MethodPost, "/graphql", key) }

	require.Equal(t, 401, onEdge("").status)
	require.Equal(t, 401, onGraphQL("").status)
	parseState(t, onEdge("anything"))
	parseState(t, onGraphQL("anything"))

	api.SetAPIKey("right")
	require.Equal(t, 401, onEdge("").status)
	require.Equal(t, 401, onGraphQL("").status)
	require.Equal(t, 401, onEdge("wrong").status)
	require.Equal(t, 401, ask(http.MethodGet, "/v1/config/server-sdk-configuration.json", "wrong").status)
	wrong := onGraphQL("wrong")
	require.Equal(t, 200, wrong.status)
	require.Contains(t, wrong.body, `"code":"Unauthenticated"`)
	parseState(t, onEdge("right"))
	parseState(t, onGraphQL("right"))

	api.SetAPIKey("")
	parseState(t, onEdge("anything"))
}

func TestEdgeDocuments(t *testing.T) {
	api := stiggtest.New(t)
	for _, path := range []string{"config/server-sdk-configuration.json", "config/persistent-cache-service-configuration.json"} {
		before := edge(t, api, "/v1/"+path)
		require.Equal(t, 200, before.status)
		require.True(t, json.Valid([]byte(before.body)), before.body)
		api.SetEdgeDocument(path, `{"sentryDsn":"dsn"}`)
		require.JSONEq(t, `{"sentryDsn":"dsn"}`, edge(t, api, "/v1/"+path).body)
		api.SetEdgeDocument(path, "")
		require.Equal(t, before.body, edge(t, api, "/v1/"+path).body)
	}
}

func TestEventQueueCredentials(t *testing.T) {
	api := stiggtest.New(t)
	path := func(query string) string { return "/v1/credentials/event-queue.json?" + query }
	queue := "queueUrl=" + url.QueryEscape("http://localhost/queue")
	for query, life := range map[string]time.Duration{queue: time.Hour, queue + "&durationSeconds=900": 15 * time.Minute} {
		a := edge(t, api, path(query))
		require.Equal(t, 200, a.status)
		var credentials struct {
			AccessKeyID, SecretAccessKey, SessionToken string
			Expiration                                 time.Time
		}
		require.NoError(t, json.Unmarshal([]byte(a.body), &credentials))
		require.NotEmpty(t, credentials.AccessKeyID)
		require.NotEmpty(t, credentials.SecretAccessKey)
		require.NotEmpty(t, credentials.SessionToken)
		require.WithinDuration(t, time.Now().Add(life), credentials.Expiration, time.Minute)
	}
	for _, query := range []string{"", queue + "&durationSeconds=899", queue + "&durationSeconds=3601", queue + "&durationSeconds=x"} {
		require.Equal(t, 400, edge(t, api, path(query)).status, query)
	}
	api.SetEdgeDocument("credentials/event-queue.json", `{}`)
	require.Equal(t, `{}`, edge(t, api, path(queue)).body)
}

func TestPathsThatAreNotThere(t *testing.T) {
	api := acme(t)
	for _, path := range []string{
		"/", "/v1/", "/v2/c/acme/entitlements-state.json", "/v1/c/acme/entitlements.json", "/v1/c/a/b/entitlements-state.json",
		"/v1/c//entitlements-state.json", "/graphql/", "/config/server-sdk-configuration.json",
	} {
		require.Equal(t, 404, edge(t, api, path).status, path)
	}
	require.Equal(t, 405, edge(t, api, "/graphql").status)
	require.Equal(t, 400, edge(t, api, acmePath+"?resourceId=%zz").status)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL()+acmePath, nil)
	require.NoError(t, err)
	require.Equal(t, 405, do(request).status)
}

func TestRequestsTellWhatArrived(t *testing.T) {
	api := acme(t)
	begun := time.Now()
	edge(t, api, acmePath+"?resourceId=site%201")
	post(t, api, "ReportUsage", map[string]any{"input": map[string]any{"customerId": "acme", "resourceId": "site 1", "featureId": "calls", "value": 2}})
	edge(t, api, "/v1/config/server-sdk-configuration.json")
	edge(t, api, "/elsewhere")

	requests := api.Requests()
	require.Len(t, requests, 4)
	for _, r := range requests {
		require.Equal(t, "key", r.Header.Get("X-API-KEY"))
		require.False(t, r.Time.Before(begun))
	}
	first, second, third, fourth := requests[0], requests[1], requests[2], requests[3]
	require.Equal(t, stiggtest.APIEdge, first.API)
	require.Equal(t, http.MethodGet, first.Method)
	require.Equal(t, acmePath, first.Path)
	require.Equal(t, "resourceId=site%201", first.Query)
	require.Equal(t, "entitlements-state", first.Operation)
	require.Equal(t, []string{"acme", "site 1"}, []string{first.CustomerID, first.ResourceID})

	require.Equal(t, stiggtest.APIGraphQL, second.API)
	require.Equal(t, http.MethodPost, second.Method)
	require.Equal(t, "ReportUsage", second.Operation)
	require.Equal(t, []string{"acme", "site 1"}, []string{second.CustomerID, second.ResourceID})
	require.Equal(t, 2.0, second.Variables["input"].(map[string]any)["value"])
	require.True(t, json.Valid(second.Body))

	require.Equal(t, "server-sdk-configuration", third.Operation)
	require.Empty(t, third.CustomerID)
	require.Empty(t, fourth.API)

	require.Equal(t, 2, api.Count(stiggtest.Edge))
	require.Equal(t, 1, api.Count(stiggtest.GraphQL, stiggtest.Operation("ReportUsage")))
	require.Equal(t, 0, api.Count(stiggtest.Edge, stiggtest.Operation("ReportUsage")))
	require.Equal(t, 2, api.Count(stiggtest.Customer("acme")))
	require.Equal(t, 2, api.Count(stiggtest.Resource("acme", "site 1")))
	require.Equal(t, 0, api.Count(stiggtest.Resource("acme", "")))
	api.ResetRequests()
	require.Zero(t, api.Count())
	require.Len(t, requests, 4, "what was handed out stays")
}

func TestWaitForRequests(t *testing.T) {
	api := acme(t)
	waited := make(chan error, 1)
	go func() { waited <- api.WaitForRequests(t.Context(), 2, stiggtest.Edge) }()
	edge(t, api, acmePath)
	reportOne(t, api)
	select {
	case err := <-waited:
		require.Failf(t, "returned early", "%v", err)
	case <-time.After(20 * time.Millisecond):
	}
	edge(t, api, acmePath)
	require.NoError(t, <-waited)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := api.WaitForRequests(ctx, 3, stiggtest.Edge)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "2 of 3")
}

// A connection that is made while the server closes is not served afterwards.
func TestCloseMissesNoConnection(t *testing.T) {
	for range 300 {
		api, err := stiggtest.Start()
		require.NoError(t, err)
		address := strings.TrimPrefix(api.URL(), "http://")
		connections := make([]net.Conn, 8)
		var group sync.WaitGroup
		for i := range connections {
			group.Go(func() { connections[i], _ = net.Dial("tcp", address) }) // refused, if it is too late
		}
		api.Close()
		group.Wait()
		for _, c := range connections {
			if c == nil {
				continue
			}
			require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
			_, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			require.Error(t, err, "it was answered")
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, c.Close())
		}
	}
}
