package stiggtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestReportUsage(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme",
		stiggtest.Metered("calls", 100, 40), stiggtest.CreditBacked("ai", 2.5, "tokens"),
		stiggtest.CreditBacked("orphan", 1, "none"), stiggtest.Metered("quiet", 10, 0).NoUsage(),
		stiggtest.Credit("tokens", 100, 10).RenewsAt(used))
	report := func(fields string) map[string]any {
		t.Helper()
		return object(t, api, "ReportUsage", "input", `{"customerId":"acme",`+fields+`}`, "reportUsage")
	}
	measured := report(`"featureId":"calls","value":2`)
	require.ElementsMatch(t, keys(measured), strings.Fields(
		"id featureId customerId resourceId currentUsage credit usagePeriodStart usagePeriodEnd nextResetDate timestamp"))
	require.Equal(t, 42.0, measured["currentUsage"])
	require.Nil(t, measured["credit"])
	require.Equal(t, 45.0, report(`"featureId":"calls","value":3,"updateBehavior":"DELTA"`)["currentUsage"])
	require.Equal(t, 7.0, report(`"featureId":"calls","value":7,"updateBehavior":"SET"`)["currentUsage"])
	require.Equal(t, 1.5, report(`"featureId":"quiet","value":1.5`)["currentUsage"])
	require.Nil(t, report(`"featureId":"orphan","value":1`)["credit"])

	_, usage := times(t, state(t, api, "acme"), "tokens")
	measured = report(`"featureId":"ai","value":4`)
	credit := measured["credit"].(map[string]any)
	delete(credit, "timestamp")
	require.Equal(t, map[string]any{
		"currencyId": "tokens", "consumed": 10.0, "currentUsage": 20.0, "usagePeriodEnd": "2026-06-02T11:30:00.000Z",
	}, credit)
	s := state(t, api, "acme")
	require.Equal(t, 4.0, s.get(t, "ai", "currentUsage"))
	require.Equal(t, 20.0, s.get(t, "tokens", "currentUsage"))
	_, later := times(t, s, "tokens")
	require.True(t, later.After(usage))
	require.Equal(t, s.get(t, "ai", "usageUpdatedAt"), measured["timestamp"])

	// The wallet runs dry: it and what draws on it say so.
	report(`"featureId":"ai","value":32`)
	s = state(t, api, "acme")
	for _, id := range []string{"tokens", "ai"} {
		require.Equal(t, "InsufficientCredits", s.get(t, id, "accessDeniedReason"), id)
		require.Equal(t, false, s.get(t, id, "isGranted"), id)
	}
	require.NoError(t, api.SetBalance("acme", "tokens", 200, 100))
	require.Equal(t, true, state(t, api, "acme").get(t, "ai", "isGranted"))
}

func TestReportUsageOncePerIdempotencyKey(t *testing.T) {
	api := acme(t)
	input := `{"customerId":"acme","featureId":"calls","value":2,"idempotencyKey":"k"}`
	first := result(t, api, "ReportUsage", "input", input, "reportUsage")
	require.Equal(t, first, result(t, api, "ReportUsage", "input", input, "reportUsage"))
	require.Equal(t, 3.0, state(t, api, "acme").get(t, "calls", "currentUsage"))
}

func TestReportUsageOfAResource(t *testing.T) {
	api := acme(t)
	api.SetResourceEntitlements("acme", "site", stiggtest.Metered("calls", 10, 5))
	measured := object(t, api, "ReportUsage", "input", `{"customerId":"acme","resourceId":"site","featureId":"calls","value":1}`, "reportUsage")
	require.Equal(t, "site", measured["resourceId"])
	require.Equal(t, 6.0, measured["currentUsage"])
	require.Equal(t, 1.0, state(t, api, "acme").get(t, "calls", "currentUsage"))
}

// list repeats an element of a JSON array, %d replaced by its index.
func list(n int, element string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(element, "%d", fmt.Sprint(i))
	}
	return "[" + strings.Join(all, ",") + "]"
}

func TestReportUsageBulk(t *testing.T) {
	api := acme(t)
	usages := func(n int) string {
		return `{"usages":` + list(n, `{"customerId":"acme","featureId":"calls","value":1}`) + `}`
	}
	answers := result(t, api, "ReportUsageBulk", "input", usages(100), "reportUsageBulk").([]any)
	require.Len(t, answers, 100)
	require.Equal(t, 101.0, answers[99].(map[string]any)["currentUsage"])
	require.Equal(t, "BadUserInput", errorCode(t, api, "ReportUsageBulk", "input", usages(101)))
	require.Equal(t, "FeatureNotFound", errorCode(t, api, "ReportUsageBulk", "input",
		`{"usages":[{"customerId":"acme","featureId":"calls","value":1},{"customerId":"acme","featureId":"none","value":1}]}`))
	require.Equal(t, 101.0, state(t, api, "acme").get(t, "calls", "currentUsage"), "all or none")
}

func TestReportEvents(t *testing.T) {
	api := stiggtest.New(t)
	events := `{"usageEvents":[
		{"customerId":"acme","eventName":"call","idempotencyKey":"1","dimensions":{"n":1},"timestamp":"2026-06-02T11:30:00Z"},
		{"customerId":"acme","resourceId":"site","eventName":"call","idempotencyKey":"2"},
		{"customerId":"other","eventName":"call","idempotencyKey":"1"}]}`
	for range 2 {
		require.Nil(t, result(t, api, "ReportEvent", "events", events, "reportEvent"))
	}
	require.Equal(t, []stiggtest.Event{
		{CustomerID: "acme", Name: "call", IdempotencyKey: "1", Dimensions: map[string]any{"n": 1.0}, Timestamp: used},
		{CustomerID: "acme", ResourceID: "site", Name: "call", IdempotencyKey: "2"},
		{CustomerID: "other", Name: "call", IdempotencyKey: "1"},
	}, api.Events())

	event := `{"customerId":"acme","eventName":"call","idempotencyKey":"n%d"}`
	require.Equal(t, "BadUserInput", errorCode(t, api, "ReportEvent", "events", `{"usageEvents":`+list(1001, event)+`}`))
	require.Equal(t, "BadUserInput", errorCode(t, api, "ReportEvent", "events",
		`{"usageEvents":[`+event+`,{"customerId":"acme","eventName":"call"}]}`), "the key is required")
	require.Equal(t, "BadUserInput", errorCode(t, api, "ReportEvent", "events",
		`{"usageEvents":[{"customerId":"acme","eventName":"call","idempotencyKey":"big","dimensions":{"x":"`+strings.Repeat("x", 1<<20)+`"}}]}`))
	require.Len(t, api.Events(), 3, "all or none")
	result(t, api, "ReportEvent", "events", `{"usageEvents":`+list(1000, event)+`}`, "reportEvent")
	require.Len(t, api.Events(), 1003)
}

func TestConsumeCredits(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Credit("tokens", 100, 10).RenewsAt(used))
	api.SetResourceEntitlements("acme", "site", stiggtest.Credit("tokens", 5, 0))
	input := `{"customerId":"acme","currencyId":"tokens","amount":2.5,"idempotencyKey":"k"}`
	answer := object(t, api, "ConsumeCredits", "input", input, "consumeCredits")
	at := state(t, api, "acme").get(t, "tokens", "usageUpdatedAt")
	want := map[string]any{
		"amount": 2.5, "currencyId": "tokens", "customerId": "acme", "resourceId": nil, "timestamp": at,
		"credit": map[string]any{
			"currencyId": "tokens", "currentUsage": 12.5, "usageLimit": 100.0, "timestamp": at,
			"usagePeriodEnd": "2026-06-02T11:30:00.000Z",
		},
	}
	require.Equal(t, want, answer)
	require.Equal(t, want, object(t, api, "ConsumeCredits", "input", input, "consumeCredits"), "the same key consumes once")
	require.Equal(t, 12.5, state(t, api, "acme").get(t, "tokens", "currentUsage"))

	answer = object(t, api, "ConsumeCredits", "input",
		`{"customerId":"acme","resourceId":"site","currencyId":"tokens","amount":9,"idempotencyKey":"s"}`, "consumeCredits")
	require.Equal(t, 9.0, answer["credit"].(map[string]any)["currentUsage"], "overdraft is not refused")
	require.Equal(t, "site", answer["resourceId"])
}

func TestConsumeCreditsAsync(t *testing.T) {
	api := acme(t)
	consumptions := func(n int, customer string) string {
		return `{"consumptions":` + list(n, `{"customerId":"`+customer+`","currencyId":"tokens","amount":1,"idempotencyKey":"k%d"}`) + `}`
	}
	for range 2 {
		require.Nil(t, result(t, api, "ConsumeCreditsAsync", "input", consumptions(1000, "acme"), "consumeCreditsAsync"))
	}
	require.Equal(t, 1001.0, state(t, api, "acme").get(t, "tokens", "currentUsage"))
	require.Nil(t, result(t, api, "ConsumeCreditsAsync", "input", consumptions(1, "nobody"), "consumeCreditsAsync"))
	require.Equal(t, "BadUserInput", errorCode(t, api, "ConsumeCreditsAsync", "input", consumptions(1001, "acme")))
	require.Equal(t, "BadUserInput", errorCode(t, api, "ConsumeCreditsAsync", "input",
		`{"consumptions":[{"customerId":"acme","currencyId":"tokens","amount":1}]}`))
}

func TestEstimates(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.CreditBacked("ai", 2, "tokens").Used(3), stiggtest.Credit("tokens", 10, 4),
		stiggtest.CreditBacked("orphan", 1, "none"), stiggtest.Boolean("sso"))
	api.SetEventCost("inference", "ai", 5)
	estimate := func(cost, after float64, over bool) map[string]any {
		return map[string]any{"warnings": []any{}, "estimates": []any{map[string]any{
			"currencyId": "tokens", "estimatedCost": cost, "currentBalance": 6.0, "balanceAfterEstimate": after, "wouldOverdraft": over,
			"breakdown": []any{map[string]any{"featureId": "ai", "cost": cost, "warningCode": nil}},
		}}}
	}
	warning := func(code string) map[string]any {
		return map[string]any{"warnings": []any{code}, "estimates": []any{}}
	}
	ofUsage := func(fields string) map[string]any {
		return object(t, api, "EstimateUsageCost", "input", `{"customerId":"acme",`+fields+`}`, "estimateUsageCost")
	}
	ofEvent := func(name string) map[string]any {
		return object(t, api, "EstimateEventCost", "input", `{"customerId":"acme","eventName":"`+name+`","dimensions":{}}`, "estimateEventCost")
	}
	require.Equal(t, estimate(6, 0, false), ofUsage(`"featureId":"ai","value":3`))
	require.Equal(t, estimate(8, -2, true), ofUsage(`"featureId":"ai","value":4`))
	require.Equal(t, estimate(2, 4, false), ofUsage(`"featureId":"ai","value":4,"updateBehavior":"SET"`))
	require.Equal(t, estimate(10, -4, true), ofEvent("inference"))
	require.Equal(t, warning("FEATURE_NOT_CREDIT_BASED"), ofUsage(`"featureId":"sso","value":1`))
	require.Equal(t, warning("FEATURE_NOT_FOUND"), ofUsage(`"featureId":"none","value":1`))
	require.Equal(t, warning("FEATURE_NOT_FOUND"), ofEvent("unknown"))
	orphan := ofUsage(`"featureId":"orphan","value":1`)["estimates"].([]any)[0].(map[string]any)
	require.Equal(t, true, orphan["wouldOverdraft"])
	require.Equal(t, 3.0, state(t, api, "acme").get(t, "ai", "currentUsage"), "nothing was changed")
}

func TestSdkConfiguration(t *testing.T) {
	api := stiggtest.New(t)
	a := post(t, api, "GetSdkConfiguration", nil)
	require.JSONEq(t, `{"data":{"sdkConfiguration":{"sentryDsn":null,"isWidgetWatermarkEnabled":false,"showWatermark":false}}}`, a.body)
}

func TestOperationsRefuse(t *testing.T) {
	api := acme(t)
	usage := func(fields string) string {
		return `{"customerId":"acme","featureId":"calls","value":1,` + fields + `}`
	}
	tests := []struct{ code, operation, argument, input string }{
		{"GRAPHQL_VALIDATION_FAILED", "GetPaywall", "input", `{}`},
		{"GRAPHQL_VALIDATION_FAILED", "", "input", `{}`},
		{"BadUserInput", "GetEntitlementsState", "input", `{"customerId":"acme"}`},
		{"BadUserInput", "GetEntitlementsState", "query", `null`},
		{"BadUserInput", "GetEntitlementsState", "query", `{}`},
		{"BadUserInput", "GetEntitlementsState", "query", `{"customerId":"acme","resourceId":""}`},
		{"BadUserInput", "GetEntitlementsState", "query", `{"customerId":"acme","featureId":"calls"}`},
		{"BadUserInput", "ReportUsage", "input", `{"customerId":"acme","featureId":"calls"}`},
		{"BadUserInput", "ReportUsage", "input", usage(`"updateBehavior":""`)},
		{"BadUserInput", "ReportUsage", "input", usage(`"idempotencyKey":""`)},
		{"BadUserInput", "ReportUsage", "input", usage(`"environmentId":""`)},
		{"BadUserInput", "ReportUsage", "input", usage(`"createdAt":"0001-01-01T00:00:00Z"`)},
		{"BadUserInput", "ReportUsage", "input", usage(`"createdAt":"yesterday"`)},
		{"FeatureNotFound", "ReportUsage", "input", `{"customerId":"acme","featureId":"none","value":1}`},
		{"FeatureNotFound", "ReportUsage", "input", usage(`"resourceId":"none"`)},
		{"CustomerNotFound", "ReportUsage", "input", `{"customerId":"none","featureId":"calls","value":1}`},
		{"BadUserInput", "ConsumeCredits", "input", `{"customerId":"acme","currencyId":"tokens","amount":1}`},
		{"CustomCurrencyNotFound", "ConsumeCredits", "input", `{"customerId":"acme","currencyId":"none","amount":1,"idempotencyKey":"k"}`},
		{"CustomerNotFound", "ConsumeCredits", "input", `{"customerId":"none","currencyId":"tokens","amount":1,"idempotencyKey":"k"}`},
		{"BadUserInput", "EstimateUsageCost", "input", `{"customerId":"acme","featureId":"calls"}`},
		{"CustomerNotFound", "EstimateUsageCost", "input", `{"customerId":"none","featureId":"calls","value":1}`},
		{"BadUserInput", "EstimateEventCost", "input", `{"customerId":"acme"}`},
		{"CustomerNotFound", "GetCreditBalance", "input", `{"customerId":"none"}`},
		{"CustomerNotFound", "GetCreditGrants", "input", `{"customerId":"none"}`},
		{"BadUserInput", "GetCreditGrants", "input", `{"customerId":"acme","paging":{"last":1}}`},
		{"BadUserInput", "GetCreditGrants", "input", `{"customerId":"acme","paging":{"first":0}}`},
		{"BadUserInput", "GetCreditLedger", "input", `{"customerId":"acme","paging":{"after":"MQ=="}}`},
		{"BadUserInput", "GetAutomaticRechargeConfiguration", "input", `{"customerId":"acme"}`},
	}
	for _, test := range tests {
		t.Run(test.operation+" "+test.input, func(t *testing.T) {
			require.Equal(t, test.code, errorCode(t, api, test.operation, test.argument, test.input))
		})
	}
	require.Equal(t, 1.0, state(t, api, "acme").get(t, "calls", "currentUsage"))
}

func TestRequestsThatAreNotGraphQL(t *testing.T) {
	api := stiggtest.New(t)
	for _, body := range []string{"", "{", `[]`, `{"operationName":"GetSdkConfiguration"}`} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL()+"/graphql", strings.NewReader(body))
		require.NoError(t, err)
		require.Equal(t, 400, do(request).status, body)
	}
}

// A client may name the operation in the header alone.
func TestOperationNameOfTheHeader(t *testing.T) {
	api := stiggtest.New(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL()+"/graphql", strings.NewReader(`{"query":"{ sdkConfiguration { sentryDsn } }"}`))
	require.NoError(t, err)
	request.Header.Set("x-graphql-operation-name", "GetSdkConfiguration")
	require.Contains(t, do(request).body, `"sdkConfiguration"`)
	require.Equal(t, 1, api.Count(stiggtest.Operation("GetSdkConfiguration")))
}
