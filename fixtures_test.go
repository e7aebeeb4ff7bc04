package stigg_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// fixtureEntitlement is as much of an entitlement of the Edge API's answer as
// the tests need to ask for it.
type fixtureEntitlement struct {
	Feature *struct {
		RefID string `json:"refId"`
	} `json:"feature"`
	Currency *struct {
		CurrencyID string `json:"currencyId"`
	} `json:"currency"`
}

type fixtureState struct {
	Data struct {
		EntitlementsState struct {
			EntitlementsV2     []json.RawMessage `json:"entitlementsV2"`
			AccessDeniedReason *string           `json:"accessDeniedReason"`
		} `json:"entitlementsState"`
	} `json:"data"`
}

// queries asks for every entitlement of a fixture's customer, and for one of
// each kind that it does not have.
func queries(t *testing.T, who [2]string, answer json.RawMessage) []stigg.EntitlementQuery {
	t.Helper()
	var state fixtureState
	require.NoError(t, json.Unmarshal(answer, &state))
	all := []stigg.EntitlementQuery{
		{CustomerID: who[0], ResourceID: who[1], FeatureID: "no-such-feature"},
		{CustomerID: who[0], ResourceID: who[1], CurrencyID: "no-such-currency"},
	}
	for _, raw := range state.Data.EntitlementsState.EntitlementsV2 {
		var e fixtureEntitlement
		require.NoError(t, json.Unmarshal(raw, &e))
		q := stigg.EntitlementQuery{CustomerID: who[0], ResourceID: who[1], RequestedUsage: 1}
		if e.Feature != nil {
			q.FeatureID = e.Feature.RefID
		} else {
			q.CurrencyID = e.Currency.CurrencyID
		}
		all = append(all, q)
	}
	return all
}

// sameAnswer compares two answers but for where they came from.
func sameAnswer(t *testing.T, live, cached stigg.Entitlement, what string) {
	t.Helper()
	live.Source, cached.Source = "", ""
	require.Equal(t, live, cached, what)
}

// expiring are the fixtures' customers in which something has ended, which is
// reason to ask the API once.
var expiring = []string{"cust-valid-until", "cust-credit"}

func TestCurrentDumpIsReadWithoutRequests(t *testing.T) {
	server := redistest.Start(t)
	redistest.LoadDump(t, server.Client(), "testdata/redis-cache-store-1.29.json")
	api := fixtureAPI(t)
	cached := newClient(t, api, server)
	live := newClient(t, api, nil)

	asked := 0
	for who, answer := range edgeFixture(t) {
		for _, q := range queries(t, who, answer) {
			what := fmt.Sprintf("%v %s%s", who, q.FeatureID, q.CurrencyID)
			want, err := live.GetEntitlement(background(), q)
			require.NoError(t, err, what)
			api.ResetRequests()
			got, err := cached.GetEntitlement(background(), q)
			require.NoError(t, err, what)
			ended := slices.Contains([]string{"valid-past", "valid-past-met", "cred-past"}, q.FeatureID+q.CurrencyID)
			if !ended {
				require.Zero(t, api.Count(isFetch), what)
				require.Equal(t, stigg.SourceRedis, got.Source, what)
			}
			require.False(t, got.Stale, what)
			sameAnswer(t, want, got, what)
			asked++
		}

		want, err := live.GetEntitlements(background(), who[0], who[1])
		require.NoError(t, err)
		api.ResetRequests()
		got, err := cached.GetEntitlements(background(), who[0], who[1])
		require.NoError(t, err)
		if !slices.Contains(expiring, who[0]) {
			require.Zero(t, api.Count(isFetch), who)
			require.Equal(t, stigg.SourceRedis, got.Source)
		}
		require.Equal(t, want.AccessDeniedReason, got.AccessDeniedReason)
		require.Len(t, got.Entitlements, len(want.Entitlements))
		for i := range want.Entitlements {
			sameAnswer(t, want.Entitlements[i], got.Entitlements[i], fmt.Sprint(who, i))
		}
	}
	require.Greater(t, asked, 60)
	require.Zero(t, cached.Stats().UnreadableValues)
}

// TestOldDumpIsReadWithoutRequests reads what the older SDK wrote. It knew no
// credits, no metadata and no display names: the live answers that it is
// compared with are those of the same customers without credits.
func TestOldDumpIsReadWithoutRequests(t *testing.T) {
	server := redistest.Start(t)
	redistest.LoadDump(t, server.Client(), "testdata/redis-node-sdk-3.95.json")
	api := stiggtest.New(t)
	answers := edgeFixture(t)
	for who, answer := range answers {
		answers[who] = withoutCredits(t, answer)
		api.SetRaw(who[0], who[1], string(answers[who]))
	}
	cached := newClient(t, api, server)
	live := newClient(t, api, nil)

	for who, answer := range answers {
		for _, q := range queries(t, who, answer) {
			what := fmt.Sprintf("%v %s%s", who, q.FeatureID, q.CurrencyID)
			want, err := live.GetEntitlement(background(), q)
			require.NoError(t, err, what)
			api.ResetRequests()
			got, err := cached.GetEntitlement(background(), q)
			require.NoError(t, err, what)
			if !slices.Contains([]string{"valid-past", "valid-past-met"}, q.FeatureID) {
				require.Zero(t, api.Count(isFetch), what)
				require.Equal(t, stigg.SourceRedis, got.Source, what)
			}
			if strings.HasPrefix(who[0], "cust-none") { // no metadata: the reason is not known any more
				require.False(t, got.HasAccess)
				require.Equal(t, stigg.CustomerNotFound, got.AccessDeniedReason)
				continue
			}
			if got.Kind != stigg.KindUnknown && got.Kind != stigg.KindCredit {
				if who[0] != "cust-valid-until" { // which is fetched anew
					require.Equal(t, got.Feature.ID, got.Feature.DisplayName)
				}
				want.Feature.DisplayName = got.Feature.DisplayName
			}
			sameAnswer(t, want, got, what)
		}
	}
	require.Zero(t, cached.Stats().UnreadableValues)
}

func withoutCredits(t *testing.T, answer json.RawMessage) json.RawMessage {
	t.Helper()
	var state fixtureState
	require.NoError(t, json.Unmarshal(answer, &state))
	list := &state.Data.EntitlementsState.EntitlementsV2
	*list = slices.DeleteFunc(*list, func(raw json.RawMessage) bool {
		return strings.Contains(string(raw), `"CreditEntitlement"`)
	})
	if *list == nil {
		*list = []json.RawMessage{}
	}
	out, err := json.Marshal(state)
	require.NoError(t, err)
	return out
}

func TestWritesWhatTheOtherProgramsWrite(t *testing.T) {
	server := redistest.Start(t)
	api := fixtureAPI(t)
	client := newClient(t, api, server)
	for who := range edgeFixture(t) {
		_, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: who[0], ResourceID: who[1], FeatureID: "feature-bool"})
		require.NoError(t, err)
	}
	var dump []struct {
		Key, Value string
		TTLSeconds int
	}
	require.NoError(t, json.Unmarshal(fixture(t, "redis-cache-store-1.29.json"), &dump))
	rdb := server.Client()
	eventually(t, func() bool {
		return rdb.DBSize(background()).Val() == int64(len(dump)) && 2*client.Stats().PairsWritten >= uint64(len(dump))
	}, "write-back")

	var wantKeys []string
	for _, entry := range dump {
		wantKeys = append(wantKeys, entry.Key)
		got, err := rdb.Get(background(), entry.Key).Result()
		require.NoError(t, err, entry.Key)
		if strings.HasSuffix(entry.Key, "#timestamp") {
			require.Equal(t, entry.Value, got, entry.Key)
		} else {
			require.Equal(t, byContent(t, entry.Value), byContent(t, got), entry.Key)
		}
		ttl := rdb.TTL(background(), entry.Key).Val()
		require.InDelta(t, entry.TTLSeconds, ttl.Seconds(), 10, entry.Key)
	}
	gotKeys, err := rdb.Keys(background(), "*").Result()
	require.NoError(t, err)
	require.ElementsMatch(t, wantKeys, gotKeys)
}

// byContent decodes a value and names the entries of a customer value by what
// they are about, because their names are not part of the contract.
func byContent(t *testing.T, value string) map[string]any {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(value), &object))
	named := make(map[string]any)
	for name, entry := range object {
		inner, _ := entry.(map[string]any)
		calculated, ok := inner["calculatedEntitlement"].(map[string]any)
		if !ok {
			named[name] = entry
			continue
		}
		if feature, ok := calculated["feature"].(map[string]any); ok {
			named[fmt.Sprint("feature ", feature["id"])] = entry
		} else {
			named[fmt.Sprint("credit ", calculated["currency"].(map[string]any)["currencyId"])] = entry
		}
	}
	return named
}

func TestCommandsPerWarmCheck(t *testing.T) {
	server := redistest.Start(t)
	redistest.LoadDump(t, server.Client(), "testdata/redis-cache-store-1.29.json")
	client := newClient(t, fixtureAPI(t), server)
	recorder := server.Monitor()
	count := func(ask func() error) int {
		t.Helper()
		recorder.Reset()
		require.NoError(t, ask())
		calls := callsOfChecks(recorder)
		require.Len(t, calls, recorder.Count("MGET"), "%v", calls)
		return recorder.Count("MGET")
	}
	feature := func(customer, resource, id string) func() error {
		return func() error {
			a, err := client.GetEntitlement(background(), stigg.EntitlementQuery{CustomerID: customer, ResourceID: resource, FeatureID: id})
			require.Equal(t, stigg.SourceRedis, a.Source)
			return err
		}
	}
	require.Equal(t, 1, count(func() error {
		_, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "cust-basic", FeatureID: "feature-bool"})
		return err
	}))
	require.Equal(t, 1, count(func() error {
		_, err := client.GetNumericEntitlement(background(), stigg.NumericQuery{CustomerID: "cust-basic", FeatureID: "feature-num"})
		return err
	}))
	require.Equal(t, 1, count(func() error {
		_, err := client.GetEnumEntitlement(background(), stigg.EnumQuery{CustomerID: "cust-basic", FeatureID: "feature-enum"})
		return err
	}))
	require.Equal(t, 1, count(func() error {
		_, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"})
		return err
	}))
	require.Equal(t, 1, count(func() error {
		_, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "cust-credit", CurrencyID: "cred-plenty"})
		return err
	}))
	require.Equal(t, 1, count(feature("cust-res", "res-1", "feature-met")))
	require.Equal(t, 2, count(feature("cust-metered", "", "met-month"))+count(feature("cust-metered", "", "met-month")))
	// The wallet that a feature draws on is learnt from the value.
	fresh := newClient(t, fixtureAPI(t), server)
	video := func() error {
		_, err := fresh.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-credit", FeatureID: "ai-video"})
		return err
	}
	require.Equal(t, 2, count(video), "the first time")
	require.Equal(t, 1, count(video), "from then on")
	// So is which usages there are.
	all := func() error {
		state, err := client.GetEntitlements(background(), "cust-metered", "")
		require.Equal(t, stigg.SourceRedis, state.Source)
		return err
	}
	require.Equal(t, 2, count(all), "the first time")
	require.Equal(t, 1, count(all), "from then on")
}
