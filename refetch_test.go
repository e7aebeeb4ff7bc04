package stigg_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// idle waits until everything that the client fetched is written back and the
// refetches are over, as the source of an answer shows.
func idle(t *testing.T, client *stigg.Client, ask func() stigg.Source) {
	t.Helper()
	eventually(t, func() bool {
		s := client.Stats()
		return s.Writes == s.Fetches-s.FetchFailures && ask() == stigg.SourceRedis
	}, "answers come from redis")
}

// onResource asks for a boolean feature of a resource of acme.
func onResource(t *testing.T, client *stigg.Client, resource string) func() stigg.Source {
	return func() stigg.Source {
		t.Helper()
		a, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", ResourceID: resource, FeatureID: "on"})
		require.NoError(t, err)
		require.False(t, a.Stale)
		return a.Source
	}
}

// asksNothing makes many checks and wants them all answered from Redis.
func asksNothing(t *testing.T, api *stiggtest.Server, source func() stigg.Source) {
	t.Helper()
	api.ResetRequests()
	for range 50 {
		require.Equal(t, stigg.SourceRedis, source())
	}
	require.Zero(t, api.Count(isFetch))
}

// TestResourceOlderThanCustomer: a resource whose entitlements are older than
// its customer's is fetched once, with the customer; the API's word then stands
// although the resource stays the older of the two.
func TestResourceOlderThanCustomer(t *testing.T) {
	old, young := time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	for name, entitlements := range map[string][]stiggtest.Entitlement{
		"older":           {stiggtest.Boolean("on").EntitlementUpdatedAt(old)},
		"no entitlements": {},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			api := stiggtest.New(t)
			api.SetEntitlements("acme", stiggtest.Boolean("on").EntitlementUpdatedAt(young))
			api.SetResourceEntitlements("acme", "res", entitlements...)
			filler := newClient(t, api, server)
			require.NoError(t, filler.ReloadEntitlements(background(), "acme", ""))
			require.NoError(t, filler.ReloadEntitlements(background(), "acme", "res"))

			api.ResetRequests()
			client := newClient(t, api, server)
			ask := onResource(t, client, "res")
			require.Equal(t, stigg.SourceEdge, ask())
			eventually(t, func() bool { return client.Stats().Writes == 2 }, "both are written back")
			idle(t, client, ask)
			require.Equal(t, 1, api.Count(isFetch, stiggtest.Resource("acme", "res")))
			require.Equal(t, 1, api.Count(isFetch, stiggtest.Resource("acme", "")))
			asksNothing(t, api, ask)
			asksNothing(t, api, func() stigg.Source {
				s, err := client.GetEntitlements(background(), "acme", "res")
				require.NoError(t, err)
				return s.Source
			})
		})
	}
}

// TestResourceAndCustomerMissing: what is fetched with a resource that is not
// in Redis: its customer if that is not there either.
func TestResourceAndCustomerMissing(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Boolean("on"))
	for _, resource := range []string{"one", "two"} {
		api.SetResourceEntitlements("acme", resource, stiggtest.Boolean("on"))
	}
	client := newClient(t, api, server)
	ask := onResource(t, client, "one")
	require.Equal(t, stigg.SourceEdge, ask())
	eventually(t, func() bool { return client.Stats().Writes == 2 }, "both are written back")
	idle(t, client, ask)
	require.Equal(t, 2, api.Count(isFetch))
	asksNothing(t, api, ask)

	ask = onResource(t, client, "two")
	require.Equal(t, stigg.SourceEdge, ask())
	idle(t, client, ask)
	require.Equal(t, 1, api.Count(isFetch), "the customer is there")
	asksNothing(t, api, ask)
	asksNothing(t, api, onResource(t, client, "one"))
}

// TestUsageThatDoesNotExist: a metered feature and a wallet that came without
// usage have no usage key, and are not fetched again for that.
func TestUsageThatDoesNotExist(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	api.SetEntitlements("acme",
		stiggtest.Metered("calls", 10, 0).NoUsage(),
		stiggtest.Credit("tokens", 10, 0).NoUsage(),
		stiggtest.CreditBacked("video", 2, "tokens").NoUsage())
	client := newClient(t, api, server)
	metered := func(feature string) func() stigg.Source {
		return func() stigg.Source {
			t.Helper()
			a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: feature, RequestedUsage: 5})
			require.NoError(t, err)
			require.True(t, a.HasAccess)
			require.Zero(t, a.CurrentUsage)
			return a.Source
		}
	}
	require.Equal(t, stigg.SourceEdge, metered("calls")())
	idle(t, client, metered("calls"))
	require.Empty(t, server.Client().Keys(background(), "*:f_*").Val())
	for _, source := range []func() stigg.Source{
		metered("calls"), metered("video"),
		func() stigg.Source {
			a, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
			require.NoError(t, err)
			require.Equal(t, 10.0, a.Remaining)
			return a.Source
		},
		func() stigg.Source {
			s, err := client.GetEntitlements(background(), "acme", "")
			require.NoError(t, err)
			require.Len(t, s.Entitlements, 3)
			return s.Source
		},
	} {
		asksNothing(t, api, source)
	}

	// Once it has a usage, that counts.
	require.NoError(t, api.SetUsage("acme", "calls", 7))
	require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
	a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls", RequestedUsage: 5})
	require.NoError(t, err)
	require.False(t, a.HasAccess)
	require.Equal(t, 7.0, a.CurrentUsage)
	require.Equal(t, stigg.SourceRedis, a.Source)
}

// endings are entitlements in which something has ended, and how to ask for
// them.
func endings(t *testing.T) map[string]struct {
	entitlements []stiggtest.Entitlement
	ask          func(*stigg.Client) (source stigg.Source, access, stale bool, err error)
} {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	type ending = struct {
		entitlements []stiggtest.Entitlement
		ask          func(*stigg.Client) (source stigg.Source, access, stale bool, err error)
	}
	feature := func(id string) func(*stigg.Client) (stigg.Source, bool, bool, error) {
		return func(c *stigg.Client) (stigg.Source, bool, bool, error) {
			a, err := c.GetEntitlement(background(), stigg.EntitlementQuery{CustomerID: "acme", FeatureID: id})
			return a.Source, a.HasAccess, a.Stale, err
		}
	}
	credit := func(c *stigg.Client) (stigg.Source, bool, bool, error) {
		a, err := c.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
		return a.Source, a.HasAccess, a.Stale, err
	}
	state := func(c *stigg.Client) (stigg.Source, bool, bool, error) {
		s, err := c.GetEntitlements(background(), "acme", "")
		return s.Source, len(s.Entitlements) > 0 && s.Entitlements[0].HasAccess, s.Stale, err
	}
	over := stiggtest.Boolean("on").ValidUntil(past)
	wallet := stiggtest.Credit("tokens", 10, 1).RenewsAt(past)
	video := stiggtest.CreditBacked("video", 2, "tokens")
	return map[string]ending{
		"validity of a feature":          {[]stiggtest.Entitlement{over}, feature("on")},
		"validity of a credit":           {[]stiggtest.Entitlement{stiggtest.Credit("tokens", 10, 1).ValidUntil(past)}, credit},
		"validity of a feature's wallet": {[]stiggtest.Entitlement{video, stiggtest.Credit("tokens", 10, 1).ValidUntil(past)}, feature("video")},
		"validity, all":                  {[]stiggtest.Entitlement{stiggtest.Boolean("other"), over}, state},
		"period of a credit":             {[]stiggtest.Entitlement{wallet}, credit},
		"period of a feature's wallet":   {[]stiggtest.Entitlement{video, wallet}, feature("video")},
		"period, all":                    {[]stiggtest.Entitlement{stiggtest.Boolean("other"), wallet}, state},
	}
}

// TestSomethingEnded: the API is asked once about a cached entitlement that has
// ended; if it says the same, that stands, is not stale, and is not asked again
// for 30 s.
func TestSomethingEnded(t *testing.T) {
	for name, e := range endings(t) {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			api := stiggtest.New(t)
			api.SetEntitlements("acme", e.entitlements...)
			fill(t, api, server, "acme")
			client := newClient(t, api, server)
			ask := func() stigg.Source {
				source, access, stale, err := e.ask(client)
				require.NoError(t, err)
				require.True(t, access)
				require.False(t, stale)
				return source
			}
			require.Equal(t, stigg.SourceEdge, ask())
			idle(t, client, ask)
			require.Equal(t, 1, api.Count(isFetch))
			asksNothing(t, api, ask)
		})
	}
}

// TestSomethingEndedAndAPIAway: then what is cached is answered, as stale, with
// the error; and the API is not asked again on every check.
func TestSomethingEndedAndAPIAway(t *testing.T) {
	for name, e := range endings(t) {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			api := stiggtest.New(t)
			api.SetEntitlements("acme", e.entitlements...)
			fill(t, api, server, "acme")
			api.Fault(stiggtest.Status(http.StatusForbidden).On(isFetch))
			client := newClient(t, api, server)
			for range 20 {
				source, access, stale, err := e.ask(client)
				require.ErrorIs(t, err, stigg.ErrForbidden)
				require.True(t, access)
				require.True(t, stale)
				require.Equal(t, stigg.SourceRedis, source)
			}
			require.Equal(t, 1, api.Count(isFetch))
			require.EqualValues(t, 20, client.Stats().StaleAnswers)
			require.Zero(t, client.Stats().Fallbacks)
		})
	}
}

// TestEndedOfAnother: only what is asked for, and its wallet, is judged.
func TestEndedOfAnother(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	past := time.Now().Add(-time.Hour)
	api.SetEntitlements("acme", stiggtest.Boolean("on"), stiggtest.Boolean("over").ValidUntil(past), stiggtest.Credit("tokens", 10, 1).RenewsAt(past))
	fill(t, api, server, "acme")
	client := newClient(t, api, server)
	asksNothing(t, api, func() stigg.Source {
		a, err := isOn(background(), client)
		require.NoError(t, err)
		return a.Source
	})
}

// TestEndedMeteredPeriodIsRolledOver: the end of a metered feature's period is
// no question for the API: the usage starts anew.
func TestEndedMeteredPeriodIsRolledOver(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	now := time.Now()
	anchor := now.Add(-90 * time.Minute).UTC().Truncate(time.Millisecond)
	api.SetEntitlements("acme", stiggtest.Metered("calls", 10, 10).Resets("HOUR", anchor, anchor, anchor.Add(time.Hour)))
	fill(t, api, server, "acme")
	client := newClient(t, api, server)
	asksNothing(t, api, func() stigg.Source {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls", RequestedUsage: 10})
		require.NoError(t, err)
		require.True(t, a.HasAccess)
		require.Zero(t, a.CurrentUsage)
		require.Equal(t, anchor.Add(time.Hour), a.UsagePeriodStart)
		require.Equal(t, anchor.Add(2*time.Hour), a.UsagePeriodEnd)
		return a.Source
	})
}

// TestAmbiguousIDs: ids that could name the keys of another customer never
// reach Redis, in either direction, and are told once each.
func TestAmbiguousIDs(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	ids := []struct{ customer, resource string }{
		{"acme:r_1", ""}, {"acme:f_calls", ""}, {"acme:credit_tokens", ""}, {"acme:metadata", ""}, {"acme#timestamp", ""},
		{"acme", "1:r_2"}, {"acme", "1:f_calls"}, {"acme", "x#timestamp"}, {"acme:r_1", "1"},
	}
	for i, id := range ids {
		api.SetResourceEntitlements(id.customer, id.resource, stiggtest.Metered("calls", 100, float64(i)))
	}
	// What the first of them would read: the key of another's resource.
	api.SetResourceEntitlements("acme", "1", stiggtest.Metered("calls", 1000, 999))
	filler := newClient(t, api, server)
	require.NoError(t, filler.ReloadEntitlements(background(), "acme", "1"))
	require.NoError(t, filler.Close())

	lines := &logLines{}
	client := newClient(t, api, server, lines.to)
	require.NoError(t, client.WaitForInitialization(background()))
	recorder := server.Monitor()
	keys := server.Client().Keys(background(), "*").Val()
	recorder.Reset()
	api.ResetRequests()
	for i, id := range ids {
		for range 5 {
			a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: id.customer, ResourceID: id.resource, FeatureID: "calls"})
			require.NoError(t, err)
			require.Equal(t, float64(i), a.CurrentUsage, id)
			require.Contains(t, []stigg.Source{stigg.SourceEdge, stigg.SourceMemory}, a.Source)
		}
		state, err := client.GetEntitlements(background(), id.customer, id.resource)
		require.NoError(t, err)
		require.Equal(t, float64(i), state.Entitlements[0].CurrentUsage)
		require.NoError(t, client.ReloadEntitlements(background(), id.customer, id.resource))
	}
	require.Empty(t, callsOfChecks(recorder))
	require.ElementsMatch(t, keys, server.Client().Keys(background(), "*").Val())
	require.EqualValues(t, 6*len(ids), client.Stats().AmbiguousChecks)
	require.EqualValues(t, 6*len(ids), client.Stats().RedisBypassed)
	require.Len(t, lines.with("another customer's keys"), len(ids))
	require.Equal(t, 2*len(ids), api.Count(isFetch), "held in process between the checks")

	// Ids that only look alike are no such case.
	for i, customer := range []string{"acme:1", "r_1", "a#b", "metadata", ":r"} {
		_, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: customer, FeatureID: "calls"})
		require.NoError(t, err)
		require.EqualValues(t, i+1, client.Stats().RedisMisses)
	}
}

// TestReloadEntitlements: it asks GraphQL, whatever the caches hold, and the
// next check sees what it brought, although the Edge API does not know of it
// yet.
func TestReloadEntitlements(t *testing.T) {
	server := redistest.Start(t)
	for name, withRedis := range map[string]*redistest.Server{"redis": server, "memory": nil} {
		t.Run(name, func(t *testing.T) {
			api := acmeAPI(t)
			client := newClient(t, api, withRedis, func(c *stigg.Config) {
				if c.Redis == nil {
					c.LRU = &stigg.LRUConfig{MaxEntries: 100}
				}
			})
			a, err := isOn(background(), client)
			require.NoError(t, err)
			require.True(t, a.HasAccess)

			api.Fault(onEdge(stiggtest.Status(http.StatusNotFound)))
			api.SetEntitlements("acme", stiggtest.Boolean("new"))
			api.ResetRequests()
			require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
			require.Equal(t, 1, api.Count(stiggtest.GraphQL, isFetch))
			require.Equal(t, 1, api.Count(isFetch))
			isNew, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", FeatureID: "new"})
			require.NoError(t, err)
			require.True(t, isNew.HasAccess)
			a, err = isOn(background(), client)
			require.NoError(t, err)
			require.False(t, a.HasAccess)
			if withRedis != nil {
				require.Equal(t, stigg.SourceRedis, isNew.Source)
				other, err := newClient(t, api, server).GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", FeatureID: "new"})
				require.NoError(t, err)
				require.True(t, other.HasAccess, "in another process as well")
			}
			require.Equal(t, 1, api.Count(isFetch))
		})
	}
}

// TestReloadEntitlementsFails: the caller is told, and what is cached stays.
func TestReloadEntitlementsFails(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	client := newClient(t, api, server, soon)
	api.Fault(onGraphQL(stiggtest.Errors("SomeCode", "trace-3")))
	err := client.ReloadEntitlements(background(), "acme", "")
	require.ErrorIs(t, err, stigg.ErrRejected)
	var e *stigg.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "SomeCode", e.Code)
	require.Equal(t, "trace-3", e.TraceID)
	require.Zero(t, api.Count(stiggtest.Edge, isFetch))
	for _, source := range answered(t, client) {
		require.Equal(t, stigg.SourceRedis, source)
	}
	api.ClearFaults()
	rdb := server.Client()
	require.NoError(t, rdb.ConfigSet(background(), "min-replicas-to-write", "1").Err())
	require.ErrorContains(t, client.ReloadEntitlements(background(), "acme", ""), "stigg: redis does not take what was fetched: NOREPLICAS")
	require.NoError(t, rdb.ConfigSet(background(), "min-replicas-to-write", "0").Err())
	require.NoError(t, rdb.Set(background(), prefix+"-acme", "another writer's", time.Minute).Err())
	require.ErrorIs(t, client.ReloadEntitlements(background(), "acme", ""), cache.ErrLocked)

	server.Kill()
	require.NoError(t, client.ReloadEntitlements(background(), "acme", ""), "without Redis it is held in process")
	a, err := isOn(background(), client)
	require.NoError(t, err)
	require.True(t, a.HasAccess)
}

// TestChangesAreSeenWhole: 32 callers ask while the customer's entitlements
// change and are reloaded. Every answer about one entitlement, which is read in
// one round trip, is from one of the states that there were, never a mixture;
// no caller sees an older state after a newer one.
func TestChangesAreSeenWhole(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	// In the n-th state limit and usage are n, so that any mixture shows.
	set := func(n int) {
		now := time.Now().Add(time.Duration(n) * time.Millisecond)
		api.SetEntitlements("acme",
			stiggtest.Metered("calls", float64(n), float64(n)).EntitlementUpdatedAt(now).UsageUpdatedAt(now),
			stiggtest.CreditBacked("video", 1, "tokens").EntitlementUpdatedAt(now).UsageUpdatedAt(now),
			stiggtest.Credit("tokens", float64(n), float64(n-1)).EntitlementUpdatedAt(now).UsageUpdatedAt(now))
	}
	set(1)
	// A Redis that counts as away, because this machine is busy, is another case.
	client := newClient(t, api, server, func(c *stigg.Config) { c.Redis.Timeout = 10 * time.Second })
	require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
	_, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "video"})
	require.NoError(t, err) // from now on it is known which wallet to read with it

	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 32 {
		callers.Go(func() {
			last := 0.0
			for {
				select {
				case <-stop:
					return
				default:
				}
				var limit, used float64
				var err error
				switch i % 4 {
				case 0:
					var a stigg.MeteredEntitlement
					a, err = client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls"})
					limit, used = a.UsageLimit, a.CurrentUsage
				case 1:
					var a stigg.CreditEntitlement
					a, err = client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
					limit, used = a.UsageLimit, a.CurrentUsage+1
				case 2:
					var a stigg.MeteredEntitlement
					a, err = client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "video", RequestedUsage: 1})
					if !a.HasAccess {
						t.Errorf("one credit is always left: %+v", a)
					}
				case 3:
					var s stigg.EntitlementsState
					s, err = client.GetEntitlements(background(), "acme", "")
					if len(s.Entitlements) != 3 {
						t.Errorf("%+v", s)
						return
					}
					limit, used = s.Entitlements[2].UsageLimit, s.Entitlements[0].UsageLimit
				}
				if err != nil || limit != used || limit < last {
					t.Errorf("getter %d: %v and %v, before %v, %v", i%4, limit, used, last, err)
					return
				}
				last = limit
			}
		})
	}
	for n := 2; n <= 60; n++ {
		set(n)
		require.NoError(t, client.ReloadEntitlements(background(), "acme", ""))
	}
	close(stop)
	callers.Wait()
	require.Zero(t, client.Stats().UnreadableValues)
	require.Zero(t, client.Stats().Fallbacks)
}

// TestManyCustomersAtOnce: the refetches of different customers do not wait for
// each other, and each customer costs one request.
func TestManyCustomersAtOnce(t *testing.T) {
	server := redistest.Start(t)
	api := stiggtest.New(t)
	const customers = 50
	for i := range customers {
		api.SetEntitlements("c"+strconv.Itoa(i), stiggtest.Metered("calls", 1000, float64(i)))
	}
	api.Fault(stiggtest.Latency(200 * time.Millisecond).On(isFetch))
	client := newClient(t, api, server, func(c *stigg.Config) { c.Redis.Timeout = 5 * time.Second })
	var callers sync.WaitGroup
	began := time.Now()
	for i := range 4 * customers {
		callers.Go(func() {
			id := i % customers
			a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "c" + strconv.Itoa(id), FeatureID: "calls"})
			if err != nil || a.CurrentUsage != float64(id) {
				t.Errorf("c%d: %+v, %v", id, a, err)
			}
		})
	}
	callers.Wait()
	require.Less(t, time.Since(began), 6*time.Second, "one after the other they would take 10 s")
	require.Equal(t, customers, api.Count(isFetch))
	for _, r := range api.Requests(isFetch) {
		require.True(t, strings.HasPrefix(r.CustomerID, "c"))
	}
}
