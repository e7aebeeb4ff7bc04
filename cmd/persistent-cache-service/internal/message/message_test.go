package message_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/entitlements"
)

var at = time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)

func decode(t *testing.T, body string) message.Message {
	t.Helper()
	m, err := message.Decode(body)
	require.NoError(t, err)
	return m
}

func TestActions(t *testing.T) {
	key := cache.Key{CustomerID: "c"}
	resource := cache.Key{CustomerID: "c", ResourceID: "r"}
	const stamp = `"timestamp":"2026-06-01T10:00:00.000Z","environmentId":"e"`
	for name, c := range map[string]struct {
		body string
		want message.Message
	}{
		"any event of a customer":    {`{"type":"subscription.created",` + stamp + `,"customer":{"id":"c"},"resource":null}`, message.Message{Type: "subscription.created", Action: message.Refetch, Key: key, EnvironmentID: "e", Time: at}},
		"of a resource":              {`{"type":"subscription.created","customer":{"id":"c"},"resource":{"id":"r"}}`, message.Message{Type: "subscription.created", Action: message.Refetch, Key: resource}},
		"of an unknown type":         {`{"type":"new.thing",` + stamp + `,"customer":{"id":"c"}}`, message.Message{Type: "other", Action: message.Refetch, Key: key, EnvironmentID: "e", Time: at}},
		"that names it flat":         {`{"type":"new.thing","customerId":"c","resourceId":"r"}`, message.Message{Type: "other", Action: message.Refetch, Key: resource}},
		"of nobody":                  {`{"type":"coupon.created"}`, message.Message{Type: "other"}},
		"archived":                   {`{"type":"customer.archived",` + stamp + `,"customer":{"id":"c"}}`, message.Message{Type: "customer.archived", Action: message.PurgeCustomer, Key: key, EnvironmentID: "e", Time: at}},
		"deleted":                    {`{"type":"customer.deleted","customer":{"id":"c"},"resource":{"id":"r"}}`, message.Message{Type: "customer.deleted", Action: message.PurgeCustomer, Key: key}},
		"published event":            {`{"type":"package.published","package":{"id":"p","migrationType":"ALL_CUSTOMERS"}}`, message.Message{Type: "package.published", Action: message.PurgeAll}},
		"published event, new":       {`{"type":"package.published","migrationType":"NEW_CUSTOMERS","customer":{"id":"c"}}`, message.Message{Type: "package.published"}},
		"published":                  {`{"packagePublished":{"environmentId":"e","migrationType":"ALL_CUSTOMERS","packageVersion":3}}`, message.Message{Type: "packagePublished", Action: message.PurgeAll, EnvironmentID: "e"}},
		"published to new customers": {`{"data":{"packagePublished":{"migrationType":"NEW_CUSTOMERS"}}}`, message.Message{Type: "packagePublished"}},
		"usage of a feature": {`{"usageUpdatedV2":{"customerId":"c","resourceId":"r","entitlementReference":{"id":"f","type":"FEATURE"},"usage":{"currentUsage":3.5,"usageUpdatedAt":"2026-06-01T10:00:00.000Z","usagePeriodStart":"2026-06-01T00:00:00.000Z","usagePeriodEnd":null}}}`,
			message.Message{Type: "usageUpdatedV2", Action: message.UpdateUsage, Key: resource, Time: at, Ref: cache.Ref{ID: "f"}, Usage: entitlements.Usage{Current: 3.5, PeriodStart: at.Add(-10 * time.Hour), UpdatedAt: at}}},
		"usage of a credit": {`{"data":{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"u","type":"CREDIT"},"usage":{"currentUsage":1}}}}`,
			message.Message{Type: "usageUpdatedV2", Action: message.UpdateUsage, Key: key, Ref: cache.Ref{IsCredit: true, ID: "u"}, Usage: entitlements.Usage{Current: 1}}},
		"usage of something new": {`{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"u","type":"TOKEN"},"usage":{}}}`,
			message.Message{Type: "usageUpdatedV2", Action: message.Refetch, Key: key}},
		"balance": {`{"creditBalanceUpdated":{"customerId":"c","currencyId":"u","currentBalance":40,"totalConsumed":60,"totalGranted":100},"timestamp":1780308000000}`,
			message.Message{Type: "creditBalanceUpdated", Action: message.UpdateBalance, Key: key, Time: at, Ref: cache.Ref{IsCredit: true, ID: "u"}, Balance: message.Balance{Granted: 100, Remaining: 40}}},
		"balance with the currency within": {`{"creditBalanceUpdated":{"customerId":"c","currency":{"currencyId":"u"},"currentBalance":-4,"totalGranted":100}}`,
			message.Message{Type: "creditBalanceUpdated", Action: message.UpdateBalance, Key: key, Ref: cache.Ref{IsCredit: true, ID: "u"}, Balance: message.Balance{Granted: 100, Remaining: -4}}},
		"empty list":          {`{"type":"entitlements.updated",` + stamp + `,"customer":{"id":"c"},"entitlements":[]}`, message.Message{Type: "entitlements.updated", Action: message.Refetch, Key: key, EnvironmentID: "e", Time: at}},
		"empty realtime list": {`{"entitlementsUpdatedV2":{"customerId":"c","entitlements":[],"accessDeniedReason":null}}`, message.Message{Type: "entitlementsUpdatedV2", Action: message.Refetch, Key: key}},
		"first version list":  {`{"entitlementsUpdated":{"customerId":"c","entitlements":[{}]}}`, message.Message{Type: "entitlementsUpdated", Action: message.Refetch, Key: key}},
		"first version usage": {`{"usageUpdated":{"usage":{"customerId":"c","resourceId":"r","featureId":"f"},"entitlement":{}}}`, message.Message{Type: "usageUpdated", Action: message.Refetch, Key: resource}},
		"escaped":             {`{"\u0074ype":"new.\"thing\"","customer":{"id":"c\u0022\\","x":"\\\""}}`, message.Message{Type: "other", Action: message.Refetch, Key: cache.Key{CustomerID: `c"\`}}},
		"space":               {" {\n\t\"type\" : \"x\" ,\r\n \"customer\" : { \"id\" : \"c\" } , \"l\" : [ 1 , 2 ] } \n", message.Message{Type: "other", Action: message.Refetch, Key: key}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, decode(t, c.body)) })
	}
}

// entry is an entry of an event's list, with fields replaced or added.
func entry(fields string) string {
	base := map[string]json.RawMessage{}
	must(json.Unmarshal([]byte(`{"feature":{"id":"f","name":"F","featureType":"NUMBER","meterType":"Incremental","unit":"call","units":"calls"},"usageLimit":10,"hasUnlimitedUsage":false,"hasSoftLimit":true,"currentUsage":4,"usagePeriodAnchor":"2026-01-31T00:00:00Z","usagePeriodStart":"2026-05-31T00:00:00Z","usagePeriodEnd":"2026-06-30T00:00:00Z","resetPeriod":"MONTH","resetPeriodConfiguration":{"monthlyAccordingTo":"SubscriptionStart"},"enumValues":null,"creditBalance":null}`), &base))
	more := map[string]json.RawMessage{}
	must(json.Unmarshal([]byte(fields), &more))
	for name, value := range more {
		base[name] = value
	}
	out, err := json.Marshal(base)
	must(err)
	return string(out)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func list(entries ...string) string {
	return `{"type":"entitlements.updated","timestamp":"2026-06-01T11:00:00.000Z","entitlementsUpdatedAt":"2026-06-01T10:00:00.000Z","customer":{"id":"c"},"entitlements":[` + strings.Join(entries, ",") + `]}`
}

const (
	wallet      = `{"feature":null,"creditBalance":{"creditCurrency":{"id":"tokens","name":"Tokens","description":"D","unitLabel":{"singular":"token","plural":"tokens"}},"totalGranted":100,"remainingBalance":30,"remainingBalancePercentage":30},"usageLimit":null,"hasSoftLimit":true,"currentUsage":null,"usagePeriodEnd":"2026-07-01T00:00:00Z"}`
	balanceOnly = `"creditBalance":{"creditCurrency":{"id":"tokens"},"totalGranted":100,"remainingBalance":30}`
)

func TestSelfContainedList(t *testing.T) {
	m := decode(t, list(entry(`{}`), entry(`{"feature":{"id":"e","featureType":"enum"},"enumValues":["a","b"],"currentUsage":null}`), wallet))
	require.Equal(t, message.Write, m.Action)
	require.Equal(t, at, m.Time)
	require.Len(t, m.State.Records, 3)
	metered := m.State.Records[0]
	require.Equal(t, entitlements.KindMetered, metered.Definition.Kind())
	require.Equal(t, at, metered.Definition.UpdatedAt)
	require.Equal(t, 10.0, *metered.Definition.UsageLimit)
	require.True(t, metered.Definition.HasSoftLimit)
	require.Equal(t, entitlements.ResetMonth, metered.Definition.ResetPeriod)
	require.Equal(t, time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), metered.Definition.UsagePeriodAnchor)
	require.Equal(t, "call", metered.Definition.Feature.Units)
	require.Equal(t, "calls", metered.Definition.Feature.UnitsPlural)
	require.JSONEq(t, `{"__typename":"MonthlyResetPeriodConfig","monthlyAccordingTo":"SubscriptionStart"}`, string(metered.Definition.RawResetPeriodConfiguration))
	require.True(t, metered.HasUsage)
	require.Equal(t, 4.0, metered.Usage.Current)
	require.Equal(t, time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC), metered.Usage.PeriodEnd)
	enum := m.State.Records[1]
	require.Equal(t, entitlements.KindEnum, enum.Definition.Kind())
	require.Equal(t, []string{"a", "b"}, enum.Definition.EnumValues)
	require.False(t, enum.HasUsage)
	credit := m.State.Records[2]
	require.Equal(t, entitlements.KindCredit, credit.Definition.Kind())
	require.Equal(t, 100.0, *credit.Definition.UsageLimit)
	require.Equal(t, 70.0, credit.Usage.Current)
	require.True(t, credit.HasUsage)
	require.True(t, credit.Definition.HasSoftLimit)
	require.Equal(t, "token", credit.Definition.Currency.UnitSingular)
	require.Equal(t, time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), credit.Usage.PeriodEnd)
}

// A list that does not say everything is fetched instead.
func TestListsThatAreNotSelfContained(t *testing.T) {
	for name, body := range map[string]string{
		"usage is missing":         list(entry(`{"currentUsage":null}`)),
		"rate is missing":          list(entry(`{`+balanceOnly+`}`), wallet),
		"feature type is unknown":  list(entry(`{"feature":{"id":"f","featureType":"TENSOR"}}`)),
		"feature type is missing":  list(entry(`{"feature":{"id":"f"}}`)),
		"granted is missing":       list(strings.Replace(wallet, `"totalGranted":100`, `"totalGranted":null`, 1)),
		"remaining is missing":     list(strings.Replace(wallet, `"remainingBalance":30,`, ``, 1)),
		"only one of two is whole": list(entry(`{}`), entry(`{"currentUsage":null}`)),
	} {
		t.Run(name, func(t *testing.T) {
			m := decode(t, body)
			require.Equal(t, message.Refetch, m.Action)
			require.Empty(t, m.State.Records)
			require.Equal(t, "c", m.Key.CustomerID)
		})
	}
	rated := decode(t, list(entry(`{`+balanceOnly+`,"creditRate":{"amount":2,"currencyId":"tokens"}}`), wallet))
	require.Equal(t, message.Write, rated.Action)
	require.Equal(t, 2.0, rated.State.Records[0].Definition.CreditRate.Amount)
}

// The lists of realtime payloads are those of the APIs: the recorded answers
// serve as payloads.
func TestRealtimeList(t *testing.T) {
	raw, err := os.ReadFile("../../../../internal/edge/testdata/edge-entitlements-state.json")
	require.NoError(t, err)
	var answers map[string]struct {
		Data struct {
			EntitlementsState struct {
				EntitlementsV2     []map[string]any
				AccessDeniedReason *string
			}
		}
	}
	require.NoError(t, json.Unmarshal(raw, &answers))
	payload := func(list []map[string]any) string {
		body, err := json.Marshal(map[string]any{"entitlementsUpdatedV2": map[string]any{"customerId": "c", "resourceId": nil, "accessDeniedReason": nil, "entitlements": list}})
		require.NoError(t, err)
		return string(body)
	}
	written := 0
	for name, answer := range answers {
		list := answer.Data.EntitlementsState.EntitlementsV2
		m := decode(t, payload(list))
		require.Equal(t, "c", m.Key.CustomerID, name)
		if m.Action == message.Write {
			written++
			require.Len(t, m.State.Records, len(list), name)
			require.False(t, m.Time.IsZero(), name)
		}
	}
	require.Positive(t, written)

	// Without the rates, which of a wallet's customer's features cost credits
	// is not known.
	feature := map[string]any{"__typename": "FeatureEntitlement", "currentUsage": 1, "feature": map[string]any{"refId": "f", "featureType": "NUMBER", "meterType": "Incremental"}}
	credit := map[string]any{"__typename": "CreditEntitlement", "currentUsage": 1, "usageLimit": 5, "currency": map[string]any{"currencyId": "u"}}
	require.Equal(t, message.Write, decode(t, payload([]map[string]any{feature})).Action)
	require.Equal(t, message.Refetch, decode(t, payload([]map[string]any{feature, credit})).Action)
	feature["creditRate"] = nil
	require.Equal(t, message.Write, decode(t, payload([]map[string]any{feature, credit})).Action)
}

func TestWrappers(t *testing.T) {
	inner := `{"type":"x","customer":{"id":"c"}}`
	text, err := json.Marshal(inner)
	require.NoError(t, err)
	sns := fmt.Sprintf(`{"Type":"Notification","MessageId":"m","Timestamp":"2026-06-01T10:00:00.000Z","Message":%s}`, text)
	bus := `{"version":"0","detail-type":"x","time":"2026-06-01T10:00:00Z","detail":` + inner + `}`
	for name, body := range map[string]string{
		"sns": sns, "bus": bus, "bus in sns": string(must1(json.Marshal(map[string]string{"Type": "Notification", "Timestamp": "2026-06-01T10:00:00Z", "Message": bus}))),
		"text in bus": `{"detail-type":"x","time":"2026-06-01T10:00:00Z","detail":` + string(text) + `}`,
	} {
		m := decode(t, body)
		require.Equal(t, "c", m.Key.CustomerID, name)
		require.Equal(t, at, m.SentAt, name)
		require.True(t, m.Time.IsZero(), "the wrapper's time is not the message's")
	}
	wrong := decode(t, strings.Replace(sns, "2026-06-01T10:00:00.000Z", "yesterday", 1))
	require.True(t, wrong.SentAt.IsZero())

	for range 10 {
		bus = `{"detail-type":"x","detail":` + bus + `}`
	}
	_, err = message.Decode(bus)
	require.Equal(t, message.UnknownFormat, kind(err))
}

func must1[T any](v T, err error) T {
	must(err)
	return v
}

func kind(err error) string {
	var e *message.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Kind
}

func TestUnreadable(t *testing.T) {
	for body, want := range map[string]string{
		``:                         message.NotJSON,
		`hush`:                     message.NotJSON,
		`{"type":"x"`:              message.NotJSON,
		`{"type":"x","y":[1,2,}`:   message.NotJSON,
		`{"type":"x"} {}`:          message.NotJSON,
		`[]`:                       message.NotJSON,
		`null`:                     message.NotJSON,
		`"hush"`:                   message.NotJSON,
		strings.Repeat("[", 20000): message.NotJSON,
		strings.Repeat("[", 20000) + strings.Repeat("]", 20000): message.NotJSON,
		`{"Type":"Notification","Message":"hush"}`:              message.NotJSON,
		`{"detail-type":"x","detail":"hush"}`:                   message.NotJSON,
		`{}`:                                                    message.UnknownFormat,
		`{"hush":1}`:                                            message.UnknownFormat,
		`{"type":null}`:                                         message.UnknownFormat,
		`{"usageUpdatedV2":"hush"}`:                             message.UnknownFormat,
		`{"data":{"subscriptionAdded":{}}}`:                     message.UnknownFormat,
		`{"type":""}`:                                           message.Malformed,
		`{"type":7}`:                                            message.Malformed,
		`{"type":"customer.updated","timestamp":"hush"}`:        message.Malformed,
		`{"type":"customer.updated","timestamp":-5}`:            message.Malformed,
		`{"type":"customer.updated","customer":"hush"}`:         message.Malformed,
		`{"type":"customer.updated","customer":{"id":7}}`:       message.Malformed,
		`{"type":"customer.updated","customer":{"id":""}}`:      message.Malformed,
		`{"type":"customer.updated","customer":{"id":"` + strings.Repeat("x", 256) + `"}}`:     message.Malformed,
		`{"type":"customer.updated","customer":{"id":"c"},"resource":[]}`:                      message.Malformed,
		`{"type":"customer.updated","environmentId":{}}`:                                       message.Malformed,
		`{"type":"customer.archived"}`:                                                         message.Malformed,
		`{"type":"entitlements.updated","entitlements":[]}`:                                    message.Malformed,
		`{"type":"entitlements.updated","customer":{"id":"c"},"entitlements":{}}`:              message.Malformed,
		`{"type":"entitlements.updated","customer":{"id":"c"},"entitlementsUpdatedAt":"hush"}`: message.Malformed,
		list(`{}`):                           message.Malformed,
		list(`null`):                         message.Malformed,
		list(`"hush"`):                       message.Malformed,
		list(entry(`{"usageLimit":"hush"}`)): message.Malformed,
		list(entry(`{"usageLimit":1e30}`)):   message.Malformed,
		list(`{"feature":{"id":"f"},"usageLimit":1e999}`): message.Malformed,
		list(entry(`{"hasSoftLimit":"hush"}`)):            message.Malformed,
		list(entry(`{"enumValues":"hush"}`)):              message.Malformed,
		list(entry(`{"enumValues":[1]}`)):                 message.Malformed,
		list(entry(`{"usagePeriodEnd":"hush"}`)):          message.Malformed,
		list(entry(`{"feature":"hush"}`)):                 message.Malformed,
		list(entry(`{"feature":{"name":"hush"}}`)):        message.Malformed,
		list(entry(`{"creditRate":{"amount":2}}`)):        message.Malformed,
		list(`{"creditBalance":{"totalGranted":1}}`):      message.Malformed,
		`{"usageUpdatedV2":{"entitlementReference":{"id":"f","type":"FEATURE"},"usage":{"currentUsage":1}}}`:                                          message.Malformed,
		`{"usageUpdatedV2":{"customerId":"c","usage":{"currentUsage":1}}}`:                                                                            message.Malformed,
		`{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"f","type":"FEATURE"},"usage":{}}}`:                                         message.Malformed,
		`{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"f","type":"FEATURE"},"usage":{"currentUsage":1,"usageUpdatedAt":"hush"}}}`: message.Malformed,
		`{"creditBalanceUpdated":{"customerId":"c","currencyId":"u","totalGranted":1}}`:                                                               message.Malformed,
		`{"creditBalanceUpdated":{"customerId":"c","currentBalance":1,"totalGranted":1}}`:                                                             message.Malformed,
		`{"entitlementsUpdatedV2":{"customerId":"c","entitlements":"hush"}}`:                                                                          message.Malformed,
		`{"entitlementsUpdatedV2":{"customerId":"c","entitlements":[{"__typename":"FeatureEntitlement","feature":{"refId":""}}]}}`:                    message.Malformed,
		`{"entitlementsUpdatedV2":{"entitlements":[]}}`:                                                                                               message.Malformed,
	} {
		_, err := message.Decode(body)
		require.Equal(t, want, kind(err), "%.100s", body)
		require.NotContains(t, err.Error(), "hush", "an error quotes the message")
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		list(entry(`{}`), wallet),
		`{"data":{"creditBalanceUpdated":{"customerId":"c","currencyId":"u","currentBalance":40,"totalConsumed":60,"totalGranted":100}},"timestamp":1}`,
		`{"usageUpdatedV2":{"customerId":"c","entitlementReference":{"id":"f","type":"FEATURE"},"usage":{"currentUsage":1,"usageUpdatedAt":"2026-06-01T10:00:00.000Z"}}}`,
		`{"entitlementsUpdatedV2":{"customerId":"c","entitlements":[{"__typename":"CreditEntitlement","currentUsage":1,"currency":{"currencyId":"u"}}]}}`,
		`{"Type":"Notification","Message":"{\"type\":\"x\"}"}`, `{"detail-type":"x","detail":{"type":"\\\"x"}}`,
		`{"packagePublished":{"migrationType":"ALL_CUSTOMERS"}}`, "{\"\\u0074ype\":\"\xff\",\"customer\":{\"id\":\"\xff\"}}", `{"a":[{},{"b":"]}"}],"type":"x"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		m, err := message.Decode(body)
		if err != nil {
			require.NotEmpty(t, kind(err))
			require.Zero(t, m)
			return
		}
		require.True(t, json.Valid([]byte(body)))
		require.NotEmpty(t, m.Type)
		switch m.Action {
		case message.Ignore, message.PurgeAll:
			require.Zero(t, m.Key)
		default:
			require.NotEmpty(t, m.Key.CustomerID)
		}
		require.LessOrEqual(t, len(m.Key.CustomerID)+len(m.Key.ResourceID), 2*255)
		require.Equal(t, m.Action == message.Write, len(m.State.Records) > 0)
		for _, r := range m.State.Records {
			require.NotEqual(t, entitlements.KindUnknown, r.Definition.Kind())
			require.True(t, !r.Definition.UsageTrackable() || r.HasUsage)
			raw := r.Definition.RawResetPeriodConfiguration
			require.True(t, raw == nil || json.Valid(raw))
			_, err := json.Marshal(r.Usage.Current)
			require.NoError(t, err)
		}
		if m.Action == message.UpdateUsage || m.Action == message.UpdateBalance {
			require.NotEmpty(t, m.Ref.ID)
			_, err := json.Marshal([]float64{m.Usage.Current, m.Balance.Consumed()})
			require.NoError(t, err)
		}
		require.True(t, m.Time.IsZero() || m.Time.UnixMilli() > 0)
	})
}

// An event of a type that is not known says in fields of its own what it
// likes: that is no reason to keep it in the queue.
func TestUnknownTypeWithOddFields(t *testing.T) {
	customer := cache.Key{CustomerID: "c"}
	for body, want := range map[string]message.Message{
		`{"type":"foo.bar","customer":"c1"}`:                              {Type: "other"},
		`{"type":"foo.bar","customer":{"id":7}}`:                          {Type: "other"},
		`{"type":"foo.bar","customer":{"id":""}}`:                         {Type: "other"},
		`{"type":"foo.bar","customerId":[1]}`:                             {Type: "other"},
		`{"type":"foo.bar","timestamp":"yesterday"}`:                      {Type: "other"},
		`{"type":"foo.bar","environmentId":5}`:                            {Type: "other"},
		`{"type":"foo.bar","timestamp":{},"customer":{"id":"c"}}`:         {Type: "other", Action: message.Refetch, Key: customer},
		`{"type":"foo.bar","resource":"r","customer":{"id":"c"}}`:         {Type: "other", Action: message.Refetch, Key: customer},
		`{"type":"foo.bar","environmentId":[],"customer":{"id":"c"}}`:     {Type: "other", Action: message.Refetch, Key: customer},
		`{"type":"foo.bar","environmentId":"e","timestamp":"","hi":[{}]}`: {Type: "other", EnvironmentID: "e"},
	} {
		require.Equal(t, want, decode(t, body), body)
	}
	for _, body := range []string{
		`{"type":"customer.updated","customer":"c1"}`,
		`{"type":"customer.updated","timestamp":"yesterday","customer":{"id":"c"}}`,
		`{"type":"customer.updated","environmentId":5,"customer":{"id":"c"}}`,
	} {
		_, err := message.Decode(body)
		var unread *message.Error
		require.ErrorAs(t, err, &unread, body)
		require.Equal(t, message.Malformed, unread.Kind, body)
	}
}

// What reading a configuration of reset periods costs grows with its length,
// not with its square.
func TestLongResetConfiguration(t *testing.T) {
	allocated := func(fields int) uint64 {
		configuration := `{"monthlyAccordingTo":"StartOfTheMonth"` + strings.Repeat(`,"":1`, fields) + `}`
		body := list(entry(`{"resetPeriodConfiguration":null}`))
		body = strings.Replace(body, `"resetPeriodConfiguration":null`, `"resetPeriodConfiguration":`+configuration, 1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := message.Decode(body)
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		require.Len(t, m.State.Records[0].Definition.RawResetPeriodConfiguration, len(configuration)+len(`"__typename":"MonthlyResetPeriodConfig",`))
		return after.TotalAlloc - before.TotalAlloc
	}
	const fields = 5000
	require.Less(t, allocated(4*fields), 8*allocated(fields))
}
