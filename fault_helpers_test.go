package stigg_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// getter is one way to ask for one entitlement.
type getter struct {
	name       string
	id         string // of an entitlement of this kind that acme has
	takesUsage bool
	// get asks. A fallback that allows is brought along if allow is set.
	get func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error)
}

// ask is what can be asked of every getter.
type ask struct {
	customer, resource, id string
	usage                  float64
	allow                  bool
}

func (q ask) fallback() *stigg.EntitlementFallback {
	if !q.allow {
		return nil
	}
	return &stigg.EntitlementFallback{HasAccess: true}
}

func (q ask) creditFallback() *stigg.CreditFallback {
	if !q.allow {
		return nil
	}
	return &stigg.CreditFallback{HasAccess: true}
}

// getters are all the getters that ask for one entitlement.
var getters = []getter{
	{"boolean", "on", false, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		a, err := c.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: q.customer, ResourceID: q.resource, FeatureID: q.id, Fallback: q.fallback()})
		return a.Answer, err
	}},
	{"numeric", "seats", false, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		a, err := c.GetNumericEntitlement(ctx, stigg.NumericQuery{CustomerID: q.customer, ResourceID: q.resource, FeatureID: q.id, Fallback: q.fallback()})
		return a.Answer, err
	}},
	{"enum", "regions", false, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		a, err := c.GetEnumEntitlement(ctx, stigg.EnumQuery{CustomerID: q.customer, ResourceID: q.resource, FeatureID: q.id, Fallback: q.fallback()})
		return a.Answer, err
	}},
	{"metered", "calls", true, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		a, err := c.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: q.customer, ResourceID: q.resource, FeatureID: q.id, RequestedUsage: q.usage, Fallback: q.fallback()})
		return a.Answer, err
	}},
	{"credit", "tokens", true, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		a, err := c.GetCreditEntitlement(ctx, stigg.CreditQuery{CustomerID: q.customer, ResourceID: q.resource, CurrencyID: q.id, RequestedUsage: q.usage, Fallback: q.creditFallback()})
		return a.Answer, err
	}},
	{"any feature", "calls", true, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		a, err := c.GetEntitlement(ctx, stigg.EntitlementQuery{CustomerID: q.customer, ResourceID: q.resource, FeatureID: q.id, RequestedUsage: q.usage, Fallback: q.fallback()})
		return a.Answer, err
	}},
	{"any credit", "tokens", true, func(ctx context.Context, c *stigg.Client, q ask) (entitlements.Answer, error) {
		query := stigg.EntitlementQuery{CustomerID: q.customer, ResourceID: q.resource, CurrencyID: q.id, RequestedUsage: q.usage, CreditFallback: q.creditFallback()}
		if q.id == "" { // the credit's id is what makes it a question for a credit
			query.Fallback = q.fallback()
		}
		a, err := c.GetEntitlement(ctx, query)
		return a.Answer, err
	}},
}

// acmeAPI is a fake API with one customer, acme, who has one entitlement of
// each kind and access to all of them.
func acmeAPI(t testing.TB) *stiggtest.Server {
	t.Helper()
	api := stiggtest.New(t)
	api.SetEntitlements("acme", acmeEntitlements()...)
	return api
}

func acmeEntitlements() []stiggtest.Entitlement {
	return []stiggtest.Entitlement{
		stiggtest.Boolean("on"),
		stiggtest.Numeric("seats", 25),
		stiggtest.Enum("regions", "eu", "us"),
		stiggtest.Metered("calls", 100, 40),
		stiggtest.CreditBacked("video", 2, "tokens"),
		stiggtest.Credit("tokens", 500, 130),
	}
}

// isOn asks for acme's boolean feature.
func isOn(ctx context.Context, c *stigg.Client) (stigg.BooleanEntitlement, error) {
	return c.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "acme", FeatureID: "on"})
}

// onEdge and onGraphQL put a fault on one API's answers for entitlements.
func onEdge(f stiggtest.Fault) stiggtest.Fault    { return f.On(stiggtest.Edge, isFetch) }
func onGraphQL(f stiggtest.Fault) stiggtest.Fault { return f.On(stiggtest.GraphQL, isFetch) }

// viaProxy puts a proxy between a client and its Redis, which is waited for as
// long as it is by default.
func viaProxy(p *faultproxy.Proxy) func(*stigg.Config) {
	host, port, _ := net.SplitHostPort(p.Addr()) // an address of the proxy's own making
	return func(c *stigg.Config) {
		c.Redis.Host = host
		c.Redis.Port, _ = strconv.Atoi(port)
		defaultTimeout(c)
	}
}

// fill makes Redis hold what the API knows of customers.
func fill(t testing.TB, api *stiggtest.Server, server *redistest.Server, customers ...string) {
	t.Helper()
	client := newClient(t, api, server)
	for _, customer := range customers {
		require.NoError(t, client.ReloadEntitlements(background(), customer, ""))
	}
	require.NoError(t, client.Close())
	api.ResetRequests()
}

// logLines keeps the lines that a client logs.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

// Write takes one line.
func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(bytes.TrimSpace(line)))
	return len(line), nil
}

// to is the change of a Config that makes its client log here.
func (l *logLines) to(c *stigg.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) }

// with returns the lines that contain text.
func (l *logLines) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
