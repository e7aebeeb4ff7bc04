package health_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/health"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

var errAway = errors.New("away")

// watched is a monitor of something that a test can take away, and what it has
// said.
type watched struct {
	*health.Monitor
	away   atomic.Bool
	probes atomic.Int64

	mu   sync.Mutex
	lost []error
	back []time.Duration
}

func watch(t *testing.T, interval time.Duration) *watched {
	t.Helper()
	w := &watched{}
	w.Monitor = health.New(health.Config{
		Probe: func(context.Context) error {
			w.probes.Add(1)
			if w.away.Load() {
				return errAway
			}
			return nil
		},
		ProbeTimeout: time.Second, Interval: interval, Threshold: 3,
		OnLost: func(err error) { w.mu.Lock(); defer w.mu.Unlock(); w.lost = append(w.lost, err) },
		OnBack: func(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.back = append(w.back, d) },
	})
	t.Cleanup(w.Close)
	return w
}

func (w *watched) said() (lost, back int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lost), len(w.back)
}

func (w *watched) fail(times int) {
	for range times {
		w.Failed(errAway)
	}
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 5*time.Second, time.Millisecond)
}

func TestTrustedUntilItFails(t *testing.T) {
	w := watch(t, time.Hour)
	require.True(t, w.Up())
	state := w.State()
	require.True(t, state.Up)
	require.WithinDuration(t, time.Now(), state.Since, time.Minute)
	require.NoError(t, state.LastError)
	require.Zero(t, w.probes.Load(), "what is up is not probed")
}

func TestFailuresInARow(t *testing.T) {
	w := watch(t, time.Hour)
	w.fail(2)
	require.True(t, w.Up())
	require.ErrorIs(t, w.State().LastError, errAway)
	w.Succeeded()
	w.fail(2)
	require.True(t, w.Up(), "not in a row")
	w.fail(1)
	require.False(t, w.Up())
	lost, _ := w.said()
	require.Equal(t, 1, lost)

	since := w.State().Since
	w.fail(100)
	lost, _ = w.said()
	require.Equal(t, 1, lost, "said once")
	require.Equal(t, since, w.State().Since, "away since then")
	w.Succeeded()
	require.False(t, w.Up(), "a late success of a call is not enough: the probe decides")
}

func TestProbedUntilItAnswers(t *testing.T) {
	w := watch(t, 5*time.Millisecond)
	w.away.Store(true)
	w.fail(3)
	eventually(t, func() bool { return w.probes.Load() >= 3 })
	require.False(t, w.Up())
	w.away.Store(false)
	eventually(t, w.Up)
	lost, back := w.said()
	require.Equal(t, []int{1, 1}, []int{lost, back})
	require.GreaterOrEqual(t, w.back[0], 10*time.Millisecond)
	require.True(t, w.State().Up)

	probes := w.probes.Load()
	time.Sleep(20 * time.Millisecond)
	require.Equal(t, probes, w.probes.Load(), "what is back is not probed any more")
	w.fail(2)
	require.True(t, w.Up(), "the failures before do not count")
	w.fail(1)
	require.False(t, w.Up())
	eventually(t, w.Up)
}

// TestProbeInterval: the number of probes depends on the time, not on the
// number of failures.
func TestProbeInterval(t *testing.T) {
	w := watch(t, 100*time.Millisecond)
	w.away.Store(true)
	began := time.Now()
	for time.Since(began) < 350*time.Millisecond {
		w.fail(10)
		time.Sleep(time.Millisecond)
	}
	require.LessOrEqual(t, w.probes.Load(), int64(time.Since(began)/(100*time.Millisecond)))
	require.GreaterOrEqual(t, w.probes.Load(), int64(1))
}

func TestCloseEndsProbing(t *testing.T) {
	probing := make(chan struct{})
	var once sync.Once
	m := health.New(health.Config{
		Probe: func(ctx context.Context) error { // honours its context, like a client of Redis
			once.Do(func() { close(probing) })
			<-ctx.Done()
			return ctx.Err()
		},
		ProbeTimeout: time.Hour, Interval: time.Millisecond, Threshold: 1,
	})
	m.Failed(errAway)
	<-probing
	m.Close()
	m.Close()
	require.False(t, m.Up())
	m.Failed(errAway) // starts nothing any more, as goleak sees

	closed := health.New(health.Config{Threshold: 1, Interval: time.Millisecond, Probe: func(context.Context) error { return nil }})
	closed.Close()
	closed.Failed(errAway)
	require.True(t, closed.Up())
}

// TestProbeTimeout: a probe that gets no answer is given up, and followed by
// another.
func TestProbeTimeout(t *testing.T) {
	var probes atomic.Int64
	m := health.New(health.Config{
		Probe: func(ctx context.Context) error {
			probes.Add(1)
			<-ctx.Done()
			return ctx.Err()
		},
		ProbeTimeout: time.Millisecond, Interval: time.Millisecond, Threshold: 1,
	})
	defer m.Close()
	m.Failed(errAway)
	eventually(t, func() bool { return probes.Load() >= 3 })
	require.ErrorIs(t, m.State().LastError, context.DeadlineExceeded)
}

// TestConcurrentCallers: losses and returns alternate, whatever the callers
// say at the same time.
func TestConcurrentCallers(t *testing.T) {
	var mu sync.Mutex
	var said []string
	var away atomic.Bool
	m := health.New(health.Config{
		Probe:        func(context.Context) error { return nil },
		ProbeTimeout: time.Second, Interval: time.Millisecond, Threshold: 3,
		OnLost: func(error) { mu.Lock(); defer mu.Unlock(); said = append(said, "lost"); away.Store(true) },
		OnBack: func(time.Duration) { mu.Lock(); defer mu.Unlock(); said = append(said, "back"); away.Store(false) },
	})
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for range 16 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.Failed(errAway)
					m.Up()
					m.State()
				}
			}
		})
	}
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(said) >= 20 })
	close(stop)
	callers.Wait()
	m.Close()
	for i, what := range said {
		require.Equal(t, []string{"lost", "back"}[i%2], what, i)
	}
	require.Equal(t, away.Load(), !m.Up())
}

// TestRealRedis: silence, a lost network and a crash all end in "away", and
// each is noticed to be over.
func TestRealRedis(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr, options.MaxRetries, options.DialerRetries = proxy.Addr(), -1, 1
	rdb := redis.NewClient(options)
	defer func() { require.NoError(t, rdb.Close()) }()
	ping := func(ctx context.Context) error { return rdb.Ping(ctx).Err() }
	var lost, back atomic.Int64
	m := health.New(health.Config{
		Probe: ping, ProbeTimeout: 300 * time.Millisecond, Interval: 10 * time.Millisecond, Threshold: 2,
		OnLost: func(error) { lost.Add(1) }, OnBack: func(time.Duration) { back.Add(1) },
	})
	defer m.Close()
	call := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if err := ping(ctx); err != nil {
			m.Failed(err)
			return
		}
		m.Succeeded()
	}
	for name, fault := range map[string]struct{ breakIt, mend func() }{
		"silent":  {server.Pause, server.Resume},
		"refused": {proxy.Down, proxy.Pass},
		"crashed": {server.Kill, server.Start},
	} {
		before := lost.Load()
		call()
		require.True(t, m.Up(), name)
		fault.breakIt()
		eventually(t, func() bool { call(); return !m.Up() })
		require.Equal(t, before+1, lost.Load(), name)
		fault.mend()
		eventually(t, m.Up)
		require.Equal(t, before+1, back.Load(), name)
	}
}

// TestWhoIsToldPanics: the dependency is probed all the same.
func TestWhoIsToldPanics(t *testing.T) {
	probed := make(chan struct{})
	m := health.New(health.Config{
		Probe:        func(context.Context) error { return nil },
		ProbeTimeout: time.Second, Interval: time.Millisecond, Threshold: 1,
		OnLost: func(error) { panic("told") },
		OnBack: func(time.Duration) { close(probed) },
	})
	defer m.Close()
	require.Panics(t, func() { m.Failed(errors.New("no answer")) })
	<-probed
	eventually(t, m.Up)
}
