package stigg_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestStatus(t *testing.T) {
	server, api := redistest.Start(t), stiggtest.New(t)
	beat := time.Now().Add(-90 * time.Second)
	require.NoError(t, server.Client().Set(background(), "lab:stigg-persistent-cache:heartbeat", strconv.FormatInt(beat.UnixMilli(), 10), time.Minute).Err())
	client := newClient(t, api, server)
	require.NoError(t, client.WaitForInitialization(background()))
	eventually(t, func() bool { return !client.Status().Heartbeat.IsZero() }, "heartbeat")
	s := client.Status()
	require.Equal(t, stigg.StateUp, s.Redis.State)
	require.Equal(t, stigg.StateUp, s.API.State)
	require.NoError(t, s.API.LastError)
	age, ok := s.HeartbeatAge(time.Now())
	require.True(t, ok)
	require.InDelta(t, 90, age.Seconds(), 10)

	server.Kill()
	api.Fault(stiggtest.Status(503))
	eventually(t, func() bool {
		_, _ = client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "acme", FeatureID: "sso"})
		s = client.Status()
		return s.Redis.State == stigg.StateDown && s.API.State == stigg.StateDown
	}, "both down")
	require.ErrorIs(t, s.API.LastError, stigg.ErrUnavailable)
	require.Error(t, s.Redis.LastError)
	require.WithinDuration(t, time.Now(), s.Redis.Since, 10*time.Second)
	require.Zero(t, s.Heartbeat, "a service that may be well looks no worse than unknown")
}

func TestStatusWithoutHeartbeat(t *testing.T) {
	server := redistest.Start(t)
	require.NoError(t, server.Client().Set(background(), "lab:stigg-persistent-cache:heartbeat", "soon", 0).Err())
	client := newClient(t, stiggtest.New(t), server)
	_, ok := client.Status().HeartbeatAge(time.Now())
	require.False(t, ok)
	offline := newClient(t, nil, nil, func(c *stigg.Config) { c.Offline = true })
	require.Equal(t, stigg.StateUnused, offline.Status().Redis.State)
	require.Equal(t, stigg.StateUnused, offline.Status().API.State)
}
