package service_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The password of Redis is changed: connections that are open go on working,
// new ones are refused. No message ends as dealt with that Redis never saw, and
// all is done when the password is good again.
func TestPasswordChangedWhileRunning(t *testing.T) {
	const customers = 400
	w := newWorld(t, "REDIS_PASSWORD=old")
	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "old").Err())
	r := w.start()
	r.awaitReady(200, 5*time.Second)
	at := time.Now()
	var bodies []string
	for i := range customers {
		customer := fmt.Sprint("customer-", i)
		w.cached(customer, at)
		bodies = append(bodies, listMessage(customer, 10, 1, at.Add(time.Second)))
	}
	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "new").Err())
	w.send(bodies...)
	time.Sleep(time.Second)
	w.cached("purged", at)
	w.send(`{"packagePublished":{"environmentId":"e","packageId":"p","packageRefId":"p","packageVersion":1,"packageType":"PLAN","migrationType":"ALL_CUSTOMERS"}}`)
	time.Sleep(time.Second)
	require.Zero(t, r.count("entitlements.updated", "not_cached"), "they are all cached")
	require.Zero(t, r.metric("persistent_cache_panics_total"))
	if r.count("packagePublished", "purged") > 0 {
		require.Empty(t, w.get(prefix+":c_purged#timestamp"), "purged, and nothing was")
	}

	require.NoError(t, w.client.ConfigSet(t.Context(), "requirepass", "old").Err())
	w.empty()
	require.Empty(t, w.get(prefix+":c_purged#timestamp"))
	require.Equal(t, 1, r.count("packagePublished", "purged"))
	require.Zero(t, r.count("entitlements.updated", "panicked"))
	require.Zero(t, r.metric("persistent_cache_panics_total"))
}
