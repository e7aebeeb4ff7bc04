package graphql_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	genqlient "github.com/Khan/genqlient/graphql"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/graphql"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) *graphql.Client {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := graphql.New(graphql.Config{Endpoint: s.URL + "/graphql", APIKey: "secret-key", UserAgent: "agent/1"})
	t.Cleanup(c.CloseIdle)
	return c
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// sent is what a request carried.
type sent struct {
	Query         string
	OperationName string
	Variables     json.RawMessage
}

func TestRequestIsAsDocumented(t *testing.T) {
	var got sent
	var header http.Header
	var uri string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		header, uri = r.Header, r.Method+" "+r.RequestURI
		_ = json.NewDecoder(r.Body).Decode(&got)
		answer(`{"data":{"entitlementsState":{"entitlementsV2":[]}}}`)(w, r)
	})
	_, err := c.EntitlementsState(t.Context(), "a/b\"c", "")
	require.NoError(t, err)
	require.Equal(t, "POST /graphql", uri)
	require.Equal(t, "secret-key", header.Get("X-API-KEY"))
	require.Equal(t, "GetEntitlementsState", header.Get("x-graphql-operation-name"))
	require.Equal(t, "application/json", header.Get("Content-Type"))
	require.Equal(t, "agent/1", header.Get("User-Agent"))
	require.Equal(t, "GetEntitlementsState", got.OperationName)
	require.JSONEq(t, `{"query":{"customerId":"a/b\"c"}}`, string(got.Variables))

	_, err = c.EntitlementsState(t.Context(), "c", "r")
	require.NoError(t, err)
	require.JSONEq(t, `{"query":{"customerId":"c","resourceId":"r"}}`, string(got.Variables))
}

// The decoder sees what it sees from the Edge API, so the query has to ask for
// every field that is in the Edge API's answers.
func TestQueryAsksForAllThatTheEdgeAnswers(t *testing.T) {
	raw, err := os.ReadFile("testdata/edge-entitlements-state.json")
	require.NoError(t, err)
	var answers map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &answers))
	var current []byte
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(current) })

	fields := map[string]bool{}
	var collect func(any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, inner := range v {
				fields[name] = true
				collect(inner)
			}
		case []any:
			for _, inner := range v {
				collect(inner)
			}
		}
	}
	for name, body := range answers {
		var v struct{ Data any }
		require.NoError(t, json.Unmarshal(body, &v))
		collect(v.Data)
		current = body
		_, err := c.EntitlementsState(t.Context(), name, "")
		require.NoError(t, err, name)
	}
	asked := map[string]bool{}
	for _, word := range strings.Fields(graphql.GetEntitlementsState_Operation) {
		asked[word] = true
		before, _, _ := strings.Cut(word, "(")
		asked[before] = true
	}
	require.Greater(t, len(fields), 30)
	for name := range fields {
		require.True(t, asked[name], name)
	}
}

func TestUnknownKindCostsOnlyItself(t *testing.T) {
	c := serve(t, answer(`{"data":{"entitlementsState":{"accessDeniedReason":"NewReason","entitlementsV2":[
		{"__typename":"NewEntitlement","more":{}},
		{"__typename":"CreditEntitlement","currency":{"currencyId":"c","displayName":"C"}}]}}}`))
	state, err := c.EntitlementsState(t.Context(), "c", "")
	require.NoError(t, err)
	require.Len(t, state.Records, 1)
	require.Equal(t, "c", state.Records[0].Definition.Currency.ID)
	require.EqualValues(t, "NewReason", state.AccessDeniedReason)
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		kind   error
		code   string
	}{
		"bad key":         {401, `secret`, apierr.ErrUnauthenticated, ""},
		"bad key, by 400": {400, `{"errors":[{"message":"secret","extensions":{"code":"Unauthenticated","traceId":"t"}}]}`, apierr.ErrUnauthenticated, "Unauthenticated"},
		"bad key, by 200": {200, `{"errors":[{"message":"secret","extensions":{"code":"Unauthenticated","traceId":"t"}}],"data":null}`, apierr.ErrUnauthenticated, "Unauthenticated"},
		"errors":          {200, `{"errors":[{"message":"secret","extensions":{"code":"CustomerNotFound","traceId":"t"}}]}`, apierr.ErrRejected, "CustomerNotFound"},
		"partial data":    {200, `{"errors":[{"message":"secret"}],"data":{"entitlementsState":{"entitlementsV2":[]}}}`, apierr.ErrRejected, ""},
		"html":            {200, `<html>secret`, apierr.ErrMalformedResponse, ""},
		"no data":         {200, `{}`, apierr.ErrMalformedResponse, ""},
		"null data":       {200, `{"data":null}`, apierr.ErrMalformedResponse, ""},
		"data of type":    {200, `{"data":"secret"}`, apierr.ErrMalformedResponse, ""},
		"null state":      {200, `{"data":{"entitlementsState":null}}`, apierr.ErrMalformedResponse, ""},
		"no state":        {200, `{"data":{}}`, apierr.ErrMalformedResponse, ""},
		"bad state":       {200, `{"data":{"entitlementsState":{"entitlementsV2":["secret"]}}}`, apierr.ErrMalformedResponse, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			state, err := client.EntitlementsState(t.Context(), "secret-id", "")
			require.Zero(t, state)
			require.ErrorIs(t, err, c.kind)
			var e *apierr.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "GetEntitlementsState", e.Op)
			require.Equal(t, entitlements.SourceGraphQL, e.Source)
			require.Equal(t, c.code, e.Code)
			if c.code != "" {
				require.Equal(t, "t", e.TraceID)
			}
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestInvalidArguments(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	_, err := c.EntitlementsState(t.Context(), "", "")
	require.ErrorIs(t, err, apierr.ErrInvalidArgument)
	_, err = graphql.ReportUsage(t.Context(), c, graphql.ReportUsageInput{Value: math.NaN()})
	require.ErrorIs(t, err, apierr.ErrInvalidArgument)
}

func TestCheckAPIKey(t *testing.T) {
	require.NoError(t, serve(t, answer(`{"data":{"sdkConfiguration":{"sentryDsn":null}}}`)).CheckAPIKey(t.Context()))
	require.NoError(t, serve(t, answer(`{"data":{"sdkConfiguration":null}}`)).CheckAPIKey(t.Context()))
	err := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }).CheckAPIKey(t.Context())
	require.ErrorIs(t, err, apierr.ErrUnauthenticated)
}

func TestRetries(t *testing.T) {
	var n atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	query := func(ctx context.Context) error {
		_, err := c.EntitlementsState(ctx, "c", "")
		return err
	}
	mutation := func(ctx context.Context) error {
		_, err := graphql.ReportUsage(ctx, c, graphql.ReportUsageInput{})
		return err
	}
	for name, s := range map[string]struct {
		ctx  context.Context
		call func(context.Context) error
		want int32
	}{
		"query":               {t.Context(), query, 3},
		"mutation":            {t.Context(), mutation, 1},
		"idempotent mutation": {graphql.Idempotent(t.Context()), mutation, 3},
	} {
		n.Store(0)
		require.ErrorIs(t, s.call(s.ctx), apierr.ErrUnavailable, name)
		require.Equal(t, s.want, n.Load(), name)
	}
}

func TestMutationThatNeverLeftIsSentAgain(t *testing.T) {
	var n, dials atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		answer(`{"data":{"reportEvent":null}}`)(w, r)
	}))
	defer s.Close()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("refused")}
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	c := graphql.New(graphql.Config{Endpoint: s.URL, HTTPClient: &http.Client{Transport: tr}})
	_, err := graphql.ReportEvent(t.Context(), c, graphql.UsageEventsReportInput{})
	require.NoError(t, err)
	require.EqualValues(t, 1, n.Load())
}

func TestReportUsage(t *testing.T) {
	var got sent
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewDecoder(r.Body).Decode(&got)
		answer(`{"data":{"reportUsage":{"id":"m","customerId":"c","featureId":"f","currentUsage":0,"timestamp":1780308000000,
			"usagePeriodEnd":"2026-07-01T00:00:00.000Z","nextResetDate":null,
			"credit":{"currencyId":"u","consumed":2,"currentUsage":12,"timestamp":"2026-06-01T10:00:00Z","usagePeriodEnd":null}}}}`)(w, r)
	})
	at := time.Date(2026, 6, 1, 12, 0, 0, 5e6, time.FixedZone("", 7200))
	resp, err := graphql.ReportUsage(t.Context(), c, graphql.ReportUsageInput{
		CustomerId: "c", FeatureId: "f", Value: 0,
		CreatedAt:      graphql.OptionalTime(at),
		UpdateBehavior: new(graphql.UsageUpdateBehaviorSet),
		Dimensions:     map[string]any{"model": "x"},
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"input":{"customerId":"c","featureId":"f","value":0,"createdAt":"2026-06-01T10:00:00.005Z","updateBehavior":"SET","dimensions":{"model":"x"}}}`, string(got.Variables))
	u := resp.ReportUsage
	require.NotNil(t, u.CurrentUsage)
	require.Zero(t, *u.CurrentUsage)
	require.Equal(t, time.UnixMilli(1780308000000).UTC(), u.Timestamp.Time)
	require.Equal(t, 7, int(u.UsagePeriodEnd.OrZero().Month()))
	require.Zero(t, u.NextResetDate.OrZero())
	require.Equal(t, 12.0, u.Credit.CurrentUsage)

	_, err = graphql.ReportUsage(t.Context(), c, graphql.ReportUsageInput{CustomerId: "c", FeatureId: "f", Value: 1})
	require.NoError(t, err)
	require.JSONEq(t, `{"input":{"customerId":"c","featureId":"f","value":1}}`, string(got.Variables), "what is not set is not sent")
}

// Every operation sends itself under its own name, and accepts null lists and
// enum values that it does not know.
func TestOperations(t *testing.T) {
	var got sent
	var body string
	var name string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		name = r.Header.Get("X-Graphql-Operation-Name")
		_ = json.NewDecoder(r.Body).Decode(&got)
		_, _ = io.WriteString(w, body)
	})
	ctx := t.Context()
	for op, s := range map[string]struct {
		data string
		call func(genqlient.Client) (any, error)
	}{
		"GetSdkConfiguration": {`{"sdkConfiguration":{"sentryDsn":"d"}}`, func(c genqlient.Client) (any, error) {
			return graphql.GetSdkConfiguration(ctx, c)
		}},
		"ReportUsageBulk": {`{"reportUsageBulk":[{"id":"m","timestamp":"2026-06-01T10:00:00Z","credit":null}]}`, func(c genqlient.Client) (any, error) {
			return graphql.ReportUsageBulk(ctx, c, graphql.ReportUsageBulkInput{})
		}},
		"ReportEvent": {`{"reportEvent":"ok"}`, func(c genqlient.Client) (any, error) {
			return graphql.ReportEvent(ctx, c, graphql.UsageEventsReportInput{})
		}},
		"ConsumeCredits": {`{"consumeCredits":{"customerId":"c","amount":1,"timestamp":null,"credit":null}}`, func(c genqlient.Client) (any, error) {
			return graphql.ConsumeCredits(ctx, c, graphql.ConsumeCreditInput{})
		}},
		"ConsumeCreditsAsync": {`{"consumeCreditsAsync":null}`, func(c genqlient.Client) (any, error) {
			return graphql.ConsumeCreditsAsync(ctx, c, graphql.ConsumeCreditsAsyncInput{})
		}},
		"EstimateUsageCost": {`{"estimateUsageCost":{"estimates":[{"currencyId":"u","breakdown":null}],"warnings":["NEW"]}}`, func(c genqlient.Client) (any, error) {
			return graphql.EstimateUsageCost(ctx, c, graphql.EstimateUsageCostInput{})
		}},
		"EstimateEventCost": {`{"estimateEventCost":{"estimates":null,"warnings":null}}`, func(c genqlient.Client) (any, error) {
			return graphql.EstimateEventCost(ctx, c, graphql.EstimateEventCostInput{})
		}},
		"GetCreditBalance": {`{"creditBalanceSummary":{"customerId":"c","balances":null}}`, func(c genqlient.Client) (any, error) {
			return graphql.GetCreditBalance(ctx, c, graphql.CreditBalanceSummaryInput{})
		}},
		"GetCreditGrants": {`{"creditGrants":{"edges":[{"node":{"grantId":"g","status":"NEW","cost":{"amount":1,"currency":"NEW"},"additionalMetaData":"text","latestInvoice":null}}]}}`, func(c genqlient.Client) (any, error) {
			return graphql.GetCreditGrants(ctx, c, graphql.GetCreditGrantsInput{})
		}},
		"GetCreditLedger": {`{"creditsLedger":{"edges":[{"node":{"eventType":"NEW","timestamp":1}}],"pageInfo":null}}`, func(c genqlient.Client) (any, error) {
			return graphql.GetCreditLedger(ctx, c, graphql.CreditLedgerInput{})
		}},
		"GetCreditUsage": {`{"creditUsage":{"currency":null,"series":[{"points":null}],"pageInfo":{}}}`, func(c genqlient.Client) (any, error) {
			return graphql.GetCreditUsage(ctx, c, graphql.CreditUsageInput{})
		}},
		"GetAutomaticRechargeConfiguration": {`{"getAutoRechargeSettings":{"isEnabled":true,"createdAt":null,"thresholdType":"NEW"}}`, func(c genqlient.Client) (any, error) {
			return graphql.GetAutomaticRechargeConfiguration(ctx, c, graphql.GetAutoRechargeSettingsInput{})
		}},
	} {
		t.Run(op, func(t *testing.T) {
			body = `{"data":` + s.data + `}`
			_, err := s.call(c)
			require.NoError(t, err)
			require.Equal(t, op, name)
			require.Equal(t, op, got.OperationName)
			require.Contains(t, got.Query, " "+op)

			body = `{"data":{"` + strings.SplitN(s.data, `"`, 3)[1] + `":["secret",["secret"]]}}`
			_, err = s.call(c)
			require.ErrorIs(t, err, apierr.ErrMalformedResponse)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestDateTime(t *testing.T) {
	at := time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)
	var d graphql.DateTime
	for _, in := range []string{`"2026-06-01T10:00:00Z"`, `"2026-06-01T10:00:00.0005Z"`, `1780308000000`, `"1780308000000"`} {
		require.NoError(t, json.Unmarshal([]byte(in), &d), in)
		require.Equal(t, at, d.Time, in)
	}
	out, err := json.Marshal(d)
	require.NoError(t, err)
	require.Equal(t, `"2026-06-01T10:00:00.000Z"`, string(out))
	require.NoError(t, json.Unmarshal([]byte(`null`), &d))
	require.Zero(t, d)
	out, err = json.Marshal(d)
	require.NoError(t, err)
	require.Equal(t, `null`, string(out))
	require.Error(t, json.Unmarshal([]byte(`"soon"`), &d))
	require.Nil(t, graphql.OptionalTime(time.Time{}))
}
