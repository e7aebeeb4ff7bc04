package service_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
)

// changedPassword starts a service whose Redis has had its password changed
// since, and gives it more to do than the connections it has can do: those go
// on working, new ones are refused. It returns as soon as the messages are in
// the queue.
func changedPassword(t *testing.T, customers int) (w *world, r *running, at time.Time) {
	w = newWorld(t, "REDIS_PASSWORD=old")
	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "old").Err())
	r = w.start()
	r.awaitReady(200, within)
	at = time.Now()
	var bodies []string
	for i := range customers {
		customer := fmt.Sprint("customer-", i)
		w.cached(customer, at)
		bodies = append(bodies, listMessage(customer, 10, 1, at.Add(time.Second)))
	}
	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "new").Err())
	w.send(bodies...)
	return w, r, at
}

// The password of Redis is changed. No message ends as dealt with that Redis
// never saw, and all is done when the password is good again.
func TestPasswordChangedWhileRunning(t *testing.T) {
	const customers = 400
	w, r, at := changedPassword(t, customers)
	time.Sleep(time.Second)
	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "old").Err())
	w.empty()
	require.Zero(t, r.count("entitlements.updated", "not_cached"), "they are all cached")
	require.Zero(t, r.count("entitlements.updated", "panicked"))
	require.Zero(t, r.metric("persistent_cache_panics_total"))
	newest := fmt.Sprint(at.Add(time.Second).UnixMilli())
	for i := range customers {
		key := cache.TimestampKey(cache.ValueKey(prefix, cache.Key{CustomerID: fmt.Sprint("customer-", i)}))
		require.Equal(t, newest, w.get(key), "customer-%d", i)
	}
}

// A purge that a refused login kept from Redis is not deleted as done.
func TestPasswordChangedBeforeAPurge(t *testing.T) {
	w, r, at := changedPassword(t, 400)
	w.cached("purged", at)
	w.send(`{"packagePublished":{"environmentId":"e","packageId":"p","packageRefId":"p","packageVersion":1,"packageType":"PLAN","migrationType":"ALL_CUSTOMERS"}}`)
	time.Sleep(time.Second)
	if r.count("packagePublished", "purged") > 0 {
		require.Empty(t, w.get(prefix+":c_purged#timestamp"), "purged, and nothing was")
	}
	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "old").Err())
	w.empty()
	require.Empty(t, w.get(prefix+":c_purged#timestamp"))
	require.Equal(t, 1, r.count("packagePublished", "purged"))
	require.Zero(t, r.metric("persistent_cache_panics_total"))
}
