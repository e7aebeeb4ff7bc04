package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

const wireDump = "../testdata/redis-cache-store-1.29.json"

// revalidation is an entry of a memory, and the ways to read it again.
type revalidation struct {
	*testing.T
	store *cache.Store
	key   cache.Key
	ref   cache.Ref
	usage bool
	entry *cache.Entry
}

func revalidationOf(t *testing.T, store *cache.Store, k cache.Key, ref cache.Ref, usage bool) *revalidation {
	v := &revalidation{T: t, store: store, key: k, ref: ref, usage: usage}
	r := v.read()
	require.True(t, r.Faults.Usable(), "%v: %v", ref, r.Faults)
	v.entry = cache.NewEntry(&r, usage, time.Now())
	return v
}

func (v *revalidation) read() cache.Reading {
	v.Helper()
	var r cache.Reading
	require.NoError(v, v.store.Read(v.Context(), v.key, v.ref, v.usage, &r))
	return r
}

// isRead requires that revalidating tells what reading tells.
func (v *revalidation) isRead() {
	v.Helper()
	var got cache.Reading
	same, err := v.store.Revalidate(v.Context(), v.key, v.ref, v.entry, &got)
	require.NoError(v, err)
	require.True(v, same)
	want := v.read()
	require.Equal(v, want.Facts, got.Facts)
	require.Equal(v, want.Faults, got.Faults)
	require.Equal(v, want.Times, got.Times)
	require.Equal(v, want.Damaged, got.Damaged)
	require.Equal(v, want.ValueSize, got.ValueSize)
	again := cache.NewEntry(&got, v.usage, time.Now())
	require.Equal(v, v.entry.WithUsage, again.WithUsage)
	require.Equal(v, want.Facts, again.Facts)
}

// isChanged requires that the value is to be read.
func (v *revalidation) isChanged() {
	v.Helper()
	same, err := v.store.Revalidate(v.Context(), v.key, v.ref, v.entry, &cache.Reading{})
	require.NoError(v, err)
	require.False(v, same)
}

// servers are the kinds of Redis, and of clients of it.
func servers(t *testing.T) map[string]redis.UniversalClient {
	single := redistest.Start(t)
	unbounded := single.Options()
	unbounded.ContextTimeoutEnabled = false
	deaf := redis.NewClient(unbounded)
	t.Cleanup(func() { require.NoError(t, deaf.Close()) })
	return map[string]redis.UniversalClient{
		"single": single.Client(), "ignores deadlines": deaf, "cluster": redistest.StartCluster(t, 3).Client(),
	}
}

// For every entitlement that another program has written, and for one that the
// customer does not have: what is revalidated is what would be read.
func TestRevalidatedIsAsRead(t *testing.T) {
	for name, client := range servers(t) {
		t.Run(name, func(t *testing.T) {
			redistest.LoadDump(t, client, wireDump)
			store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: 2 * time.Second})
			entitlements := 0
			for _, k := range []cache.Key{
				{CustomerID: "cust-basic"}, {CustomerID: "cust-credit"}, {CustomerID: "cust-metered"}, {CustomerID: "cust-denied"},
				{CustomerID: "cust-none-archived"}, {CustomerID: "cust-valid-until"}, {CustomerID: "cust-res"},
				{CustomerID: "cust-res", ResourceID: "res-1"}, {CustomerID: "cust-res", ResourceID: "res-2"}, {CustomerID: "has space"},
			} {
				state, err := store.ReadState(t.Context(), k)
				require.NoError(t, err)
				refs := []cache.Ref{{ID: "not there"}, {IsCredit: true, ID: "not there"}}
				for i := range state.Entitlements {
					refs = append(refs, cache.RefOf(state.Entitlements[i].Definition))
				}
				entitlements += len(state.Entitlements)
				for _, ref := range refs {
					for _, usage := range []bool{true, false} {
						revalidationOf(t, store, k, ref, usage).isRead()
					}
				}
				list, entries := cache.NewList(state, time.Now())
				for i, e := range entries {
					(&revalidation{T: t, store: store, key: k, ref: list.List[i], usage: true, entry: e}).isRead()
				}
			}
			require.Greater(t, entitlements, 40)
		})
	}
}

// What can change beside the value is read anew; where the value may have
// changed, it is to be read.
func TestRevalidateSeesChanges(t *testing.T) {
	type change struct {
		key      cache.Key
		ref      cache.Ref
		what     func(context.Context, redis.UniversalClient) error
		newValue bool
	}
	basic, resource := cache.Key{CustomerID: "cust-basic"}, cache.Key{CustomerID: "cust-res", ResourceID: "res-1"}
	met, missing := cache.Ref{ID: "feature-met"}, cache.Ref{ID: "not there"}
	set := func(key, value string) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, c redis.UniversalClient) error {
			return c.Set(ctx, "lab:c_"+key, value, 0).Err()
		}
	}
	del := func(key string) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, c redis.UniversalClient) error { return c.Del(ctx, "lab:c_"+key).Err() }
	}
	list := func(key string) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, c redis.UniversalClient) error {
			return c.Eval(ctx, "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'a')", []string{"lab:c_" + key}).Err()
		}
	}
	const used = `{"currentUsage":77,"usagePeriodStart":null,"usagePeriodEnd":4085193600000}`
	changes := map[string]change{
		"usage":                  {basic, met, set("cust-basic:f_feature-met", used), false},
		"usage's time":           {basic, met, set("cust-basic:f_feature-met#timestamp", "1790000000000"), false},
		"usage gone":             {basic, met, del("cust-basic:f_feature-met"), false},
		"usage's time gone":      {basic, met, del("cust-basic:f_feature-met#timestamp"), false},
		"usage damaged":          {basic, met, set("cust-basic:f_feature-met", `{"currentUsage":`), false},
		"usage of another type":  {basic, met, list("cust-basic:f_feature-met"), false},
		"balance":                {cache.Key{CustomerID: "cust-credit"}, cache.Ref{IsCredit: true, ID: "cred-plenty"}, set("cust-credit:credit_cred-plenty", used), false},
		"wallet":                 {cache.Key{CustomerID: "cust-credit"}, cache.Ref{ID: "ai-calls"}, set("cust-credit:credit_cred-plenty", used), false},
		"wallet's time":          {cache.Key{CustomerID: "cust-credit"}, cache.Ref{ID: "ai-calls"}, set("cust-credit:credit_cred-plenty#timestamp", "1790000000000"), false},
		"wallet gone":            {cache.Key{CustomerID: "cust-credit"}, cache.Ref{ID: "ai-calls"}, del("cust-credit:credit_cred-plenty"), false},
		"wallet damaged":         {cache.Key{CustomerID: "cust-credit"}, cache.Ref{ID: "ai-calls"}, set("cust-credit:credit_cred-plenty", "[]"), false},
		"metadata":               {cache.Key{CustomerID: "cust-none-nosub"}, missing, set("cust-none-nosub:metadata", `{"accessDeniedReason":"CustomerIsArchived"}`), false},
		"metadata gone":          {cache.Key{CustomerID: "cust-none-nosub"}, missing, del("cust-none-nosub:metadata"), false},
		"metadata damaged":       {cache.Key{CustomerID: "cust-none-nosub"}, missing, set("cust-none-nosub:metadata", `{`), false},
		"global customer newer":  {resource, met, set("cust-res#timestamp", "1790000000000"), false},
		"global customer gone":   {resource, met, del("cust-res#timestamp"), false},
		"resource's usage":       {resource, met, set("cust-res:r_res-1:f_feature-met", used), false},
		"time":                   {basic, met, set("cust-basic#timestamp", "1790000000000"), true},
		"time gone":              {basic, met, del("cust-basic#timestamp"), true},
		"time damaged":           {basic, met, set("cust-basic#timestamp", "yesterday"), true},
		"length":                 {basic, met, set("cust-basic", "{}"), true},
		"value gone":             {basic, met, del("cust-basic"), true},
		"value of another type":  {basic, met, list("cust-basic"), true},
		"resource's time":        {resource, met, set("cust-res:r_res-1#timestamp", "1790000000000"), true},
		"length without entry":   {basic, missing, set("cust-basic", "{}"), true},
		"time without any entry": {cache.Key{CustomerID: "cust-none-nosub"}, missing, set("cust-none-nosub#timestamp", "1790000000000"), true},
	}
	for name, client := range servers(t) {
		store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: 2 * time.Second})
		for what, c := range changes {
			t.Run(name+"/"+what, func(t *testing.T) {
				redistest.LoadDump(t, client, wireDump)
				v := revalidationOf(t, store, c.key, c.ref, true)
				before := v.read()
				require.NoError(t, c.what(t.Context(), client))
				require.NotEqual(t, before, v.read(), "the change is one")
				if c.newValue {
					v.isChanged()
				} else {
					v.isRead()
				}
			})
		}
	}
}

// Revalidating takes one round trip, in which the value is not fetched.
func TestRevalidateDoesNotFetchTheValue(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	redistest.LoadDump(t, client, wireDump)
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
	for _, c := range []struct {
		key   cache.Key
		ref   cache.Ref
		small []string
	}{
		{cache.Key{CustomerID: "cust-basic"}, cache.Ref{ID: "feature-bool"}, []string{
			"lab:c_cust-basic:metadata", "lab:c_cust-basic#timestamp",
		}},
		{cache.Key{CustomerID: "cust-basic"}, cache.Ref{ID: "feature-met"}, []string{
			"lab:c_cust-basic:metadata", "lab:c_cust-basic#timestamp",
			"lab:c_cust-basic:f_feature-met", "lab:c_cust-basic:f_feature-met#timestamp",
		}},
		{cache.Key{CustomerID: "cust-credit"}, cache.Ref{ID: "ai-calls"}, []string{
			"lab:c_cust-credit:metadata", "lab:c_cust-credit#timestamp", "lab:c_cust-credit:f_ai-calls", "lab:c_cust-credit:f_ai-calls#timestamp",
			"lab:c_cust-credit:credit_cred-plenty", "lab:c_cust-credit:credit_cred-plenty#timestamp",
		}},
		{cache.Key{CustomerID: "cust-res", ResourceID: "res-1"}, cache.Ref{ID: "feature-met"}, []string{
			"lab:c_cust-res:r_res-1:metadata", "lab:c_cust-res:r_res-1#timestamp", "lab:c_cust-res#timestamp",
			"lab:c_cust-res:r_res-1:f_feature-met", "lab:c_cust-res:r_res-1:f_feature-met#timestamp",
		}},
	} {
		v := revalidationOf(t, store, c.key, c.ref, true)
		recorder := server.Monitor()
		same, err := store.Revalidate(t.Context(), c.key, c.ref, v.entry, &cache.Reading{})
		require.NoError(t, err)
		require.True(t, same)
		var calls [][]string
		for _, call := range recorder.Calls() {
			calls = append(calls, call.Args)
		}
		require.Equal(t, [][]string{{"strlen", cache.ValueKey("lab", c.key)}, append([]string{"mget"}, c.small...)}, calls)
	}
}

// Redis not answering is an error, never an entry that is the same.
func TestRevalidateFails(t *testing.T) {
	for name, client := range servers(t) {
		t.Run(name, func(t *testing.T) {
			redistest.LoadDump(t, client, wireDump)
			store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: 2 * time.Second})
			v := revalidationOf(t, store, cache.Key{CustomerID: "cust-basic"}, cache.Ref{ID: "feature-met"}, true)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			same, err := store.Revalidate(ctx, v.key, v.ref, v.entry, &cache.Reading{})
			require.ErrorIs(t, err, context.Canceled)
			require.False(t, same)
			slow := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Timeout: time.Nanosecond})
			same, err = slow.Revalidate(t.Context(), v.key, v.ref, v.entry, &cache.Reading{})
			require.Error(t, err)
			require.False(t, same)
		})
	}
	t.Run("refused", func(t *testing.T) {
		server := redistest.Start(t, redistest.User("app", "secret", "~*", "+@all", "-strlen"))
		client := server.Client()
		redistest.LoadDump(t, client, wireDump)
		store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
		v := revalidationOf(t, store, cache.Key{CustomerID: "cust-basic"}, cache.Ref{ID: "feature-met"}, true)
		_, err := store.Revalidate(t.Context(), v.key, v.ref, v.entry, &cache.Reading{})
		require.ErrorContains(t, err, "NOPERM")
		var refusal redis.Error
		require.ErrorAs(t, err, &refusal)
	})
}
