package stiggtest_test

import (
	"encoding/json"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// fixture returns answers of the real API, by customer id, or customer and
// resource id with a slash in between.
func fixture(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	text, err := os.ReadFile("testdata/edge-entitlements-state.json")
	require.NoError(t, err)
	var answers map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &answers))
	return answers
}

var (
	defined = time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)
	used    = time.Date(2026, 6, 2, 11, 30, 0, 0, time.UTC)
)

// at dates an entitlement like the fixture's, and names it like them.
func at(id string, e stiggtest.Entitlement) stiggtest.Entitlement {
	return e.Named(strings.ReplaceAll(id, "-", " ")).EntitlementUpdatedAt(defined)
}

func metered(id string, limit, n float64) stiggtest.Entitlement {
	return at(id, stiggtest.Metered(id, limit, n)).Units("call", "calls").UsageUpdatedAt(used)
}

func backed(id string, rate float64, currencyID string, n float64) stiggtest.Entitlement {
	return at(id, stiggtest.CreditBacked(id, rate, currencyID)).Units("call", "calls").Used(n).UsageUpdatedAt(used)
}

func credit(id string, granted, consumed float64) stiggtest.Entitlement {
	return stiggtest.Credit(id, granted, consumed).Named(id + " credits").EntitlementUpdatedAt(defined).UsageUpdatedAt(used)
}

// The builders can say all that the real API was seen to say, field by field.
func TestServesWhatTheRealAPIServes(t *testing.T) {
	api := stiggtest.New(t)
	past := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	future := time.Date(2099, 3, 1, 0, 0, 0, 0, time.UTC)
	built := map[string][]stiggtest.Entitlement{
		"cust-basic": {
			at("feature-bool", stiggtest.Boolean("feature-bool")),
			at("feature-enum", stiggtest.Enum("feature-enum", "eu", "us")),
			at("feature-num", stiggtest.Numeric("feature-num", 25)),
			metered("feature-met", 100, 40),
		},
		"cust-valid-until": {
			at("valid-past", stiggtest.Boolean("valid-past")).ValidUntil(past),
			at("valid-future", stiggtest.Boolean("valid-future")).ValidUntil(future),
			metered("valid-past-met", 100, 40).ValidUntil(past),
		},
		"cust-denied": {
			at("denied-revoked", stiggtest.Boolean("denied-revoked")).Denied(entitlements.Revoked),
			metered("denied-budget", 100, 40).Denied(entitlements.BudgetExceeded),
			metered("denied-unknown-reason", 100, 40).Denied("SomethingNew"),
		},
	}
	answers := fixture(t)
	for customer, es := range built {
		api.SetEntitlements(customer, es...)
		require.JSONEq(t, string(answers[customer]), edge(t, api, "/v1/c/"+customer+"/entitlements-state.json").body, customer)
	}
}

// One by one, because the fixture's customer has more of them, and one
// credit-backed feature of which the real API did not say that it is denied.
func TestServesMeteredAndCreditEntitlements(t *testing.T) {
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 8, 0, 0, 0, time.UTC) }
	resets := func(e stiggtest.Entitlement, period entitlements.ResetPeriod) stiggtest.Entitlement {
		return e.Resets(period, day(2026, 1, 15), day(2026, 5, 15), day(2099, 6, 15))
	}
	built := map[string]stiggtest.Entitlement{
		"met-month":       resets(metered("met-month", 100, 40), entitlements.ResetMonth),
		"met-year":        resets(metered("met-year", 100, 40), entitlements.ResetYear),
		"met-day":         resets(metered("met-day", 100, 40), entitlements.ResetDay),
		"met-unlimited":   metered("met-unlimited", 0, 12345).Unlimited(),
		"met-soft-over":   metered("met-soft-over", 100, 120).SoftLimit(),
		"met-over":        metered("met-over", 100, 150),
		"met-null-limit":  metered("met-null-limit", 1, 0).NoLimit(),
		"met-fluctuating": metered("met-fluctuating", 10, 3).Fluctuating(),
		"met-decimal":     metered("met-decimal", 0.3, 0.1),
		"met-transform":   metered("met-transform", 100, 40).Units("GB", "GBs").UnitTransformation(1024, "UP"),
		"met-past-noanchor": metered("met-past-noanchor", 100, 99).
			Resets(entitlements.ResetMonth, time.Time{}, day(2024, 1, 31), day(2024, 2, 29)),
		"ai-calls":       backed("ai-calls", 2.5, "cred-plenty", 10),
		"ai-images":      backed("ai-images", 5, "cred-hard-out", 20),
		"ai-video":       backed("ai-video", 5, "cred-soft-out", 26),
		"ai-orphan":      backed("ai-orphan", 1, "cred-missing", 1),
		"cred-plenty":    credit("cred-plenty", 1000, 100),
		"cred-hard-out":  credit("cred-hard-out", 100, 100),
		"cred-soft-out":  credit("cred-soft-out", 100, 130).SoftLimit(),
		"cred-recurring": credit("cred-recurring", 500, 7.25).RenewsAt(day(2099, 6, 15)),
	}
	api := stiggtest.New(t)
	var es []stiggtest.Entitlement
	for _, e := range built {
		es = append(es, e)
	}
	api.SetEntitlements("acme", es...)
	served := byID(state(t, api, "acme"))
	require.Len(t, served, len(built))

	answers := fixture(t)
	real := byID(parseState(t, answer{status: 200, body: string(answers["cust-metered"])}))
	for id, e := range byID(parseState(t, answer{status: 200, body: string(answers["cust-credit"])})) {
		real[id] = e
	}
	for id := range built {
		require.Contains(t, real, id)
		require.Equal(t, real[id], served[id], id)
	}
}

func byID(s wireState) map[string]map[string]any {
	found := make(map[string]map[string]any)
	for _, e := range s.EntitlementsV2 {
		if feature, ok := e["feature"].(map[string]any); ok {
			found[feature["refId"].(string)] = e
		} else if currency, ok := e["currency"].(map[string]any); ok {
			found[currency["currencyId"].(string)] = e
		}
	}
	return found
}

// Every object that is served has the fields that the real API's has.
func TestShapeEqualsTheRealAPI(t *testing.T) {
	shapes := func(s wireState) map[string][]string {
		found := make(map[string][]string)
		for _, e := range s.EntitlementsV2 {
			name := e["__typename"].(string)
			found[name] = keys(e)
			for field, v := range e {
				if of, ok := v.(map[string]any); ok {
					if field == "resetPeriodConfiguration" {
						field = of["__typename"].(string)
					}
					found[name+"."+field] = keys(of)
					if sub, ok := of["unitTransformation"].(map[string]any); ok {
						found["unitTransformation"] = keys(sub)
					}
				}
			}
		}
		return found
	}
	real := make(map[string][]string)
	for _, body := range fixture(t) {
		for name, fields := range shapes(parseState(t, answer{status: 200, body: string(body)})) {
			real[name] = fields
		}
	}
	now := time.Now()
	api := stiggtest.New(t)
	api.SetEntitlements("acme",
		stiggtest.Boolean("a"), stiggtest.Numeric("b", 1), stiggtest.Enum("c"), stiggtest.Credit("d", 1, 0),
		stiggtest.CreditBacked("e", 1, "d"),
		stiggtest.Metered("f", 1, 0).Resets(entitlements.ResetWeek, now, now, now).UnitTransformation(2, "DOWN"),
		stiggtest.Metered("g", 1, 0).Resets(entitlements.ResetMonth, now, now, now),
		stiggtest.Metered("h", 1, 0).Resets(entitlements.ResetYear, now, now, now),
	)
	served := shapes(state(t, api, "acme"))
	require.Len(t, served, len(real))
	for name, fields := range real {
		require.ElementsMatch(t, fields, served[name], name)
	}
}

func TestModifiers(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme",
		stiggtest.Boolean("sso").Described("Single sign-on"),
		stiggtest.Enum("none"),
		stiggtest.Metered("quiet", 10, 5).NoUsage(),
		stiggtest.Metered("limited", 0, 0).Unlimited().Limit(7),
		stiggtest.Credit("tokens", 1, 0).Metadata(map[string]any{"tier": "gold"}),
	)
	s := state(t, api, "acme")
	require.Equal(t, "Single sign-on", s.get(t, "sso", "feature").(map[string]any)["description"])
	require.Equal(t, []any{}, s.get(t, "none", "enumValues"))
	require.Nil(t, s.get(t, "quiet", "currentUsage"))
	require.Nil(t, s.get(t, "quiet", "usageUpdatedAt"))
	require.Equal(t, 7.0, s.get(t, "limited", "usageLimit"))
	require.Equal(t, false, s.get(t, "limited", "hasUnlimitedUsage"))
	require.Equal(t, map[string]any{"tier": "gold"}, s.get(t, "tokens", "currency").(map[string]any)["additionalMetaData"])
}

// A modifier must not reach the value that it was called on.
func TestModifiersCopy(t *testing.T) {
	api := stiggtest.New(t)
	plain := stiggtest.Metered("calls", 10, 1)
	_ = plain.SoftLimit().Limit(99).Used(50).Denied(entitlements.Revoked)
	api.SetEntitlements("acme", plain)
	api.SetEntitlements("other", plain)
	require.NoError(t, api.SetUsage("other", "calls", 9))
	s := state(t, api, "acme")
	require.Equal(t, 10.0, s.get(t, "calls", "usageLimit"))
	require.Equal(t, 1.0, s.get(t, "calls", "currentUsage"))
	require.Equal(t, false, s.get(t, "calls", "hasSoftLimit"))
	require.Equal(t, true, s.get(t, "calls", "isGranted"))
}

func TestRawEntitlement(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Boolean("sso"), stiggtest.Raw(`{"__typename":"SeatEntitlement","seats":3}`))
	s := state(t, api, "acme")
	require.Len(t, s.EntitlementsV2, 2)
	require.Equal(t, map[string]any{"__typename": "SeatEntitlement", "seats": 3.0}, s.EntitlementsV2[1])

	api.SetEntitlements("acme", stiggtest.Raw(`{"broken`))
	require.Contains(t, edge(t, api, "/v1/c/acme/entitlements-state.json").body, `[{"broken]`)
}

func TestIDsAreUnescapedOnce(t *testing.T) {
	for _, id := range []string{"клиент-ñ-客户-🙂", "has space", "user@example.com", "a/b?c#d", "%2F", "..", "a+b", "a&b=c"} {
		t.Run(id, func(t *testing.T) {
			api := stiggtest.New(t)
			api.SetEntitlements(id, stiggtest.Boolean("customer"))
			api.SetResourceEntitlements(id, id, stiggtest.Boolean("resource"))
			require.Len(t, byID(state(t, api, url.PathEscape(id))), 1)
			state(t, api, url.PathEscape(id)).get(t, "customer", "isGranted")
			resourceState(t, api, url.PathEscape(id), url.QueryEscape(id)).get(t, "resource", "isGranted")

			requests := api.Requests(stiggtest.Resource(id, id))
			require.Len(t, requests, 1)
			require.Contains(t, requests[0].Path, url.PathEscape(id))
			require.Equal(t, 3, api.Count(stiggtest.Customer(id)))
		})
	}
}
