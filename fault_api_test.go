package stigg_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// apiFaults are the ways in which an API fails, what they are called, and
// whether the other API is worth asking after them.
var apiFaults = map[string]struct {
	fault  stiggtest.Fault
	is     error
	status int
	second bool
}{
	"400":             {stiggtest.Status(http.StatusBadRequest), stigg.ErrRejected, http.StatusBadRequest, false},
	"401":             {stiggtest.Status(http.StatusUnauthorized), stigg.ErrUnauthenticated, http.StatusUnauthorized, false},
	"403":             {stiggtest.Status(http.StatusForbidden), stigg.ErrForbidden, http.StatusForbidden, false},
	"404":             {stiggtest.Status(http.StatusNotFound), stigg.ErrNotFound, http.StatusNotFound, false},
	"404 as html":     {stiggtest.HTML(http.StatusNotFound), stigg.ErrNotFound, http.StatusNotFound, false},
	"429":             {stiggtest.Status(http.StatusTooManyRequests).RetryAfter(time.Hour), stigg.ErrRateLimited, http.StatusTooManyRequests, true},
	"500":             {stiggtest.Status(http.StatusInternalServerError), stigg.ErrUnavailable, http.StatusInternalServerError, true},
	"502 as html":     {stiggtest.HTML(http.StatusBadGateway), stigg.ErrUnavailable, http.StatusBadGateway, true},
	"503":             {stiggtest.Status(http.StatusServiceUnavailable).RetryAfter(time.Hour), stigg.ErrUnavailable, http.StatusServiceUnavailable, true},
	"hang":            {stiggtest.Hang(), stigg.ErrUnavailable, 0, true},
	"reset":           {stiggtest.Reset(), stigg.ErrUnavailable, 0, true},
	"html":            {stiggtest.HTML(http.StatusOK), stigg.ErrMalformedResponse, http.StatusOK, true},
	"malformed":       {stiggtest.Malformed(), stigg.ErrMalformedResponse, http.StatusOK, true},
	"truncated":       {stiggtest.Truncated(), stigg.ErrUnavailable, 0, true},
	"empty":           {stiggtest.Body(http.StatusOK, "application/json", ""), stigg.ErrMalformedResponse, http.StatusOK, true},
	"null":            {stiggtest.Body(http.StatusOK, "application/json", "null"), stigg.ErrMalformedResponse, http.StatusOK, true},
	"no data":         {stiggtest.Body(http.StatusOK, "application/json", "{}"), stigg.ErrMalformedResponse, 0, true},
	"no state":        {stiggtest.Body(http.StatusOK, "application/json", `{"data":{"entitlementsState":null}}`), stigg.ErrMalformedResponse, 0, true},
	"another shape":   {stiggtest.Body(http.StatusOK, "application/json", `{"data":{"entitlementsState":[]}}`), stigg.ErrMalformedResponse, 0, true},
	"redirect":        {stiggtest.Status(http.StatusFound), stigg.ErrMalformedResponse, http.StatusFound, true},
	"errors":          {stiggtest.Errors("SomeCode", "trace-1"), stigg.ErrRejected, http.StatusOK, true},
	"unauthenticated": {stiggtest.Errors("Unauthenticated", "trace-1"), stigg.ErrUnauthenticated, http.StatusOK, true},
}

// soon keeps what takes until a timeout short.
func soon(c *stigg.Config) { c.EntitlementsTimeout = 2 * time.Second }

// TestEdgeFails: GraphQL answers in the place of the Edge API, unless the Edge
// API has said that it is the question that is wrong.
func TestEdgeFails(t *testing.T) {
	for name, f := range apiFaults {
		t.Run(name, func(t *testing.T) {
			api := acmeAPI(t)
			api.Fault(onEdge(f.fault))
			client := newClient(t, api, nil, soon)
			answer, err := isOn(background(), client)
			asked := api.Count(stiggtest.GraphQL, isFetch)
			if f.second {
				require.NoError(t, err)
				require.True(t, answer.HasAccess)
				require.Equal(t, stigg.SourceGraphQL, answer.Source)
				require.Equal(t, 1, asked)
				require.Zero(t, client.Stats().FetchFailures)
				return
			}
			require.ErrorIs(t, err, f.is)
			require.True(t, answer.IsFallback)
			require.Zero(t, asked, "the answer was an answer")
			require.Equal(t, 1, api.Count(isFetch), "and is not asked for again")
		})
	}
}

// TestGraphQLFails: without the Edge API it alone says what failed.
func TestGraphQLFails(t *testing.T) {
	for name, f := range apiFaults {
		t.Run(name, func(t *testing.T) {
			api := acmeAPI(t)
			api.Fault(onGraphQL(f.fault))
			client := newClient(t, api, nil, soon, func(c *stigg.Config) { c.DisableEdge = true })
			answer, err := isOn(background(), client)
			require.ErrorIs(t, err, f.is)
			require.True(t, answer.IsFallback)
			var e *stigg.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, stigg.SourceGraphQL, e.Source)
			require.Zero(t, api.Count(stiggtest.Edge, isFetch))
		})
	}
}

// TestBothAPIsFail: every getter answers with the call's fallback, else the
// configured one, else denies, and the error tells what failed.
func TestBothAPIsFail(t *testing.T) {
	for name, f := range apiFaults {
		t.Run(name, func(t *testing.T) {
			api := acmeAPI(t)
			api.Fault(f.fault.On(isFetch))
			five := 5.0
			client := newClient(t, api, nil, soon, func(c *stigg.Config) {
				c.EntitlementsFallback = map[string]stigg.EntitlementFallback{"seats": {HasAccess: true, Value: &five}}
				c.CreditEntitlementsFallback = map[string]stigg.CreditFallback{"tokens": {HasAccess: true, UsageLimit: 10, CurrentUsage: 4}}
			})
			seats, err := client.GetNumericEntitlement(background(), stigg.NumericQuery{CustomerID: "acme", FeatureID: "seats"})
			require.ErrorIs(t, err, f.is)
			var e *stigg.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, stigg.SourceEdge, e.Source)
			require.Equal(t, f.status, e.Status)
			require.Equal(t, "GetEntitlementsState", e.Op)
			if f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
				require.Equal(t, time.Hour, e.RetryAfter)
			}
			if name == "errors" || name == "unauthenticated" {
				require.Equal(t, "trace-1", e.TraceID)
				require.Contains(t, []string{"SomeCode", "Unauthenticated"}, e.Code)
				require.ErrorContains(t, err, "trace-1")
			}
			if f.second {
				require.ErrorContains(t, err, "graphql", "both are named")
			}
			require.NotContains(t, err.Error(), "acme", "no ids")
			require.NotContains(t, err.Error(), "server-key")
			require.True(t, seats.HasAccess)
			require.True(t, seats.IsFallback)
			require.Equal(t, 5.0, seats.Value)
			require.Empty(t, seats.AccessDeniedReason)

			for _, g := range getters { // asked again within a second: told the same at once
				for _, allow := range []bool{true, false} {
					answer, err := g.get(background(), client, ask{customer: "acme", id: g.id, allow: allow})
					require.ErrorIs(t, err, f.is, g.name)
					require.True(t, answer.IsFallback, g.name)
					configured := g.id == "seats" || g.id == "tokens"
					require.Equal(t, allow || configured, answer.HasAccess, g.name)
					if !answer.HasAccess {
						require.Equal(t, stigg.Unknown, answer.AccessDeniedReason)
					}
				}
			}
			tokens, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{
				CustomerID: "acme", CurrencyID: "tokens", Fallback: &stigg.CreditFallback{UsageLimit: 3},
			})
			require.ErrorIs(t, err, f.is)
			require.False(t, tokens.HasAccess, "the call's fallback counts before the configured one")
			require.Equal(t, 3.0, tokens.Remaining)
			tokens, err = client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
			require.ErrorIs(t, err, f.is)
			require.True(t, tokens.HasAccess)
			require.Equal(t, 6.0, tokens.Remaining)

			state, err := client.GetEntitlements(background(), "acme", "")
			require.ErrorIs(t, err, f.is)
			require.True(t, state.IsFallback)
			require.Equal(t, stigg.SourceFallback, state.Source)
			require.Len(t, state.Entitlements, 2)
			require.Equal(t, "tokens", state.Entitlements[0].Currency.ID)
			require.Equal(t, 6.0, state.Entitlements[0].Remaining)
			require.Equal(t, "seats", state.Entitlements[1].Feature.ID)
			require.True(t, state.Entitlements[1].HasAccess)
			require.Equal(t, 5.0, state.Entitlements[1].Value)

			require.EqualValues(t, 1, client.Stats().Fetches)
			require.EqualValues(t, 1, client.Stats().FetchFailures)
			require.EqualValues(t, 18, client.Stats().Fallbacks)
		})
	}
}

// TestTemporaryFaultsAreRetried: what is over soon is not noticed by callers.
func TestTemporaryFaultsAreRetried(t *testing.T) {
	for _, name := range []string{"429", "500", "502 as html", "503", "reset", "truncated"} {
		t.Run(name, func(t *testing.T) {
			api := acmeAPI(t)
			api.Fault(onEdge(apiFaults[name].fault.RetryAfter(0).Times(1)))
			client := newClient(t, api, nil)
			answer, err := isOn(background(), client)
			require.NoError(t, err)
			require.Equal(t, stigg.SourceEdge, answer.Source)
			require.Equal(t, 2, api.Count(isFetch))
		})
	}
}

// TestHangIsNotCutShort: one that hangs has all of the Edge API's share of the
// time, because it may be just slow; then the other API is asked.
func TestHangIsNotCutShort(t *testing.T) {
	api := acmeAPI(t)
	api.Fault(onEdge(apiFaults["hang"].fault.Times(1)))
	answer, err := isOn(background(), newClient(t, api, nil, soon))
	require.NoError(t, err)
	require.Equal(t, stigg.SourceGraphQL, answer.Source)
	require.Equal(t, 2, api.Count(isFetch))
}

// TestRetryAfter: the API's wish to wait is kept where there is time for it;
// where there is not, the other API is asked at once.
func TestRetryAfter(t *testing.T) {
	api := acmeAPI(t)
	api.Fault(onEdge(stiggtest.Status(http.StatusTooManyRequests).RetryAfter(time.Second).Times(1)))
	client := newClient(t, api, nil)
	began := time.Now()
	answer, err := isOn(background(), client)
	require.NoError(t, err)
	require.Equal(t, stigg.SourceEdge, answer.Source)
	require.GreaterOrEqual(t, time.Since(began), time.Second)

	api = acmeAPI(t)
	api.Fault(onEdge(stiggtest.Status(http.StatusTooManyRequests).RetryAfter(10 * time.Second)))
	client = newClient(t, api, nil)
	began = time.Now()
	answer, err = isOn(background(), client)
	require.NoError(t, err)
	require.Equal(t, stigg.SourceGraphQL, answer.Source)
	require.Less(t, time.Since(began), 5*time.Second)
	require.Equal(t, 1, api.Count(stiggtest.Edge, isFetch))
}

// TestBothErrorsAreReachable: where both APIs failed, in different ways, both
// kinds can be tested for.
func TestBothErrorsAreReachable(t *testing.T) {
	api := acmeAPI(t)
	api.Fault(onEdge(stiggtest.Status(http.StatusTooManyRequests).RetryAfter(time.Hour)), onGraphQL(stiggtest.Errors("Unauthenticated", "trace-2")))
	_, err := isOn(background(), newClient(t, api, nil))
	require.ErrorIs(t, err, stigg.ErrRateLimited)
	require.ErrorIs(t, err, stigg.ErrUnauthenticated)
	require.NotErrorIs(t, err, stigg.ErrUnavailable)
	require.ErrorContains(t, err, "trace-2")
	var e *stigg.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, time.Hour, e.RetryAfter)
}

// TestUnknownTypename: an entitlement of a type that is not known yet is
// skipped, and the rest is served and cached.
func TestUnknownTypename(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	api.SetEntitlements("acme", append([]stiggtest.Entitlement{
		stiggtest.Raw(`{"__typename":"TimeMachineEntitlement","feature":{"refId":"time"},"usageLimit":"yesterday"}`),
	}, acmeEntitlements()...)...)
	client := newClient(t, api, server)
	for _, source := range []stigg.Source{stigg.SourceEdge, stigg.SourceRedis} {
		for _, g := range getters {
			answer, err := g.get(background(), client, ask{customer: "acme", id: g.id})
			require.NoError(t, err, g.name)
			require.True(t, answer.HasAccess, g.name)
		}
		answer, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", FeatureID: "time"})
		require.NoError(t, err)
		require.False(t, answer.HasAccess)
		require.Equal(t, stigg.NoFeatureEntitlementInSubscription, answer.AccessDeniedReason)
		state, err := client.GetEntitlements(background(), "acme", "")
		require.NoError(t, err)
		require.Len(t, state.Entitlements, len(acmeEntitlements()))
		if source == stigg.SourceEdge {
			eventually(t, func() bool { return client.Stats().Writes == 1 }, "write-back")
			eventually(t, func() bool { a, _ := isOn(background(), client); return a.Source == stigg.SourceRedis }, "redis")
		}
	}
	require.Equal(t, 1, api.Count(isFetch))
	require.Zero(t, client.Stats().UnreadableValues)
}

// TestBrokenEntitlementIsNoAnswer: an entitlement of a known type that cannot
// be understood could be the one that is asked for: nothing of the answer
// counts, and nothing of it reaches Redis.
func TestBrokenEntitlementIsNoAnswer(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	api.SetEntitlements("acme", append(acmeEntitlements(), stiggtest.Raw(`{"__typename":"FeatureEntitlement","feature":{"refId":"x"},"usageLimit":"1"}`))...)
	client := newClient(t, api, server)
	answer, err := isOn(background(), client)
	require.ErrorIs(t, err, stigg.ErrMalformedResponse)
	require.True(t, answer.IsFallback)
	require.NoError(t, client.Close())
	require.EqualValues(t, 0, server.Client().DBSize(background()).Val())
}

// TestDenialIsNoFailure: a live "no" is an answer, never a fallback.
func TestDenialIsNoFailure(t *testing.T) {
	api := acmeAPI(t)
	api.SetAccessDeniedReason("acme", stigg.NoActiveSubscription)
	client := newClient(t, api, nil)
	for _, g := range getters {
		for customer, reason := range map[string]stigg.AccessDeniedReason{
			"acme": stigg.NoActiveSubscription, "stranger": stigg.CustomerNotFound,
		} {
			answer, err := g.get(background(), client, ask{customer: customer, id: g.id, allow: true})
			require.NoError(t, err, g.name)
			require.False(t, answer.HasAccess, g.name)
			require.False(t, answer.IsFallback, g.name)
			require.Equal(t, reason, answer.AccessDeniedReason, g.name)
		}
	}
	require.Zero(t, client.Stats().Fallbacks)
}

// TestAPIComesBack: after a failure the API is left alone for a moment, not for
// ever, and the log tells of the change, not of the calls.
func TestAPIComesBack(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	lines := &logLines{}
	client := newClient(t, api, server, soon, lines.to)
	remove := api.Fault(stiggtest.Status(http.StatusInternalServerError).On(isFetch))
	for range 20 { // within a second
		_, err := isOn(background(), client)
		require.ErrorIs(t, err, stigg.ErrUnavailable)
	}
	require.EqualValues(t, 1, client.Stats().Fetches)
	require.Len(t, lines.with("the api does not answer"), 1)
	remove()
	began := time.Now()
	eventually(t, func() bool { a, err := isOn(background(), client); return err == nil && a.HasAccess }, "the api is asked again")
	require.Less(t, time.Since(began), 3*time.Second)
	require.Len(t, lines.with("the api answers again"), 1)
	require.Len(t, lines.with("level="), 2, "%v", lines.with(""))
	require.EqualValues(t, 2, client.Stats().Fetches)
}

// TestEdgeDisabled: every read goes to GraphQL.
func TestEdgeDisabled(t *testing.T) {
	api := acmeAPI(t)
	client := newClient(t, api, nil, func(c *stigg.Config) { c.DisableEdge = true })
	for _, g := range getters {
		answer, err := g.get(background(), client, ask{customer: "acme", id: g.id})
		require.NoError(t, err, g.name)
		require.True(t, answer.HasAccess, g.name)
	}
	require.NoError(t, client.WaitForInitialization(background()))
	require.Zero(t, api.Count(stiggtest.Edge))
}
