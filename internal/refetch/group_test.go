package refetch_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/internal/refetch"
)

var (
	acme     = cache.Key{CustomerID: "acme"}
	resource = cache.Key{CustomerID: "acme", ResourceID: "res"}
	errFail  = errors.New("no answer")
	now      = time.Now().UTC().Truncate(time.Millisecond)
)

// source is what a group fetches from: a function that a test can exchange, and
// how often it was asked about whom.
type source struct {
	mu    sync.Mutex
	do    func(ctx context.Context, k cache.Key) (entitlements.State, error)
	asked map[cache.Key]int
}

func (s *source) fetch(ctx context.Context, k cache.Key) (entitlements.State, entitlements.Source, error) {
	s.mu.Lock()
	s.asked[k]++
	do := s.do
	s.mu.Unlock()
	state, err := do(ctx, k)
	return state, entitlements.SourceEdge, err
}

func (s *source) set(do func(ctx context.Context, k cache.Key) (entitlements.State, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

func (s *source) count(k cache.Key) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[k]
}

// features is a state of n features that are on.
func features(n int) entitlements.State {
	var s entitlements.State
	for i := range n {
		s.Records = append(s.Records, entitlements.Record{Definition: entitlements.Definition{
			Feature:   entitlements.Feature{ID: "f" + strconv.Itoa(i), Type: entitlements.FeatureBoolean},
			UpdatedAt: now,
		}})
	}
	return s
}

func answers(s entitlements.State) func(context.Context, cache.Key) (entitlements.State, error) {
	return func(context.Context, cache.Key) (entitlements.State, error) { return s, nil }
}

func fails(context.Context, cache.Key) (entitlements.State, error) {
	return entitlements.State{}, errFail
}

// hangs waits for the end of the fetch's own context.
func hangs(ctx context.Context, _ cache.Key) (entitlements.State, error) {
	<-ctx.Done()
	return entitlements.State{}, ctx.Err()
}

// newGroup makes a group that is closed with the test.
func newGroup(t *testing.T, change ...func(*refetch.Config)) (*refetch.Group, *source) {
	t.Helper()
	g, s := openGroup(change...)
	t.Cleanup(g.Close)
	return g, s
}

// openGroup makes a group that the test closes.
func openGroup(change ...func(*refetch.Config)) (*refetch.Group, *source) {
	s := &source{do: answers(features(2)), asked: make(map[cache.Key]int)}
	config := refetch.Config{
		Fetch: s.fetch, StoreUp: func() bool { return true },
		Timeout: 5 * time.Second, HoldFor: time.Minute, HoldRecords: 1000,
	}
	for _, c := range change {
		c(&config)
	}
	return refetch.New(config), s
}

func get(g *refetch.Group, k cache.Key) (*refetch.Live, error) {
	return g.Get(context.Background(), k, refetch.Cause{Times: refetch.NoTimes, Direct: true})
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, time.Millisecond)
}

// TestGetShares: all who ask at the same time get the one answer.
func TestGetShares(t *testing.T) {
	var joined atomic.Int32
	g, s := newGroup(t, func(c *refetch.Config) {
		c.OnEvent = func(e refetch.Event) {
			if e.Kind == refetch.Joined {
				joined.Add(1)
			}
		}
	})
	release := make(chan struct{})
	s.set(func(context.Context, cache.Key) (entitlements.State, error) { <-release; return features(1), nil })
	var waiting sync.WaitGroup
	lives := make([]*refetch.Live, 50)
	for i := range lives {
		waiting.Go(func() { lives[i], _ = get(g, acme) })
	}
	eventually(t, func() bool { return int(joined.Load()) == len(lives)-1 })
	close(release)
	waiting.Wait()
	require.Equal(t, 1, s.count(acme))
	for _, live := range lives {
		require.Same(t, lives[0], live)
	}
	require.Equal(t, entitlements.SourceEdge, lives[0].Source)
	require.False(t, lives[0].At.Before(lives[0].Began))
	require.NotNil(t, lives[0].Find(cache.Ref{ID: "f0"}))
	require.Nil(t, lives[0].Find(cache.Ref{ID: "f0", IsCredit: true}))
	require.Nil(t, lives[0].Find(cache.Ref{ID: "f1"}))
}

// TestGetKeepsKeysApart: a customer, its resource, and another customer's
// resource are different questions, whatever their ids look like when joined.
func TestGetKeepsKeysApart(t *testing.T) {
	g, s := newGroup(t)
	for _, k := range []cache.Key{acme, resource, {CustomerID: "acme:r_res"}, {CustomerID: "acmer", ResourceID: "es"}} {
		_, err := get(g, k)
		require.NoError(t, err)
		require.Equal(t, 1, s.count(k))
	}
}

// TestGetIsDetached: who gives up goes at once; the fetch goes on.
func TestGetIsDetached(t *testing.T) {
	g, s := newGroup(t)
	release := make(chan struct{})
	var ended atomic.Bool
	s.set(func(ctx context.Context, _ cache.Key) (entitlements.State, error) {
		<-release
		ended.Store(ctx.Err() != nil)
		return features(1), nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		_, err := g.Get(ctx, acme, refetch.Cause{Times: refetch.NoTimes, Direct: true})
		left <- err
	}()
	eventually(t, func() bool { return s.count(acme) == 1 })
	cancel()
	require.ErrorIs(t, <-left, context.Canceled)
	close(release)
	eventually(t, func() bool { return g.Held(acme, cache.Ref{}, time.Now(), 0) != nil })
	require.False(t, ended.Load(), "the fetch has a context of its own")

	_, err := g.Get(ctx, resource, refetch.Cause{Times: refetch.NoTimes})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, s.count(resource), "nothing is begun for a caller that has gone")
}

// TestGetIsBounded: a fetch that hangs ends with Timeout, for callers without a
// deadline too.
func TestGetIsBounded(t *testing.T) {
	g, s := newGroup(t, func(c *refetch.Config) { c.Timeout = 30 * time.Millisecond })
	s.set(hangs)
	_, err := get(g, acme)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestFailuresPause: a failure is told again to whoever asks soon, without
// asking; later it is tried anew, and a success ends the matter.
func TestFailuresPause(t *testing.T) {
	g, s := newGroup(t)
	s.set(fails)
	began := time.Now()
	for range 20 {
		_, err := get(g, acme)
		require.ErrorIs(t, err, errFail)
	}
	require.Equal(t, 1, s.count(acme))
	_, err := get(g, resource)
	require.ErrorIs(t, err, errFail)
	require.Equal(t, 1, s.count(resource), "of others nothing is known")
	stands, err := g.Expired(acme, time.Now())
	require.False(t, stands)
	require.ErrorIs(t, err, errFail)

	s.set(answers(features(1)))
	eventually(t, func() bool { _, err := get(g, acme); return err == nil })
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	require.Equal(t, 2, s.count(acme))
	stands, err = g.Expired(acme, time.Now())
	require.NoError(t, err)
	require.True(t, stands)
	stands, err = g.Expired(acme, time.Now().Add(refetch.ExpiryRefetch))
	require.NoError(t, err)
	require.False(t, stands, "it is asked again after a while")
	stands, err = g.Expired(cache.Key{CustomerID: "never fetched"}, time.Now())
	require.NoError(t, err)
	require.False(t, stands)
}

// TestHolds: without Redis an answer is held, for HoldFor, and no older one
// takes the place of a newer.
func TestHolds(t *testing.T) {
	g, s := newGroup(t, func(c *refetch.Config) { c.HoldFor = time.Second })
	require.Nil(t, g.Held(acme, cache.Ref{}, time.Now(), 0))
	live, err := get(g, acme)
	require.NoError(t, err)
	require.Same(t, live, g.Held(acme, cache.Ref{}, time.Now(), 0))
	require.Nil(t, g.Held(resource, cache.Ref{}, time.Now(), 0))
	for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
		g.Held(acme, cache.Ref{}, time.Now(), 0) // being used does not make it younger
	}
	eventually(t, func() bool { return g.Held(acme, cache.Ref{}, time.Now(), 0) == nil })
	require.GreaterOrEqual(t, time.Since(live.At), time.Second)

	// A slow fetch that began before a reload does not undo it.
	release := make(chan struct{})
	s.set(func(context.Context, cache.Key) (entitlements.State, error) { <-release; return features(1), nil })
	slow := make(chan *refetch.Live)
	go func() {
		live, _ := get(g, acme)
		slow <- live
	}()
	eventually(t, func() bool { return s.count(acme) == 2 })
	require.NoError(t, g.Reload(context.Background(), acme, func(context.Context, cache.Key) (entitlements.State, entitlements.Source, error) {
		return features(3), entitlements.SourceGraphQL, nil
	}))
	require.Len(t, g.Held(acme, cache.Ref{}, time.Now(), 0).State.Records, 3)
	close(release)
	require.Len(t, (<-slow).State.Records, 1)
	require.Len(t, g.Held(acme, cache.Ref{}, time.Now(), 0).State.Records, 3)
}

// TestHoldsNothing: with HoldFor 0 nothing is held.
func TestHoldsNothing(t *testing.T) {
	g, _ := newGroup(t, func(c *refetch.Config) { c.HoldFor = 0 })
	_, err := get(g, acme)
	require.NoError(t, err)
	require.Nil(t, g.Held(acme, cache.Ref{}, time.Now(), 0))
}

// TestHoldsAreBounded by the number of entitlements, the least recently used
// going first.
func TestHoldsAreBounded(t *testing.T) {
	g, s := newGroup(t, func(c *refetch.Config) { c.HoldRecords = 100 })
	s.set(answers(features(9)))
	key := func(i int) cache.Key { return cache.Key{CustomerID: strconv.Itoa(i)} }
	for i := range 30 {
		_, err := get(g, key(i))
		require.NoError(t, err)
		require.NotNil(t, g.Held(key(0), cache.Ref{}, time.Now(), 0), "in use")
	}
	held := 0
	for i := range 30 {
		if g.Held(key(i), cache.Ref{}, time.Now(), 0) != nil {
			held++
		}
	}
	require.LessOrEqual(t, held, 11)
	require.GreaterOrEqual(t, held, 9)
	require.NotNil(t, g.Held(key(29), cache.Ref{}, time.Now(), 0), "the latest")

	s.set(answers(features(1000)))
	_, err := get(g, acme)
	require.NoError(t, err)
	require.True(t, g.Held(acme, cache.Ref{}, time.Now(), 0) != nil, "one that is too large by itself")
	require.True(t, g.Held(key(29), cache.Ref{}, time.Now(), 0) == nil, "for which all others go")
}

// TestSettlementsAreBounded: what is remembered of fetches does not grow with
// the number of customers.
func TestSettlementsAreBounded(t *testing.T) {
	g, s := newGroup(t, func(c *refetch.Config) { c.HoldFor = 0 })
	s.set(answers(entitlements.State{}))
	for i := range 1<<15 + 100 {
		_, err := get(g, cache.Key{CustomerID: strconv.Itoa(i)})
		require.NoError(t, err)
	}
	for i, want := range map[int]bool{0: false, 99: false, 101: true, 1 << 15: true} {
		stands, err := g.Expired(cache.Key{CustomerID: strconv.Itoa(i)}, time.Now())
		require.NoError(t, err)
		require.Equal(t, want, stands, i)
	}
}

// TestRemaining: which faults of a reading the last live fetch has settled.
func TestRemaining(t *testing.T) {
	const relation, usage = cache.GlobalAbsent | cache.GlobalNewer, cache.UsageAbsent | cache.WalletUsageAbsent
	g, s := newGroup(t)
	calls, tokens := cache.Ref{ID: "calls"}, cache.Ref{IsCredit: true, ID: "tokens"}
	other := cache.Ref{ID: "other"}
	s.set(answers(entitlements.State{Records: []entitlements.Record{
		{Definition: entitlements.Definition{Feature: entitlements.Feature{ID: "calls", Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental}}},
		{Definition: *creditDefinition("tokens")},
		{HasUsage: true, Definition: entitlements.Definition{Feature: entitlements.Feature{ID: "other", Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental}}},
	}}))
	seen := cache.Times{Value: 1, Global: 2}
	remaining := func(k cache.Key, faults cache.Faults, times cache.Times, usage, wallet cache.Ref) cache.Faults {
		rest, forNow := g.Remaining(k, faults, times, usage, wallet)
		require.False(t, forNow)
		return rest
	}
	require.Equal(t, relation|usage, remaining(resource, relation|usage, seen, calls, tokens), "nothing was fetched yet")
	_, err := g.Get(context.Background(), resource, refetch.Cause{Times: seen, Direct: true})
	require.NoError(t, err)

	for name, c := range map[string]struct {
		faults        cache.Faults
		times         cache.Times
		usage, wallet cache.Ref
		want          cache.Faults
	}{
		"as seen then":         {relation | usage, seen, calls, tokens, 0},
		"the customer changed": {relation | usage, cache.Times{Value: 1, Global: 3}, calls, tokens, relation},
		"the resource changed": {relation | usage, cache.Times{Value: 5, Global: 2}, calls, tokens, usage},
		"a usage that came":    {usage, seen, other, tokens, cache.UsageAbsent},
		"other faults stay":    {cache.ValueAbsent | cache.ValueUnreadable | cache.TimestampAbsent | cache.UsageUnreadable | relation, seen, calls, tokens, cache.ValueAbsent | cache.ValueUnreadable | cache.TimestampAbsent | cache.UsageUnreadable},
		"no faults":            {0, seen, calls, tokens, 0},
	} {
		require.Equal(t, c.want, remaining(resource, c.faults, c.times, c.usage, c.wallet), name)
	}
	require.Equal(t, relation, remaining(acme, relation, seen, calls, tokens), "of another key")
}

func creditDefinition(id string) *entitlements.Definition {
	d := &entitlements.Definition{IsCredit: true}
	d.Currency.ID = id
	return d
}

// TestReload tells how its own fetch ended, not another.
func TestReload(t *testing.T) {
	g, s := newGroup(t)
	reload := func(state entitlements.State, err error) func(context.Context, cache.Key) (entitlements.State, entitlements.Source, error) {
		return func(_ context.Context, k cache.Key) (entitlements.State, entitlements.Source, error) {
			require.Equal(t, acme, k)
			return state, entitlements.SourceGraphQL, err
		}
	}
	require.ErrorIs(t, g.Reload(context.Background(), acme, reload(entitlements.State{}, errFail)), errFail)
	require.Nil(t, g.Held(acme, cache.Ref{}, time.Now(), 0))
	_, err := get(g, acme)
	require.NoError(t, err, "its failure is no reason not to ask")
	require.NoError(t, g.Reload(context.Background(), acme, reload(features(4), nil)))
	require.Len(t, g.Held(acme, cache.Ref{}, time.Now(), 0).State.Records, 4)
	require.Equal(t, entitlements.SourceGraphQL, g.Held(acme, cache.Ref{}, time.Now(), 0).Source)
	require.Equal(t, 1, s.count(acme))

	// A reload that succeeds ends the pause after a failure.
	s.set(fails)
	other := cache.Key{CustomerID: "other"}
	_, err = get(g, other)
	require.ErrorIs(t, err, errFail)
	s.set(answers(features(1)))
	require.NoError(t, g.Reload(context.Background(), other, func(context.Context, cache.Key) (entitlements.State, entitlements.Source, error) {
		return features(1), entitlements.SourceGraphQL, nil
	}))
	_, err = get(g, other)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, g.Reload(ctx, acme, reload(features(1), nil)), context.Canceled)
	require.Len(t, g.Held(acme, cache.Ref{}, time.Now(), 0).State.Records, 4)
}

// TestClose: what is under way gets a second; then everybody is told, and
// nothing begins any more.
func TestClose(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		g, s := openGroup()
		release := make(chan struct{})
		s.set(func(context.Context, cache.Key) (entitlements.State, error) { <-release; return features(1), nil })
		answer := make(chan error)
		go func() {
			_, err := get(g, acme)
			answer <- err
		}()
		eventually(t, func() bool { return s.count(acme) == 1 })
		time.AfterFunc(50*time.Millisecond, func() { close(release) })
		began := time.Now()
		g.Close()
		require.Less(t, time.Since(began), 900*time.Millisecond)
		require.NoError(t, <-answer)
		_, err := get(g, acme)
		require.ErrorIs(t, err, apierr.ErrClosed)
		require.ErrorIs(t, g.Reload(context.Background(), acme, s.fetch), apierr.ErrClosed)
		require.Equal(t, 1, s.count(acme))
	})
	t.Run("too late", func(t *testing.T) {
		g, s := openGroup()
		s.set(hangs)
		answer := make(chan error, 2)
		go func() {
			_, err := get(g, acme)
			answer <- err
		}()
		go func() { answer <- g.Reload(context.Background(), resource, s.fetch) }()
		eventually(t, func() bool { return s.count(acme) == 1 && s.count(resource) == 1 })
		began := time.Now()
		g.Close()
		require.GreaterOrEqual(t, time.Since(began), 900*time.Millisecond)
		require.Less(t, time.Since(began), 3*time.Second)
		for range 2 {
			require.Error(t, <-answer)
		}
	})
}

// TestStoreLocked: while another process holds the customer's write lock the
// callers have their answer all the same, latecomers get the known one, and
// what could not be written in time is held.
func TestStoreLocked(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client()
	store := cache.NewStore(cache.Options{Client: rdb, Prefix: "p", Timeout: time.Second})
	var written atomic.Pointer[refetch.Event]
	g, s := newGroup(t, func(c *refetch.Config) {
		c.Store, c.Alone = store, true
		c.OnEvent = func(e refetch.Event) {
			if e.Kind == refetch.Written {
				written.Store(&e)
			}
		}
	})
	require.NoError(t, rdb.Set(context.Background(), cache.WriteLockKey("p", acme), "another", time.Minute).Err())
	began := time.Now()
	first, err := get(g, acme)
	require.NoError(t, err)
	require.Less(t, time.Since(began), time.Second)
	for range 20 {
		later, err := get(g, acme)
		require.NoError(t, err)
		require.Same(t, first, later)
	}
	require.Equal(t, 1, s.count(acme))
	require.Nil(t, written.Load())

	eventually(t, func() bool { return written.Load() != nil })
	require.ErrorIs(t, written.Load().Err, cache.ErrLocked)
	require.GreaterOrEqual(t, time.Since(began), 1900*time.Millisecond)
	require.Same(t, first, g.Held(acme, cache.Ref{}, time.Now(), 0))
	require.EqualValues(t, 0, rdb.Exists(context.Background(), cache.ValueKey("p", acme)).Val())

	require.NoError(t, rdb.Del(context.Background(), cache.WriteLockKey("p", acme)).Err())
	require.NoError(t, g.Reload(context.Background(), acme, s.fetch))
	require.Nil(t, g.Held(acme, cache.Ref{}, time.Now(), 0), "Redis has it now")
	require.EqualValues(t, 1, rdb.Exists(context.Background(), cache.ValueKey("p", acme)).Val())
}

// TestStoreAway: where Redis is not worth writing to it is not written to.
func TestStoreAway(t *testing.T) {
	server := redistest.Start(t)
	store := cache.NewStore(cache.Options{Client: server.Client(), Prefix: "p", Timeout: time.Second})
	g, _ := newGroup(t, func(c *refetch.Config) {
		c.Store, c.Alone = store, true
		c.StoreUp = func() bool { return false }
	})
	recorder := server.Monitor()
	live, err := get(g, acme)
	require.NoError(t, err)
	require.Same(t, live, g.Held(acme, cache.Ref{}, time.Now(), 0))
	require.NoError(t, g.Reload(context.Background(), acme, func(context.Context, cache.Key) (entitlements.State, entitlements.Source, error) {
		return features(1), entitlements.SourceGraphQL, nil
	}))
	require.Empty(t, recorder.Commands())
}

// TestConcurrentUse: whatever is called at the same time, every caller gets an
// answer or an error, also across Close.
func TestConcurrentUse(t *testing.T) {
	server := redistest.Start(t)
	store := cache.NewStore(cache.Options{Client: server.Client(), Prefix: "p", Timeout: time.Second})
	g, s := openGroup(func(c *refetch.Config) { c.Store, c.Alone = store, true })
	s.set(func(_ context.Context, k cache.Key) (entitlements.State, error) {
		if k.CustomerID == "c1" {
			return entitlements.State{}, errFail
		}
		return features(3), nil
	})
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for n := 0; ; n++ {
				k := cache.Key{CustomerID: fmt.Sprintf("c%d", n%4)}
				if n%3 == 0 {
					k.ResourceID = "r"
				}
				var err error
				var live *refetch.Live
				if i == 0 {
					err = g.Reload(context.Background(), k, s.fetch)
				} else {
					live, err = g.Get(context.Background(), k, refetch.Cause{Times: refetch.NoTimes, WithGlobal: true, Direct: true})
					if err == nil && live == nil {
						t.Error("neither an answer nor an error")
					}
				}
				g.Held(k, cache.Ref{}, time.Now(), 0)
				g.Remaining(k, cache.GlobalNewer, cache.Times{}, cache.Ref{}, cache.Ref{})
				_, _ = g.Expired(k, time.Now())
				if errors.Is(err, apierr.ErrClosed) {
					return
				}
				if err != nil && !errors.Is(err, errFail) {
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	g.Close()
	callers.Wait()
}
