package stiggtest_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func reasonOf(s wireState) string {
	if s.AccessDeniedReason == nil {
		return ""
	}
	return *s.AccessDeniedReason
}

func TestStateReasons(t *testing.T) {
	api := stiggtest.New(t)
	check := func(reason string, n int) {
		t.Helper()
		s := state(t, api, "acme")
		require.Equal(t, reason, reasonOf(s))
		require.NotNil(t, s.EntitlementsV2)
		require.Len(t, s.EntitlementsV2, n)
	}
	check("CustomerNotFound", 0)
	api.SetEntitlements("acme")
	check("", 0)
	api.SetEntitlements("acme", stiggtest.Boolean("sso"))
	check("", 1)
	require.Equal(t, "NoActiveSubscription", reasonOf(resourceState(t, api, "acme", "unknown")))
	api.SetAccessDeniedReason("acme", entitlements.CustomerIsArchived)
	check("CustomerIsArchived", 0)
	api.SetAccessDeniedReason("acme", "")
	check("", 1)
	api.RemoveCustomer("acme")
	check("CustomerNotFound", 0)
}

func TestResourcesAreApart(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Metered("calls", 10, 1), stiggtest.Credit("tokens", 10, 1))
	api.SetResourceEntitlements("acme", "site", stiggtest.Metered("calls", 20, 2), stiggtest.Credit("tokens", 20, 2))
	require.NoError(t, api.SetResourceUsage("acme", "site", "calls", 5))
	require.NoError(t, api.SetResourceBalance("acme", "site", "tokens", 30, 7))

	require.Equal(t, 1.0, state(t, api, "acme").get(t, "calls", "currentUsage"))
	require.Equal(t, 1.0, state(t, api, "acme").get(t, "tokens", "currentUsage"))
	s := resourceState(t, api, "acme", "site")
	require.Equal(t, 5.0, s.get(t, "calls", "currentUsage"))
	require.Equal(t, 30.0, s.get(t, "tokens", "usageLimit"))
	require.Equal(t, 7.0, s.get(t, "tokens", "currentUsage"))
}

func TestSettersRefuseWhatIsNotThere(t *testing.T) {
	api := stiggtest.New(t)
	require.Error(t, api.SetUsage("acme", "calls", 1))
	require.Error(t, api.SetBalance("acme", "tokens", 1, 1))
	api.SetEntitlements("acme", stiggtest.Boolean("sso"), stiggtest.Metered("calls", 1, 1))
	require.ErrorContains(t, api.SetUsage("acme", "sso", 1), "sso")
	require.Error(t, api.SetUsage("acme", "other", 1))
	require.Error(t, api.SetBalance("acme", "calls", 1, 1), "a feature is not a wallet")
	require.Error(t, api.SetResourceUsage("acme", "site", "calls", 1))
}

// times reads the two timestamps of an entitlement.
func times(t *testing.T, s wireState, id string) (definition, usage time.Time) {
	t.Helper()
	parse := func(field string) time.Time {
		text, ok := s.get(t, id, field).(string)
		require.True(t, ok, field)
		at, err := time.Parse("2006-01-02T15:04:05.000Z", text)
		require.NoError(t, err)
		return at
	}
	return parse("entitlementUpdatedAt"), parse("usageUpdatedAt")
}

func TestChangesAdvanceTheirTime(t *testing.T) {
	api := stiggtest.New(t)
	set := func() {
		api.SetEntitlements("acme", stiggtest.Metered("calls", 10, 1), stiggtest.Credit("tokens", 10, 1))
	}
	set()
	for i := range 20 {
		definition, usage := times(t, state(t, api, "acme"), "calls")
		require.NoError(t, api.SetUsage("acme", "calls", float64(i)))
		definition2, usage2 := times(t, state(t, api, "acme"), "calls")
		require.Equal(t, definition, definition2)
		require.True(t, usage2.After(usage))

		definition, usage = times(t, state(t, api, "acme"), "tokens")
		require.NoError(t, api.SetBalance("acme", "tokens", 10, float64(i)))
		definition2, usage2 = times(t, state(t, api, "acme"), "tokens")
		require.True(t, definition2.After(definition))
		require.True(t, usage2.After(usage))

		set()
		definition3, usage3 := times(t, state(t, api, "acme"), "tokens")
		require.True(t, definition3.After(definition2))
		require.True(t, usage3.After(usage2))
	}
}

// A time that a test has set in the future must not stop the next change from
// being newer, and must not reach other entitlements.
func TestChangesAdvanceFutureTimes(t *testing.T) {
	api := stiggtest.New(t)
	future := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	api.SetEntitlements("acme",
		stiggtest.Metered("calls", 10, 1).UsageUpdatedAt(future).EntitlementUpdatedAt(future), stiggtest.Metered("other", 10, 1))
	require.NoError(t, api.SetUsage("acme", "calls", 2))
	definition, usage := times(t, state(t, api, "acme"), "calls")
	require.Equal(t, future, definition)
	require.Equal(t, future.Add(time.Millisecond), usage)

	api.SetEntitlements("acme", stiggtest.Metered("calls", 10, 1), stiggtest.Metered("other", 10, 1))
	definition, usage = times(t, state(t, api, "acme"), "calls")
	require.Equal(t, future.Add(time.Millisecond), definition)
	require.Equal(t, future.Add(2*time.Millisecond), usage)
	_, usage = times(t, state(t, api, "acme"), "other")
	require.WithinDuration(t, time.Now(), usage, time.Minute)
}

// One change has one time, so that many entitlements do not carry the clock
// into the future.
func TestOneChangeHasOneTime(t *testing.T) {
	api := stiggtest.New(t)
	var es []stiggtest.Entitlement
	for i := range 5000 {
		es = append(es, stiggtest.Credit(fmt.Sprint(i), 1, 0))
	}
	api.SetEntitlements("acme", es...)
	s := state(t, api, "acme")
	first, usage := times(t, s, "0")
	require.Equal(t, first, usage)
	last, _ := times(t, s, "4999")
	require.Equal(t, first, last)
}

func TestRawBodyOnBothAPIs(t *testing.T) {
	api := stiggtest.New(t)
	for customer, body := range fixture(t) {
		api.SetRaw("raw", "", string(body))
		api.SetRaw("raw", "res", customer)
		require.Equal(t, string(body), edge(t, api, "/v1/c/raw/entitlements-state.json").body)
		require.Equal(t, customer, edge(t, api, "/v1/c/raw/entitlements-state.json?resourceId=res").body)
		require.Equal(t, string(body), post(t, api, "GetEntitlementsState", map[string]any{"query": map[string]any{"customerId": "raw"}}).body)
	}
	api.SetEntitlements("raw", stiggtest.Boolean("sso"))
	require.Len(t, state(t, api, "raw").EntitlementsV2, 1)
}

func TestGraphQLServesTheSameState(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Metered("calls", 10, 1), stiggtest.Credit("tokens", 10, 1))
	api.SetResourceEntitlements("acme", "site", stiggtest.Boolean("sso"))
	for resource, query := range map[string]map[string]any{
		"":     {"customerId": "acme"},
		"site": {"customerId": "acme", "resourceId": "site"},
		"none": {"customerId": "acme", "resourceId": "none"},
	} {
		require.Equal(t,
			edge(t, api, "/v1/c/acme/entitlements-state.json?resourceId="+resource).body,
			post(t, api, "GetEntitlementsState", map[string]any{"query": query}).body)
	}
}

func TestConcurrentUse(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Metered("calls", 1000, 0), stiggtest.Credit("tokens", 1000, 0))
	const workers, rounds = 4, 10
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := range rounds {
				api.SetEntitlements(fmt.Sprint("other-", w), stiggtest.Boolean("sso"))
				remove := api.Fault(stiggtest.Latency(time.Microsecond).Times(i))
				a := post(t, api, "ReportUsage", map[string]any{"input": map[string]any{"customerId": "acme", "featureId": "calls", "value": 1}})
				if a.err != nil || a.status != http.StatusOK {
					done <- fmt.Errorf("status %d: %w", a.status, a.err)
					return
				}
				remove()
				api.Count(stiggtest.Edge)
			}
			done <- nil
		}()
	}
	for range workers {
		require.NoError(t, <-done)
	}
	require.Equal(t, float64(workers*rounds), state(t, api, "acme").get(t, "calls", "currentUsage"))
	require.Equal(t, workers*rounds, api.Count(stiggtest.GraphQL))
}
