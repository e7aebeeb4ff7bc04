package stigg_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// TestObserverThatPanics: an observer that panics on every event, in the
// callers' goroutines and in the client's own, changes no answer and does not
// keep Redis from being asked again after it was away.
func TestObserverThatPanics(t *testing.T) {
	server, api, lines := redistest.Start(t), acmeAPI(t), &logLines{}
	client := newClient(t, api, server, lines.to, func(c *stigg.Config) {
		c.Observer = func(stigg.Event) { panic("observer") }
		c.Redis.OutageTTL = -1
	})
	comesFrom := func(want stigg.Source) {
		t.Helper()
		eventually(t, func() bool {
			a, err := isOn(background(), client)
			require.NoError(t, err)
			require.True(t, a.HasAccess)
			return a.Source == want
		}, string(want))
	}
	comesFrom(stigg.SourceEdge)
	comesFrom(stigg.SourceRedis)
	server.Kill()
	comesFrom(stigg.SourceEdge)
	eventually(t, func() bool {
		_, err := isOn(background(), client)
		require.NoError(t, err)
		return client.Status().Redis.State == stigg.StateDown
	}, "redis is away")
	server.Start()
	comesFrom(stigg.SourceRedis)
	require.Len(t, lines.with("observer panicked"), 1)
}
