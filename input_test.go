package stigg_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// longest is an id of the greatest length, in characters that take two bytes.
var longest = strings.Repeat("é", 255)

var badIDs = map[string]string{
	"empty":               "",
	"256 characters":      strings.Repeat("x", 256),
	"256 wide characters": longest + "é",
	"invalid UTF-8":       "acme\xff",
	"cut UTF-8":           "acme\xc3",
}

// TestInvalidArgumentsSendNothing: whatever is wrong with a question, it is
// denied, also where a fallback would allow, because that is for outages; and
// neither the API nor Redis hear of it.
func TestInvalidArgumentsSendNothing(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	client := newClient(t, api, server, func(c *stigg.Config) {
		allow := stigg.EntitlementFallback{HasAccess: true}
		c.EntitlementsFallback = map[string]stigg.EntitlementFallback{"on": allow, "seats": allow, "regions": allow, "calls": allow}
		c.CreditEntitlementsFallback = map[string]stigg.CreditFallback{"tokens": {HasAccess: true}}
	})
	require.NoError(t, client.WaitForInitialization(background()))
	recorder := server.Monitor()
	refused, reloads := 0, 0
	refuse := func(t *testing.T, g getter, q ask, names string) {
		t.Helper()
		for _, q.allow = range []bool{true, false} {
			answer, err := g.get(background(), client, q)
			require.ErrorIs(t, err, stigg.ErrInvalidArgument)
			require.ErrorContains(t, err, names)
			require.Equal(t, entitlements.Answer{AccessDeniedReason: stigg.Unknown, IsFallback: true, Source: stigg.SourceFallback}, answer)
			refused++
		}
	}

	for _, g := range getters {
		t.Run(g.name, func(t *testing.T) {
			for what, id := range badIDs {
				t.Log(what)
				refuse(t, g, ask{customer: id, id: g.id}, "CustomerID")
				refuse(t, g, ask{customer: "acme", id: id}, "ID")
				if id != "" { // no resource is no mistake
					refuse(t, g, ask{customer: "acme", resource: id, id: g.id}, "ResourceID")
				}
			}
			if !g.takesUsage {
				return
			}
			for _, usage := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, -math.SmallestNonzeroFloat64} {
				refuse(t, g, ask{customer: "acme", id: g.id, usage: usage}, "RequestedUsage")
			}
		})
	}
	for what, id := range badIDs {
		t.Log(what)
		state, err := client.GetEntitlements(background(), id, "")
		require.ErrorIs(t, err, stigg.ErrInvalidArgument)
		require.True(t, state.IsFallback)
		require.Equal(t, stigg.SourceFallback, state.Source)
		require.Equal(t, stigg.Unknown, state.AccessDeniedReason)
		require.ErrorIs(t, client.ReloadEntitlements(background(), id, ""), stigg.ErrInvalidArgument)
		refused, reloads = refused+2, reloads+1
		if id == "" {
			continue
		}
		_, err = client.GetEntitlements(background(), "acme", id)
		require.ErrorIs(t, err, stigg.ErrInvalidArgument)
		require.ErrorIs(t, client.ReloadEntitlements(background(), "acme", id), stigg.ErrInvalidArgument)
		refused, reloads = refused+2, reloads+1
	}

	both, err := client.GetEntitlement(background(), stigg.EntitlementQuery{
		CustomerID: "acme", FeatureID: "calls", CurrencyID: "tokens",
		Fallback: &stigg.EntitlementFallback{HasAccess: true}, CreditFallback: &stigg.CreditFallback{HasAccess: true},
	})
	require.ErrorIs(t, err, stigg.ErrInvalidArgument)
	require.True(t, both.IsFallback)
	require.False(t, both.HasAccess)
	refused++
	_, err = client.GetEntitlement(background(), stigg.EntitlementQuery{CustomerID: "acme"})
	require.ErrorIs(t, err, stigg.ErrInvalidArgument)
	require.ErrorContains(t, err, "FeatureID and CurrencyID")
	refused++

	require.Zero(t, api.Count(isFetch))
	require.Empty(t, callsOfChecks(recorder))
	require.Equal(t, uint64(refused), client.Stats().InvalidCalls)
	require.Equal(t, uint64(refused-reloads), client.Stats().Fallbacks, "each check was answered with one")
}

// TestGreatestArgumentsAreValid is the other side: what is just within bounds
// is asked.
func TestGreatestArgumentsAreValid(t *testing.T) {
	api := acmeAPI(t)
	client := newClient(t, api, nil)
	for _, g := range getters {
		api.ResetRequests()
		answer, err := g.get(background(), client, ask{customer: longest, resource: g.name, id: longest})
		require.NoError(t, err, g.name)
		require.False(t, answer.IsFallback, g.name)
		require.Equal(t, longest, api.Requests(isFetch)[0].CustomerID, "the id arrives as it is")
		require.Equal(t, g.name, api.Requests(isFetch)[0].ResourceID)
		if !g.takesUsage {
			continue
		}
		for _, usage := range []float64{0, math.Copysign(0, -1), math.MaxFloat64} {
			answer, err = g.get(background(), client, ask{customer: "acme", id: g.id, usage: usage})
			require.NoError(t, err, g.name)
			require.Equal(t, usage == 0, answer.HasAccess, g.name)
		}
	}
	require.Zero(t, client.Stats().InvalidCalls)
}
