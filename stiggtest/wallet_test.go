package stiggtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestCreditBalance(t *testing.T) {
	api := stiggtest.New(t)
	end := time.UnixMilli(1_800_000_000_000)
	api.SetEntitlements("acme", stiggtest.Boolean("sso"), stiggtest.Credit("tokens", 100, 120), stiggtest.Credit("gold", 5, 1).Units("", "").ValidUntil(end))
	api.SetResourceEntitlements("acme", "site", stiggtest.Credit("tokens", 7, 0))
	balances := func(fields string) []any {
		t.Helper()
		answer := object(t, api, "GetCreditBalance", "input", `{"customerId":"acme"`+fields+`}`, "creditBalanceSummary")
		require.Len(t, answer, 2)
		require.Equal(t, "acme", answer["customerId"])
		return answer["balances"].([]any)
	}
	tokens := map[string]any{
		"currency": map[string]any{
			"currencyId": "tokens", "displayName": "tokens", "symbol": nil,
			"units": map[string]any{"singular": "credit", "plural": "credits"},
		},
		"currentBalance": -20.0, "customerId": "acme", "resourceId": nil, "totalConsumed": 120.0, "totalGranted": 100.0, "validUntil": nil,
	}
	all := balances("")
	require.Len(t, all, 2)
	require.Equal(t, tokens, all[0])
	require.Equal(t, 1.8e12, all[1].(map[string]any)["validUntil"])
	require.Equal(t, []any{tokens}, balances(`,"currencyId":"tokens"`))
	require.Equal(t, 7.0, balances(`,"resourceId":"site"`)[0].(map[string]any)["currentBalance"])
	require.Empty(t, balances(`,"resourceId":"none"`))
}

func TestCreditGrants(t *testing.T) {
	api := stiggtest.New(t)
	var grants []stiggtest.Grant
	for i := range 25 {
		grants = append(grants, stiggtest.Grant{ID: fmt.Sprint("g", i), CurrencyID: "tokens", Amount: float64(i)})
	}
	grants[3].CurrencyID = "gold"
	grants[4].ResourceID = "site"
	api.SetCreditGrants("acme", grants...)

	first := object(t, api, "GetCreditGrants", "input", `{"customerId":"acme"}`, "creditGrants")
	require.ElementsMatch(t, keys(first), []string{"edges", "pageInfo", "totalCount"})
	require.Equal(t, 25.0, first["totalCount"])
	require.Len(t, first["edges"], 10, "the default page")
	edge := first["edges"].([]any)[0].(map[string]any)
	require.Equal(t, []string{"node"}, keys(edge))
	node := edge["node"].(map[string]any)
	require.ElementsMatch(t, keys(node), strings.Fields(`additionalMetaData amount automaticRechargeConfigurationId comment
		consumedAmount cost createdAt currencyId customerId displayName effectiveAt expireAt grantId grantType invoiceId
		latestInvoice paymentCollection priority resourceId status updatedAt voidedAt`))
	require.Equal(t, []any{"acme", "PAID", "ACTIVE"}, []any{node["customerId"], node["grantType"], node["status"]})
	require.NotNil(t, node["createdAt"])
	require.Equal(t, node["createdAt"], node["effectiveAt"])
	require.Nil(t, node["expireAt"])

	ids := func(fields string) (found []string) {
		for after, next := "", true; next; {
			page := object(t, api, "GetCreditGrants", "input", `{"customerId":"acme"`+fields+`,"paging":{"first":7`+after+`}}`, "creditGrants")
			for _, e := range page["edges"].([]any) {
				found = append(found, e.(map[string]any)["node"].(map[string]any)["grantId"].(string))
			}
			info := page["pageInfo"].(map[string]any)
			require.Equal(t, after != "", info["hasPreviousPage"])
			next = info["hasNextPage"].(bool)
			after = fmt.Sprintf(`,"after":%q`, info["endCursor"])
		}
		return found
	}
	require.Len(t, ids(""), 25)
	require.Equal(t, "g24", ids("")[24])
	require.Equal(t, []string{"g3"}, ids(`,"currencyId":"gold"`))
	require.Equal(t, []string{"g4"}, ids(`,"resourceId":"site"`))

	api.SetCreditGrants("empty")
	page := object(t, api, "GetCreditGrants", "input", `{"customerId":"empty"}`, "creditGrants")
	require.Equal(t, []any{}, page["edges"])
	require.Equal(t, map[string]any{"startCursor": nil, "endCursor": nil, "hasNextPage": false, "hasPreviousPage": false}, page["pageInfo"])
}

func TestCreditLedger(t *testing.T) {
	api := stiggtest.New(t)
	api.SetCreditLedger("acme",
		stiggtest.LedgerEvent{Type: "CREDITS_GRANTED", CurrencyID: "tokens", GrantID: "g", Amount: 10, Time: used},
		stiggtest.LedgerEvent{CurrencyID: "tokens", GrantID: "g", FeatureID: "ai", EventID: "e", ResourceID: "site", Amount: -2},
		stiggtest.LedgerEvent{CurrencyID: "gold", Amount: -3})
	events := func(fields string) []any {
		t.Helper()
		return object(t, api, "GetCreditLedger", "input", `{"customerId":"acme"`+fields+`}`, "creditsLedger")["edges"].([]any)
	}
	all := events("")
	require.Len(t, all, 3)
	first := all[0].(map[string]any)
	require.NotEmpty(t, first["cursor"])
	require.Equal(t, map[string]any{
		"amount": 10.0, "creditCurrencyId": "tokens", "creditGrantId": "g", "customerId": "acme", "eventId": nil,
		"eventType": "CREDITS_GRANTED", "featureId": nil, "resourceId": nil, "timestamp": "2026-06-02T11:30:00.000Z",
	}, first["node"])
	require.Equal(t, all[1:], events(fmt.Sprintf(`,"paging":{"after":%q}`, first["cursor"])))
	require.Equal(t, all[1], events(fmt.Sprintf(`,"paging":{"first":1,"after":%q}`, first["cursor"]))[0])
	require.Len(t, events(`,"eventType":["CREDITS_CONSUMED"]`), 2)
	require.Len(t, events(`,"eventType":["CREDITS_CONSUMED"],"currencyId":"gold"`), 1)
	require.Len(t, events(`,"resourceId":"site"`), 1)
}

func TestCreditUsage(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Credit("tokens", 1, 0).Named("Tokens"))
	api.SetCreditUsage("acme",
		stiggtest.UsageSeries{CurrencyID: "tokens", FeatureID: "ai", FeatureName: "AI", Points: []stiggtest.UsagePoint{
			{Time: used, Value: 1}, {Time: used.AddDate(0, 0, 1), Value: 2},
		}},
		stiggtest.UsageSeries{CurrencyID: "gold"})
	usage := func(fields string) map[string]any {
		t.Helper()
		return object(t, api, "GetCreditUsage", "input", `{"customerId":"acme"`+fields+`}`, "creditUsage")
	}
	answer := usage("")
	require.ElementsMatch(t, keys(answer), []string{"currency", "pageInfo", "series"})
	require.Equal(t, "Tokens", answer["currency"].(map[string]any)["displayName"])
	series := answer["series"].([]any)
	require.Len(t, series, 2)
	require.Equal(t, map[string]any{
		"featureId": "ai", "featureName": "AI", "totalCredits": 3.0, "points": []any{
			map[string]any{"timestamp": "2026-06-02T11:30:00.000Z", "value": 1.0},
			map[string]any{"timestamp": "2026-06-03T11:30:00.000Z", "value": 2.0},
		},
	}, series[0])
	total := func(fields string) any { return usage(fields)["series"].([]any)[0].(map[string]any)["totalCredits"] }
	require.Equal(t, 2.0, total(`,"startDate":"2026-06-03T00:00:00Z"`))
	require.Equal(t, 1.0, total(`,"endDate":"2026-06-03T00:00:00Z","timeRange":"LAST_MONTH","groupBy":["featureId"]`))
	require.Len(t, usage(`,"currencyId":"gold"`)["series"], 1)
	require.Equal(t, "gold", usage(`,"currencyId":"gold"`)["currency"].(map[string]any)["currencyId"])
	require.Nil(t, usage(`,"currencyId":"none"`)["currency"])
	require.Equal(t, true, usage(`,"paging":{"first":1}`)["pageInfo"].(map[string]any)["hasNextPage"])
}

func TestAutoRecharge(t *testing.T) {
	api := stiggtest.New(t)
	spend := 50.0
	api.SetAutoRecharge("acme", stiggtest.AutoRecharge{
		CurrencyID: "tokens", Enabled: true, ThresholdValue: 10, TargetBalance: 100, MaxSpendLimit: &spend, UpdatedAt: used,
	})
	settings := func(currency string) map[string]any {
		return object(t, api, "GetAutomaticRechargeConfiguration", "input", `{"customerId":"acme","currencyId":"`+currency+`"}`, "getAutoRechargeSettings")
	}
	require.Equal(t, map[string]any{
		"createdAt": nil, "currencyId": "tokens", "currentMonthlySpend": 0.0, "customerId": "acme", "grantExpirationPeriod": "OneYear",
		"isEnabled": true, "maxSpendLimit": 50.0, "targetBalance": 100.0, "thresholdType": "CreditAmount", "thresholdValue": 10.0,
		"updatedAt": "2026-06-02T11:30:00.000Z",
	}, settings("tokens"))
	require.Equal(t, false, settings("gold")["isEnabled"])
}
