package stigg_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// routes are the ways to one Redis: one for the connection that hears of
// changes, one for all others.
type routes struct {
	tracking, data *faultproxy.Proxy
}

func newRoutes(t testing.TB, server *redistest.Server) routes {
	return routes{tracking: faultproxy.New(t, server.Addr()), data: faultproxy.New(t, server.Addr())}
}

// use is the change of a Config that makes its client go these ways.
func (r routes) use(t testing.TB) func(*stigg.Config) {
	return func(c *stigg.Config) {
		client := redis.NewClient(&redis.Options{
			Protocol: 2, ContextTimeoutEnabled: true, MaxRetries: -1, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return &routedConn{routes: r}, nil },
		})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		c.Redis = &stigg.RedisConfig{Client: client, EnvironmentPrefix: prefix, Timeout: 5 * time.Second, OutageTTL: -1}
	}
}

// routedConn is a connection whose first bytes tell which way it goes: the one
// that hears of changes asks for RESP3.
type routedConn struct {
	routes routes

	mu     sync.Mutex
	conn   net.Conn // nil until the first write
	closed bool
}

func (c *routedConn) Write(p []byte) (int, error) {
	conn, err := c.connect(p)
	if err != nil {
		return 0, err
	}
	return conn.Write(p)
}

func (c *routedConn) connect(first []byte) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	if c.conn != nil {
		return c.conn, nil
	}
	proxy := c.routes.data
	if bytes.Contains(bytes.ToUpper(first), []byte("HELLO\r\n$1\r\n3\r\n")) {
		proxy = c.routes.tracking
	}
	var err error
	c.conn, err = net.DialTimeout("tcp", proxy.Addr(), time.Second)
	return c.conn, err
}

func (c *routedConn) get() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

func (c *routedConn) Read(p []byte) (int, error) {
	if conn := c.get(); conn != nil {
		return conn.Read(p)
	}
	return 0, net.ErrClosed
}

func (c *routedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

func (c *routedConn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (c *routedConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (c *routedConn) SetDeadline(t time.Time) error {
	return c.set(func(conn net.Conn) error { return conn.SetDeadline(t) })
}

func (c *routedConn) SetReadDeadline(t time.Time) error {
	return c.set(func(conn net.Conn) error { return conn.SetReadDeadline(t) })
}

func (c *routedConn) SetWriteDeadline(t time.Time) error {
	return c.set(func(conn net.Conn) error { return conn.SetWriteDeadline(t) })
}

func (c *routedConn) set(do func(net.Conn) error) error {
	if conn := c.get(); conn != nil {
		return do(conn)
	}
	return nil
}

// windowAPI is acme with one of each kind, and a resource.
func windowAPI(t testing.TB) *stiggtest.Server {
	api := acmeAPI(t)
	api.SetResourceEntitlements("acme", "site", acmeEntitlements()...)
	api.SetEntitlements("nobody")
	return api
}

func sourceOf(t testing.TB, client *stigg.Client, customer, resource, feature string) stigg.Source {
	t.Helper()
	a, err := client.GetEntitlement(background(), stigg.EntitlementQuery{CustomerID: customer, ResourceID: resource, FeatureID: feature})
	require.NoError(t, err)
	return a.Source
}

// TestNoStaleWindow holds the reply to a read back until the change that came
// after the read has been heard of: what was read is answered once, and not
// kept.
func TestNoStaleWindow(t *testing.T) {
	server, api := redistest.Start(t), windowAPI(t)
	writer := server.Client()
	at := time.Now().Add(time.Hour).UnixMilli()
	set := func(key, value string) func() {
		return func() {
			_, err := writer.TxPipelined(background(), func(pipe redis.Pipeliner) error {
				at++
				setPair(pipe, "lab:c_"+key, value, at)
				return nil
			})
			require.NoError(t, err)
		}
	}
	used := func(n int) string {
		return fmt.Sprintf(`{"currentUsage":%d,"usagePeriodStart":null,"usagePeriodEnd":null}`, n)
	}
	metered := func(resource, feature string) func(*stigg.Client) (any, stigg.Source, error) {
		return func(c *stigg.Client) (any, stigg.Source, error) {
			a, err := c.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", ResourceID: resource, FeatureID: feature, RequestedUsage: 1})
			return []any{a.CurrentUsage, a.HasAccess}, a.Source, err
		}
	}
	list := func(resource string) func(*stigg.Client) (any, stigg.Source, error) {
		return func(c *stigg.Client) (any, stigg.Source, error) {
			state, err := c.GetEntitlements(background(), "acme", resource)
			var usages []any
			for _, e := range state.Entitlements {
				usages = append(usages, e.CurrentUsage, e.HasAccess, e.DataTime)
			}
			return usages, state.Source, err
		}
	}
	for name, c := range map[string]struct {
		read   func(*stigg.Client) (any, stigg.Source, error)
		change func()
	}{
		"usage":            {metered("", "calls"), set("acme:f_calls", used(77))},
		"usage in a list":  {list(""), set("acme:f_calls", used(77))},
		"wallet":           {metered("", "video"), set("acme:credit_tokens", used(500))},
		"wallet in a list": {list(""), set("acme:credit_tokens", used(500))},
		"resource's usage": {metered("site", "calls"), set("acme:r_site:f_calls", used(77))},
		"credit": {func(c *stigg.Client) (any, stigg.Source, error) {
			a, err := c.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
			return a.CurrentUsage, a.Source, err
		}, set("acme:credit_tokens", used(77))},
		"value": {func(c *stigg.Client) (any, stigg.Source, error) {
			a, err := c.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", FeatureID: "on"})
			return a.HasAccess, a.Source, err
		}, set("acme", "{}")},
		"metadata": {func(c *stigg.Client) (any, stigg.Source, error) {
			a, err := c.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "nobody", FeatureID: "on"})
			return a.AccessDeniedReason, a.Source, err
		}, set("nobody:metadata", `{"accessDeniedReason":"CustomerIsArchived"}`)},
		"global customer": {func(c *stigg.Client) (any, stigg.Source, error) {
			a, err := c.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", ResourceID: "site", FeatureID: "calls"})
			return a.Source == stigg.SourceEdge, a.Source, err // for then the resource is to be fetched anew
		}, set("acme", "{}")},
	} {
		t.Run(name, func(t *testing.T) {
			server.FlushAll()
			fill(t, api, server, "acme", "nobody")
			filler := newClient(t, api, server)
			require.NoError(t, filler.ReloadEntitlements(background(), "acme", "site"))
			require.NoError(t, filler.Close())

			ways := newRoutes(t, server)
			client := newClient(t, api, nil, ways.use(t), withLRU(1000))
			eventually(t, func() bool { return sourceOf(t, client, "acme", "", "seats") == stigg.SourceMemory }, "changes are heard of")
			recorder := server.Monitor()
			ways.data.Stall(faultproxy.Replies)
			type outcome struct {
				value  any
				source stigg.Source
				err    error
			}
			held := make(chan outcome)
			go func() {
				value, source, err := c.read(client)
				held <- outcome{value, source, err}
			}()
			eventually(t, func() bool { return recorder.Count("MGET") > 0 }, "the read reaches the server")
			c.change()
			time.Sleep(100 * time.Millisecond) // until it is heard of; a shorter wait would prove less, but fail as little
			ways.data.Pass()
			first := <-held
			require.NoError(t, first.err)
			require.Equal(t, stigg.SourceRedis, first.source)
			value, source, err := c.read(client)
			require.NoError(t, err)
			require.NotEqual(t, stigg.SourceMemory, source, "what was read before the change is not kept")
			if !strings.HasSuffix(name, "in a list") { // which reads the usages after the value: they are new already
				require.NotEqual(t, first.value, value)
			}
		})
	}
}

// TestSilentTrackingIsNoticed: while nothing is heard over a connection that
// seems to stand, a change stays unseen for no longer than the silence that is
// taken for a loss.
func TestSilentTrackingIsNoticed(t *testing.T) {
	server, api := redistest.Start(t), windowAPI(t)
	fill(t, api, server, "acme")
	ways := newRoutes(t, server)
	client := newClient(t, api, nil, ways.use(t), withLRU(1000))
	check := func() stigg.MeteredEntitlement {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		require.NoError(t, err)
		return a
	}
	eventually(t, func() bool { return check().Source == stigg.SourceMemory }, "a memory hit")
	ways.tracking.Stall(faultproxy.Replies)
	setUsageNow(t, server.Client(), "lab:c_acme:f_calls", 77)
	began := time.Now()
	eventually(t, func() bool { return check().CurrentUsage == 77 }, "the change")
	require.Less(t, time.Since(began), 2500*time.Millisecond, "1 s, and what a busy machine adds to it")
	for range 10 {
		require.Equal(t, stigg.SourceRedis, check().Source, "revalidated each time")
	}
	ways.tracking.Pass()
	eventually(t, func() bool { return check().Source == stigg.SourceMemory }, "a memory hit again")
	require.Equal(t, 77.0, check().CurrentUsage)
}

// TestOwnChangesAreSeenAtOnce: what this client has just changed is seen by its
// next check, though nothing is heard of the change.
func TestOwnChangesAreSeenAtOnce(t *testing.T) {
	server, api := redistest.Start(t), windowAPI(t)
	fill(t, api, server, "acme")
	ways := newRoutes(t, server)
	client := newClient(t, api, nil, ways.use(t), withLRU(1000))
	tokens := func() stigg.CreditEntitlement {
		a, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
		require.NoError(t, err)
		return a
	}
	calls := func() stigg.MeteredEntitlement {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		require.NoError(t, err)
		return a
	}
	seats := func() stigg.NumericEntitlement {
		a, err := client.GetNumericEntitlement(background(), stigg.NumericQuery{CustomerID: "acme", FeatureID: "seats"})
		require.NoError(t, err)
		return a
	}
	for round := range 5 {
		eventually(t, func() bool {
			return tokens().Source == stigg.SourceMemory && calls().Source == stigg.SourceMemory && seats().Source == stigg.SourceMemory
		}, "memory hits")
		ways.tracking.Stall(faultproxy.Replies)

		consumed, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 1})
		require.NoError(t, err)
		require.Equal(t, consumed.Balance.CurrentUsage, tokens().CurrentUsage, round)
		measured, err := client.ReportUsage(background(), stigg.UsageReport{CustomerID: "acme", FeatureID: "calls", Value: 1})
		require.NoError(t, err)
		require.Equal(t, *measured.CurrentUsage, calls().CurrentUsage, round)
		changed := acmeEntitlements()
		changed[1] = stiggtest.Numeric("seats", float64(100+round))
		api.SetEntitlements("acme", changed...)
		require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
		require.Equal(t, float64(100+round), seats().Value)

		ways.tracking.Pass()
	}
}
