package stiggtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

const acmePath = "/v1/c/acme/entitlements-state.json"

// acme starts a server that knows one customer.
func acme(t *testing.T) *stiggtest.Server {
	t.Helper()
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Metered("calls", 10, 1), stiggtest.Credit("tokens", 10, 1))
	return api
}

func reportOne(t *testing.T, api *stiggtest.Server) answer {
	t.Helper()
	return post(t, api, "ReportUsage", map[string]any{"input": map[string]any{"customerId": "acme", "featureId": "calls", "value": 1}})
}

func TestFaultsOnTheWire(t *testing.T) {
	ok := http.StatusOK
	tests := map[string]struct {
		fault stiggtest.Fault
		check func(t *testing.T, a answer)
		done  bool // the operation is carried out nevertheless
	}{
		"status": {fault: stiggtest.Status(503), check: func(t *testing.T, a answer) {
			require.NoError(t, a.err)
			require.Equal(t, 503, a.status)
			require.JSONEq(t, `{"message":"service unavailable"}`, a.body)
			require.Empty(t, a.header.Get("Retry-After"))
		}},
		"retry after": {fault: stiggtest.Status(429).RetryAfter(1200 * time.Millisecond), check: func(t *testing.T, a answer) {
			require.Equal(t, 429, a.status)
			require.Equal(t, "2", a.header.Get("Retry-After"))
		}},
		"body": {fault: stiggtest.Body(ok, "text/plain", "hello"), check: func(t *testing.T, a answer) {
			require.Equal(t, answer{status: ok, header: a.header, body: "hello"}, a)
			require.Equal(t, "text/plain", a.header.Get("Content-Type"))
		}},
		"malformed": {fault: stiggtest.Malformed(), check: func(t *testing.T, a answer) {
			require.NoError(t, a.err)
			require.Equal(t, ok, a.status)
			require.Contains(t, a.header.Get("Content-Type"), "application/json")
			require.True(t, strings.HasPrefix(a.body, `{"data":`) && strings.HasSuffix(a.body, "["), a.body)
		}},
		"html": {fault: stiggtest.HTML(502), check: func(t *testing.T, a answer) {
			require.Equal(t, 502, a.status)
			require.Contains(t, a.header.Get("Content-Type"), "text/html")
			require.Contains(t, a.body, "<h1>502 Bad Gateway</h1>")
		}},
		"truncated": {done: true, fault: stiggtest.Truncated(), check: func(t *testing.T, a answer) {
			require.ErrorIs(t, a.err, io.ErrUnexpectedEOF)
			require.Equal(t, ok, a.status)
			require.True(t, strings.HasPrefix(a.body, `{"data":`) && !strings.HasSuffix(a.body, "}}}"), a.body)
		}},
		"reset": {fault: stiggtest.Reset(), check: func(t *testing.T, a answer) {
			require.ErrorIs(t, a.err, syscall.ECONNRESET)
		}},
		"errors": {fault: stiggtest.Errors("Forbidden", "trace-7"), check: func(t *testing.T, a answer) {
			require.Equal(t, ok, a.status)
			require.JSONEq(t, `{"data":null,"errors":[{"message":"stiggtest fault","extensions":{"code":"Forbidden","traceId":"trace-7"}}]}`, a.body)
		}},
		"errors without extensions": {fault: stiggtest.Errors("", ""), check: func(t *testing.T, a answer) {
			require.JSONEq(t, `{"data":null,"errors":[{"message":"stiggtest fault","extensions":{}}]}`, a.body)
		}},
		"custom": {fault: stiggtest.Custom(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body) // the body can still be read
				if err != nil || (r.Method == http.MethodPost) != strings.Contains(string(body), "ReportUsage") {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				w.WriteHeader(http.StatusTeapot)
			})
		}), check: func(t *testing.T, a answer) { require.Equal(t, http.StatusTeapot, a.status) }},
		"custom that answers": {done: true, fault: stiggtest.Custom(func(answer http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Extra", "1")
				answer.ServeHTTP(w, r)
			})
		}), check: func(t *testing.T, a answer) {
			require.Equal(t, "1", a.header.Get("X-Extra"))
			require.True(t, strings.HasSuffix(a.body, "}}}"), a.body)
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			api := acme(t)
			remove := api.Fault(test.fault)
			test.check(t, edge(t, api, acmePath))
			test.check(t, reportOne(t, api))
			remove()
			usage := 1.0
			if test.done {
				usage = 2
			}
			require.Equal(t, usage, state(t, api, "acme").get(t, "calls", "currentUsage"))
			require.Equal(t, 3, api.Count(), "swallowed requests are counted too")
		})
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	api := acme(t)
	api.Fault(stiggtest.Hang())
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL()+acmePath, nil)
	require.NoError(t, err)
	hung := make(chan answer, 1)
	go func() { hung <- do(request) }()
	require.NoError(t, api.WaitForRequests(t.Context(), 1))
	select {
	case a := <-hung:
		require.Failf(t, "answered", "%+v", a)
	case <-time.After(30 * time.Millisecond):
	}
	cancel()
	require.ErrorIs(t, (<-hung).err, context.Canceled)
}

func TestCloseEndsHungRequests(t *testing.T) {
	released := make(chan struct{})
	defer close(released)
	faults := map[string]stiggtest.Fault{
		"hang":    stiggtest.Hang(),
		"latency": stiggtest.Latency(time.Hour),
		"hold":    stiggtest.Hold(make(chan struct{})),
		"custom waits for its context": stiggtest.Custom(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}),
		"custom ignores everything": stiggtest.Custom(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-released })
		}),
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			api := acme(t)
			api.Fault(fault)
			hung := make(chan answer, 2)
			go func() { hung <- edge(t, api, acmePath) }()
			go func() { hung <- reportOne(t, api) }()
			require.NoError(t, api.WaitForRequests(t.Context(), 2))
			begun := time.Now()
			api.Close()
			require.Less(t, time.Since(begun), 5*time.Second)
			require.Error(t, (<-hung).err)
			require.Error(t, (<-hung).err)
		})
	}
}

func TestHoldAnswersWhenReleased(t *testing.T) {
	api := acme(t)
	release := make(chan struct{})
	api.Fault(stiggtest.Hold(release))
	held := make(chan answer, 1)
	go func() { held <- edge(t, api, acmePath) }()
	require.NoError(t, api.WaitForRequests(t.Context(), 1))
	api.ClearFaults()
	require.NoError(t, api.SetUsage("acme", "calls", 5))
	close(release)
	require.Equal(t, 5.0, parseState(t, <-held).get(t, "calls", "currentUsage"))
}

func TestLatencyAddsUpAndGoesWithOtherFaults(t *testing.T) {
	api := acme(t)
	api.Fault(stiggtest.Latency(30*time.Millisecond), stiggtest.Status(500), stiggtest.Latency(30*time.Millisecond))
	begun := time.Now()
	require.Equal(t, 500, edge(t, api, acmePath).status)
	require.GreaterOrEqual(t, time.Since(begun), 60*time.Millisecond)
}

func TestFaultsAreAScript(t *testing.T) {
	api := acme(t)
	api.Fault(stiggtest.Status(500).Times(1), stiggtest.Status(429).Times(2), stiggtest.Reset().Times(1))
	var got []int
	for range 5 {
		a := edge(t, api, acmePath)
		if errors.Is(a.err, syscall.ECONNRESET) {
			a.status = -1
		}
		got = append(got, a.status)
	}
	require.Equal(t, []int{500, 429, 429, -1, 200}, got)
}

func TestFaultsAreNarrowed(t *testing.T) {
	api := acme(t)
	status := func() [2]int { return [2]int{edge(t, api, acmePath).status, reportOne(t, api).status} }

	removeEdge := api.Fault(stiggtest.Status(500).On(stiggtest.Edge))
	removeGraphQL := api.Fault(stiggtest.Status(501).On(stiggtest.GraphQL))
	require.Equal(t, [2]int{500, 501}, status())
	removeEdge()
	require.Equal(t, [2]int{200, 501}, status())
	removeEdge() // again: nothing
	removeGraphQL()
	require.Equal(t, [2]int{200, 200}, status())

	api.Fault(stiggtest.Status(500).On(stiggtest.Operation("ReportUsage"), stiggtest.Customer("other")))
	require.Equal(t, [2]int{200, 200}, status())
	api.Fault(stiggtest.Status(500).On(stiggtest.Operation("ReportUsage")).On(stiggtest.Customer("acme")))
	require.Equal(t, [2]int{200, 500}, status())
	api.ClearFaults()
	require.Equal(t, [2]int{200, 200}, status())
}

// A fault is a value: narrowing one copy must not narrow another.
func TestFaultsCopy(t *testing.T) {
	api := acme(t)
	base := stiggtest.Status(500).On(stiggtest.Edge)
	other, ours := base.On(stiggtest.Customer("other")), base.On(stiggtest.Customer("acme")).Times(1)
	api.Fault(other, ours)
	require.Equal(t, 500, edge(t, api, acmePath).status)
	require.Equal(t, 200, edge(t, api, acmePath).status)
	api.Fault(ours)
	require.Equal(t, 500, edge(t, api, acmePath).status)
	require.Equal(t, 500, edge(t, api, "/v1/c/other/entitlements-state.json").status)
}

// A fault comes before the check of the key, as a proxy in between does.
func TestFaultsComeBeforeTheKey(t *testing.T) {
	api := acme(t)
	api.SetAPIKey("right")
	require.Equal(t, 401, edge(t, api, acmePath).status)
	api.Fault(stiggtest.Status(503))
	require.Equal(t, 503, edge(t, api, acmePath).status)
}

// The lost answer of a change that was made: its repetition must not make it
// again.
func TestTruncatedConsumptionIsRepeatable(t *testing.T) {
	api := acme(t)
	api.Fault(stiggtest.Truncated().Times(1))
	input := map[string]any{"input": map[string]any{"customerId": "acme", "currencyId": "tokens", "amount": 3, "idempotencyKey": "k"}}
	require.Error(t, post(t, api, "ConsumeCredits", input).err)
	require.NoError(t, post(t, api, "ConsumeCredits", input).err)
	require.Equal(t, 4.0, state(t, api, "acme").get(t, "tokens", "currentUsage"))
}
