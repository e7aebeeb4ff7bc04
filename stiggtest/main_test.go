package stiggtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what came over the wire.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the exchange or of reading the body
}

// client keeps no connections, so that each request meets the fault on its
// own: net/http repeats a GET whose reused connection was reset.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func do(request *http.Request) answer {
	if request.Header.Get("X-API-KEY") == "" {
		request.Header.Set("X-API-KEY", "key")
	}
	response, err := client().Do(request)
	if err != nil {
		return answer{err: err}
	}
	body, err := io.ReadAll(response.Body)
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	return answer{status: response.StatusCode, header: response.Header, body: string(body), err: err}
}

// edge asks the Edge API for a path below its base.
func edge(t *testing.T, api *stiggtest.Server, path string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api.URL()+path, nil)
	require.NoError(t, err)
	return do(request)
}

// state asks the Edge API for a customer's entitlements.
func state(t *testing.T, api *stiggtest.Server, customer string) wireState {
	t.Helper()
	return parseState(t, edge(t, api, "/v1/c/"+customer+"/entitlements-state.json"))
}

func resourceState(t *testing.T, api *stiggtest.Server, customer, resource string) wireState {
	t.Helper()
	return parseState(t, edge(t, api, "/v1/c/"+customer+"/entitlements-state.json?resourceId="+resource))
}

// wireState is an entitlements state, each entitlement as it came.
type wireState struct {
	EntitlementsV2     []map[string]any `json:"entitlementsV2"`
	AccessDeniedReason *string          `json:"accessDeniedReason"`
}

// get returns a field of the entitlement to a feature or credit.
func (s wireState) get(t *testing.T, id, field string) any {
	t.Helper()
	for _, e := range s.EntitlementsV2 {
		for object, key := range map[string]string{"feature": "refId", "currency": "currencyId"} {
			if of, ok := e[object].(map[string]any); ok && of[key] == id {
				require.Contains(t, e, field)
				return e[field]
			}
		}
	}
	require.Failf(t, "not served", "entitlement %q", id)
	return nil
}

func parseState(t *testing.T, a answer) wireState {
	t.Helper()
	require.NoError(t, a.err)
	require.Equal(t, http.StatusOK, a.status, a.body)
	var body struct {
		Data struct {
			EntitlementsState *wireState `json:"entitlementsState"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	require.NotNil(t, body.Data.EntitlementsState, a.body)
	return *body.Data.EntitlementsState
}

// post sends a GraphQL operation as a client does.
func post(t *testing.T, api *stiggtest.Server, operation string, variables any) answer {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"operationName": operation, "variables": variables, "query": "query " + operation + " { __typename }",
	})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL()+"/graphql", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	return do(request)
}

// result carries out an operation and returns the one field of its data.
func result(t *testing.T, api *stiggtest.Server, operation, argument, input, field string) any {
	t.Helper()
	data, errs := exchange(t, api, operation, argument, input)
	require.Empty(t, errs)
	require.Len(t, data, 1)
	require.Contains(t, data, field)
	return data[field]
}

func object(t *testing.T, api *stiggtest.Server, operation, argument, input, field string) map[string]any {
	t.Helper()
	of, ok := result(t, api, operation, argument, input, field).(map[string]any)
	require.True(t, ok)
	return of
}

// errorCode carries out an operation that must fail, and returns the code.
func errorCode(t *testing.T, api *stiggtest.Server, operation, argument, input string) string {
	t.Helper()
	data, errs := exchange(t, api, operation, argument, input)
	require.Nil(t, data)
	require.Len(t, errs, 1)
	require.NotEmpty(t, errs[0].Message)
	require.NotEmpty(t, errs[0].Extensions.TraceID)
	return errs[0].Extensions.Code
}

type wireError struct {
	Message    string
	Extensions struct {
		Code    string
		TraceID string
	}
}

func exchange(t *testing.T, api *stiggtest.Server, operation, argument, input string) (map[string]any, []wireError) {
	t.Helper()
	a := post(t, api, operation, map[string]any{argument: json.RawMessage(input)})
	require.NoError(t, a.err)
	require.Equal(t, http.StatusOK, a.status, a.body)
	var body struct {
		Data   map[string]any
		Errors []wireError
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	return body.Data, body.Errors
}

func keys(of map[string]any) []string {
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	return names
}
