package stigg_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// A change of the customer is a new question for its resource, whatever was
// settled before.
func TestResourceIsFetchedAfterItsCustomerChanged(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Boolean("on"))
	api.SetResourceEntitlements("acme", "res", stiggtest.Boolean("on"))
	client, other := newClient(t, api, server), newClient(t, api, server)
	ask := onResource(t, client, "res")
	require.Equal(t, stigg.SourceEdge, ask())
	eventually(t, func() bool { return client.Stats().Writes == 2 }, "both written")
	idle(t, client, ask)
	api.SetResourceEntitlements("acme", "res")
	api.SetEntitlements("acme", stiggtest.Boolean("on"))
	require.NoError(t, other.ReloadEntitlements(background(), "acme", ""))
	api.ResetRequests()
	for range 10 {
		ask()
		time.Sleep(10 * time.Millisecond)
	}
	require.Equal(t, 1, api.Count(isFetch, stiggtest.Resource("acme", "res")))
}

// An entitlement whose definition is not an object is damage, not "not entitled".
func TestDefinitionOfAWrongTypeIsNoDenial(t *testing.T) {
	for _, wrong := range []string{`"x"`, `[]`, `7`} {
		server := redistest.Start(t)
		api := acmeAPI(t)
		fill(t, api, server, "acme")
		rdb := server.Client()
		now := rdb.Get(background(), acmeValue).Val()
		const entry = `"calls":{"calculatedEntitlement":{`
		require.Contains(t, now, entry)
		rdb.Set(background(), acmeValue, strings.Replace(now, entry, `"calls":{"calculatedEntitlement":`+wrong+`,"other":{`, 1), 0)
		a, err := newClient(t, api, server).GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
		require.NoError(t, err)
		if !a.HasAccess {
			t.Errorf("%s: %s from %s", wrong, a.AccessDeniedReason, a.Source)
		}
	}
}

// Readers and writers must agree which timestamps count.
func TestTimestampBeyondADateHeals(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	server.Client().Set(background(), acmeValue+"#timestamp", "9999999999999999", 0)
	client := newClient(t, api, server)
	for range 5 {
		_, err := isOn(background(), client)
		require.NoError(t, err)
		time.Sleep(50 * time.Millisecond)
	}
	require.Equal(t, 1, api.Count(isFetch))
}

// A cancellation ends the wait at once, not only a deadline.
func TestCancellationEndsTheWaitForRedis(t *testing.T) {
	server := redistest.Start(t)
	client := newClient(t, acmeAPI(t), server)
	server.Pause()
	defer server.Resume()
	ctx, cancel := context.WithCancel(background())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	_, err := isOn(ctx, client)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, time.Since(began), time.Second)
}

// While Redis takes no writes (CLIENT PAUSE WRITE, as in a failover) a cold
// check does not wait for the refetch lock as long as go-redis would.
func TestRefetchLockIsBounded(t *testing.T) {
	server := redistest.Start(t)
	own := redis.NewClient(server.Options())
	defer own.Close()
	api := acmeAPI(t)
	client := newClient(t, api, server, func(c *stigg.Config) {
		c.Redis = &stigg.RedisConfig{Client: own, EnvironmentPrefix: prefix}
	})
	require.NoError(t, server.Client().Do(background(), "CLIENT", "PAUSE", "4000", "WRITE").Err())
	began := time.Now()
	a, err := isOn(background(), client)
	require.NoError(t, err)
	require.True(t, a.HasAccess)
	require.Less(t, time.Since(began), 2*time.Second, "go-redis waits for three")
}

// A Redis that answers PING and refuses reads (an ACL without the keys) is away,
// not lost and back once a second.
func TestRefusedReadsDoNotFlap(t *testing.T) {
	server := redistest.Start(t, redistest.User("sdk", "right", "~other:*", "&*", "+@all"))
	lines := &logLines{}
	client := newClient(t, acmeAPI(t), server, lines.to, func(c *stigg.Config) { c.Redis.Username, c.Redis.Password = "sdk", "right" })
	for began := time.Now(); time.Since(began) < 4*time.Second; time.Sleep(5 * time.Millisecond) {
		_, _ = isOn(background(), client)
	}
	require.LessOrEqual(t, len(lines.with("level=")), 3)
}

// After a reload of a resource the next check does not ask the Edge API, which
// may not know of the change yet.
func TestReloadOfAResourceSettlesIt(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Boolean("on"))
	api.SetResourceEntitlements("acme", "res", stiggtest.Boolean("on"))
	client := newClient(t, api, server)
	require.NoError(t, client.ReloadEntitlements(background(), "acme", "res"))
	api.ResetRequests()
	require.Equal(t, stigg.SourceRedis, onResource(t, client, "res")())
	require.Zero(t, api.Count(isFetch))
}

// An API that takes most of the Edge API's share of the time, 6 s, is asked
// once, not cut off and asked again.
func TestSlowAPIIsAskedOnce(t *testing.T) {
	t.Parallel()
	server, api := redistest.Start(t), acmeAPI(t)
	api.Fault(stiggtest.Latency(5200 * time.Millisecond).On(isFetch))
	a, err := isOn(background(), newClient(t, api, server))
	require.NoError(t, err)
	require.True(t, a.HasAccess)
	require.Equal(t, stigg.SourceEdge, a.Source)
	require.Equal(t, 1, api.Count(isFetch))
}
