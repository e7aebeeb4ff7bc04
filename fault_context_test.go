package stigg_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// TestContextEndedBefore: nothing is asked for a caller that has gone already.
func TestContextEndedBefore(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	fill(t, api, server, "acme")
	gone, cancel := context.WithCancel(background())
	cancel()
	late, cancelLate := context.WithDeadline(background(), time.Now().Add(-time.Second))
	defer cancelLate()
	for name, withRedis := range map[string]*redistest.Server{"redis": server, "no redis": nil} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, api, withRedis)
			require.NoError(t, client.WaitForInitialization(background()))
			recorder := server.Monitor()
			api.ResetRequests()
			for _, g := range getters {
				for ctx, want := range map[context.Context]error{gone: context.Canceled, late: context.DeadlineExceeded} {
					answer, err := g.get(ctx, client, ask{customer: "acme", id: g.id, allow: true})
					require.ErrorIs(t, err, want, g.name)
					require.True(t, answer.IsFallback, g.name)
					require.True(t, answer.HasAccess, g.name)
				}
			}
			state, err := client.GetEntitlements(gone, "acme", "")
			require.ErrorIs(t, err, context.Canceled)
			require.True(t, state.IsFallback)
			err = client.ReloadEntitlements(gone, "acme", "")
			require.ErrorIs(t, err, context.Canceled)
			require.EqualError(t, err, "stigg: context canceled")
			require.Zero(t, api.Count(isFetch))
			require.Empty(t, callsOfChecks(recorder))
			require.Zero(t, client.Stats().RedisErrors, "that says nothing about Redis")
		})
	}
}

// TestContextEndsDuring: a caller that gives up is let go at once; the refetch
// goes on, for others and for Redis.
func TestContextEndsDuring(t *testing.T) {
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		limit time.Duration
		want  error
	}{
		"cancelled": {time.Minute, context.Canceled},
		"deadline":  {time.Second, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			server.FlushAll()
			api := acmeAPI(t)
			release := make(chan struct{})
			api.Fault(onEdge(stiggtest.Hold(release)))
			client := newClient(t, api, server)
			ctx, cancel := context.WithTimeout(background(), c.limit)
			defer cancel()
			var canceller sync.WaitGroup
			if name == "cancelled" {
				canceller.Go(func() {
					if api.WaitForRequests(ctx, 1, isFetch) == nil {
						cancel()
					}
				})
			}
			began := time.Now()
			answer, err := isOn(ctx, client)
			require.Less(t, time.Since(began), 3*time.Second)
			canceller.Wait()
			require.ErrorIs(t, err, c.want)
			require.True(t, answer.IsFallback)
			require.Zero(t, client.Stats().FetchFailures)

			close(release)
			eventually(t, func() bool { return client.Stats().Writes == 1 }, "write-back")
			eventually(t, func() bool { a, _ := isOn(background(), client); return a.Source == stigg.SourceRedis }, "redis")
			require.Equal(t, 1, api.Count(isFetch))
		})
	}
}

// TestDeadlineShorterThanEverything: neither a silent Redis nor a hanging API
// holds a caller beyond its own deadline.
func TestDeadlineShorterThanEverything(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	client := newClient(t, api, server, func(c *stigg.Config) { c.Redis.Timeout = 10 * time.Second })
	api.Fault(stiggtest.Hang().On(isFetch))
	server.Pause()
	for _, g := range getters {
		for _, limit := range []time.Duration{time.Microsecond, time.Millisecond, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(background(), limit)
			began := time.Now()
			answer, err := g.get(ctx, client, ask{customer: "acme", id: g.id, allow: true})
			took := time.Since(began)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, g.name)
			require.Less(t, took, limit+3*time.Second, g.name)
			require.True(t, answer.HasAccess, g.name)
		}
	}
	server.Resume()
}

// TestShortDeadlinesTellOfRedis: callers whose deadlines are shorter than
// Redis.Timeout notice a silent Redis too, so that later ones are not kept
// waiting by it; a deadline that Redis could not have kept says nothing.
func TestShortDeadlinesTellOfRedis(t *testing.T) {
	server := redistest.Start(t)
	api := acmeAPI(t)
	patient := func(c *stigg.Config) { c.Redis.Timeout = 10 * time.Second }
	hurried, client := newClient(t, api, server, patient), newClient(t, api, server, patient)
	server.Pause()
	within := func(c *stigg.Client, limit time.Duration) (stigg.BooleanEntitlement, error) {
		ctx, cancel := context.WithTimeout(background(), limit)
		defer cancel()
		return isOn(ctx, c)
	}
	delayed := uint64(0) // by the machine, for so long that Redis could have kept them
	for calls := 0; calls < 10 && delayed < 3; calls++ {
		began := time.Now()
		_, err := within(hurried, time.Millisecond)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		if time.Since(began) >= 10*time.Millisecond {
			delayed++
		}
	}
	require.LessOrEqual(t, hurried.Stats().RedisErrors, delayed)
	for range 3 {
		_, err := within(client, 30*time.Millisecond)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.GreaterOrEqual(t, client.Stats().RedisErrors, uint64(3))
	answer, err := within(client, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, stigg.SourceEdge, answer.Source)
	server.Resume()
}

// TestOneCallerGivesUp: of many who wait for the same refetch one goes away,
// the very one that started it; the others are answered.
func TestOneCallerGivesUp(t *testing.T) {
	api := acmeAPI(t)
	release := make(chan struct{})
	api.Fault(stiggtest.Hold(release).On(isFetch))
	var joined atomic.Int32
	client := newClient(t, api, nil, countJoins(&joined))
	first, cancel := context.WithCancel(background())
	left := make(chan error)
	go func() {
		_, err := isOn(first, client)
		left <- err
	}()
	require.NoError(t, api.WaitForRequests(background(), 1, isFetch))

	type result struct {
		answer stigg.BooleanEntitlement
		err    error
	}
	results := make(chan result)
	for range 20 {
		go func() {
			answer, err := isOn(background(), client)
			results <- result{answer, err}
		}()
	}
	eventually(t, func() bool { return joined.Load() == 20 }, "all wait for the same")
	cancel()
	require.ErrorIs(t, <-left, context.Canceled)
	close(release)
	for range 20 {
		r := <-results
		require.NoError(t, r.err)
		require.True(t, r.answer.HasAccess)
	}
	require.Equal(t, 1, api.Count(isFetch))
}

// TestColdChecksShareARequest: however many ask for a customer that is in no
// cache, by whatever getter, the API is asked once.
func TestColdChecksShareARequest(t *testing.T) {
	server := redistest.Start(t)
	for name, withRedis := range map[string]*redistest.Server{"redis": server, "no redis": nil} {
		t.Run(name, func(t *testing.T) {
			server.FlushAll()
			api := acmeAPI(t)
			release := make(chan struct{})
			api.Fault(stiggtest.Hold(release).On(isFetch))
			var joined atomic.Int32
			client := newClient(t, api, withRedis, countJoins(&joined), func(c *stigg.Config) {
				if c.Redis != nil { // 200 at once, on a machine that does other things too
					c.Redis.Timeout = 5 * time.Second
				}
			})
			var callers sync.WaitGroup
			start := make(chan struct{})
			const many = 200
			for i := range many {
				callers.Go(func() {
					<-start
					g := getters[i%len(getters)]
					answer, err := g.get(background(), client, ask{customer: "acme", id: g.id})
					if err != nil || !answer.HasAccess {
						t.Errorf("%s: %+v, %v", g.name, answer, err)
					}
				})
			}
			close(start)
			eventually(t, func() bool { return joined.Load() == many-1 }, "all wait for the same")
			close(release)
			callers.Wait()
			require.Equal(t, 1, api.Count(isFetch))
			require.EqualValues(t, 1, client.Stats().Fetches)
		})
	}
}
