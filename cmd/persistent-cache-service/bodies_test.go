package main

import (
	"encoding/json"
	"fmt"
	"time"
)

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// usageBody is a realtime payload that brings a usage.
func usageBody(customerID, featureID string, usage float64, at time.Time) string {
	return fmt.Sprintf(`{"usageUpdatedV2":{"customerId":%q,"resourceId":null,"entitlementReference":{"id":%q,"type":"FEATURE"},"usage":{"currentUsage":%v,"usageUpdatedAt":%q,"usagePeriodStart":null,"usagePeriodEnd":null}}}`,
		customerID, featureID, usage, iso(at))
}

// listBody is an event that brings all entitlements: n of them, of which every
// fifth is metered and the last is a wallet.
func listBody(customerID string, n int, usage float64, at time.Time) string {
	entries := make([]map[string]any, 0, n)
	for i := range n - 1 {
		feature := map[string]any{
			"id": fmt.Sprintf("feature-%d", i), "name": fmt.Sprintf("Feature number %d", i), "description": "What this feature is good for, in a sentence.",
			"featureType": "BOOLEAN", "meterType": "None", "unit": nil, "units": nil, "status": "ACTIVE", "enumConfiguration": nil,
		}
		entry := map[string]any{
			"feature": feature, "usageLimit": nil, "hasUnlimitedUsage": false, "hasSoftLimit": false, "currentUsage": nil,
			"usagePeriodAnchor": nil, "usagePeriodStart": nil, "usagePeriodEnd": nil, "resetPeriod": nil,
			"resetPeriodConfiguration": nil, "enumValues": nil, "creditBalance": nil,
		}
		switch i % 5 {
		case 0:
			feature["featureType"], feature["meterType"], feature["unit"], feature["units"] = "NUMBER", "Incremental", "call", "calls"
			entry["usageLimit"], entry["currentUsage"], entry["resetPeriod"] = 1000+usage, usage, "MONTH"
			entry["usagePeriodAnchor"], entry["usagePeriodStart"], entry["usagePeriodEnd"] = "2026-01-01T00:00:00.000Z", "2026-06-01T00:00:00.000Z", "2026-07-01T00:00:00.000Z"
			entry["resetPeriodConfiguration"] = map[string]any{"monthlyAccordingTo": "SubscriptionStart"}
		case 1:
			feature["featureType"], entry["enumValues"] = "ENUM", []string{"eu", "us"}
		case 2:
			feature["featureType"], entry["usageLimit"] = "NUMBER", usage
		}
		entries = append(entries, entry)
	}
	entries = append(entries, map[string]any{
		"feature": nil, "usageLimit": nil, "hasUnlimitedUsage": false, "hasSoftLimit": false, "currentUsage": nil,
		"creditBalance": map[string]any{
			"creditCurrency": map[string]any{"id": "tokens", "name": "Tokens", "description": "", "unitLabel": map[string]any{"singular": "token", "plural": "tokens"}},
			"totalGranted":   100000, "remainingBalance": 100000 - usage, "remainingBalancePercentage": 99,
		},
	})
	body, err := json.Marshal(map[string]any{
		"type": "entitlements.updated", "messageId": "m-1", "traceId": "t-1", "timestamp": iso(at), "environmentId": "env-1",
		"customer": map[string]any{"id": customerID, "name": "Customer", "email": "someone@example.com"}, "resource": nil,
		"entitlementsUpdatedAt": iso(at), "entitlements": entries,
	})
	if err != nil {
		panic(err)
	}
	return string(body)
}
