package cache

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// TestAnnouncementsOnADeadConnection: a connection that is silent is asked for
// a sign of life; one that gives none is replaced, one that does is kept.
func TestAnnouncementsOnADeadConnection(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr = proxy.Addr()
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	k := Key{CustomerID: "acme"}
	announcements := NewStore(Options{Client: client, Prefix: "lab", Timeout: time.Second}).NewAnnouncements()
	announcements.idle = 400 * time.Millisecond
	defer announcements.Close()
	w, err := announcements.Wait(t.Context(), k)
	require.NoError(t, err)
	defer w.Close()

	time.Sleep(1500 * time.Millisecond)
	require.Equal(t, 1, proxy.Stats().Accepted, "it answers, and is kept")

	proxy.Blackhole(faultproxy.Both)
	time.Sleep(900 * time.Millisecond)
	proxy.Pass() // the old connection stays silent
	store := NewStore(Options{Client: server.Client(), Prefix: "lab", Timeout: time.Second})
	require.Eventually(t, func() bool {
		if store.Announce(t.Context(), k, nil) != nil {
			return false
		}
		select {
		case <-w.C:
			return true
		default:
			return false
		}
	}, 5*time.Second, 20*time.Millisecond)
	require.Greater(t, proxy.Stats().Accepted, 1)
}
