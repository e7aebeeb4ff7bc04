package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// largeState is numberedState with a value of so many bytes more, whose content
// is one of two, in turn.
func largeState(n int64, size int) entitlements.State {
	state := numberedState(n, n)
	d := &state.Records[0]
	*d.Definition.UsageLimit = float64(n % 2)
	d.Usage.Current = float64(n % 2)
	d.Definition.Feature.Description = strings.Repeat("x", size)
	return state
}

// Large values are read in another way than small ones, which must not show:
// whatever a reader sees was true at one moment, although a value that was
// replaced comes back with a later time.
func TestLargeReadsAreOfOneMoment(t *testing.T) {
	const writes, size = 500, 64 << 10
	server := redistest.Start(t)
	newStore := func() *cache.Store { return cache.NewStore(cache.Options{Client: server.Client(), Prefix: "lab"}) }
	ctx := context.Background()
	_, err := newStore().WriteState(ctx, numberedKey, largeState(0, size), cache.WriteOptions{})
	require.NoError(t, err)

	var done atomic.Bool
	var readers sync.WaitGroup
	reads := make([]int, 4)
	errs := make([]error, len(reads))
	shared := newStore()
	for i := range reads {
		readers.Go(func() {
			for !done.Load() && errs[i] == nil {
				errs[i] = readOneMoment(ctx, shared, i == 0)
				reads[i]++
			}
		})
	}
	s := newStore()
	for n := range int64(writes) {
		r, err := s.WriteState(ctx, numberedKey, largeState(n, size), cache.WriteOptions{})
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.Applied, 2, "write %d", n)
	}
	done.Store(true)
	readers.Wait()
	for i := range reads {
		require.NoError(t, errs[i])
		require.Greater(t, reads[i], 20, "reads went on all the time")
	}
	t.Logf("reads: %v", reads)
}

// readOneMoment fails unless value, usage and both times belong together.
func readOneMoment(ctx context.Context, s *cache.Store, all bool) error {
	var faults cache.Faults
	var times cache.Times
	var d *entitlements.Definition
	var usage entitlements.Usage
	if all {
		r, err := s.ReadState(ctx, numberedKey)
		if err != nil {
			return err
		}
		faults, times, d, usage = r.Faults, r.Times, r.Entitlements[0].Definition, r.Entitlements[0].Usage
	} else {
		var r cache.Reading
		if err := s.Read(ctx, numberedKey, meter, true, &r); err != nil {
			return err
		}
		faults, times, d, usage = r.Faults, r.Times, r.Facts.Definition, r.Facts.Usage
	}
	n := times.Value - epoch
	if content := float64(n % 2); faults != 0 || *d.UsageLimit != content || usage.Current != content || !usage.UpdatedAt.Equal(changeTime(n)) {
		return fmt.Errorf("change %d, faults %q: value %v, usage %v of %v", n, faults, *d.UsageLimit, usage.Current, usage.UpdatedAt)
	}
	return nil
}

// A write that comes between the commands of one reading is noticed, even if
// it brings back the value that is known.
func TestLargeReadIsWrittenInBetween(t *testing.T) {
	const size = 64 << 10
	server := redistest.Start(t)
	writer := newStoreOf(server)
	split := 0
	var between func()
	client := redis.NewClient(splitOptions(server, &between))
	defer func() { require.NoError(t, client.Close()) }()
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})

	require.NoError(t, write(t.Context(), writer, largeState(2, size)))
	require.NoError(t, readOneMoment(t.Context(), store, false))
	require.NoError(t, write(t.Context(), writer, largeState(3, size)))
	between = func() {
		split++
		require.NoError(t, write(t.Context(), writer, largeState(4, size)))
	}
	require.NoError(t, readOneMoment(t.Context(), store, false))
	require.Equal(t, 1, split)
}

// Writers write over an equal timestamp too: what was read before such a write
// is not put together with what was read after it.
func TestLargeReadIsWrittenWithTheSameTime(t *testing.T) {
	server := redistest.Start(t)
	writer := newStoreOf(server)
	var between func()
	client := redis.NewClient(splitOptions(server, &between))
	defer func() { require.NoError(t, client.Close()) }()
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
	state := func(n float64) {
		s := largeState(2, 64<<10)
		*s.Records[0].Definition.UsageLimit, s.Records[0].Usage.Current = n, n
		require.NoError(t, write(t.Context(), writer, s))
	}
	state(1)
	var r cache.Reading
	require.NoError(t, store.Read(t.Context(), numberedKey, meter, true, &r))
	split := 0
	between = func() { split++; state(2) }
	require.NoError(t, store.Read(t.Context(), numberedKey, meter, true, &r))
	require.Equal(t, 1, split)
	require.Equal(t, *r.Facts.Definition.UsageLimit, r.Facts.Usage.Current)
}

// A value that has become too large to be remembered is read as one that is
// not known: not into memory that is too small, which costs a connection.
func TestOutgrownValueCostsNoConnections(t *testing.T) {
	server := redistest.Start(t)
	var dials atomic.Int32
	options := server.Options()
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
	var r cache.Reading
	for n, size := range []int{64 << 10, 5 << 20} {
		require.NoError(t, write(t.Context(), newStoreOf(server), largeState(int64(n), size)))
		require.NoError(t, store.Read(t.Context(), numberedKey, meter, true, &r))
	}
	before := dials.Load()
	for range 20 {
		require.NoError(t, store.Read(t.Context(), numberedKey, meter, true, &r))
		require.Zero(t, r.Faults)
	}
	require.LessOrEqual(t, dials.Load()-before, int32(1))
}

// splitOptions are those of a client whose connections send a GET by itself,
// after what between does.
func splitOptions(server *redistest.Server, between *func()) *redis.Options {
	options := server.Options()
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &splitConn{Conn: conn, at: []byte("*2\r\n$3\r\nget\r\n"), between: between}, err
	}
	return options
}

// splitConn sends what begins with at by itself, and calls between before it.
type splitConn struct {
	net.Conn
	at      []byte
	between *func()
}

func (c *splitConn) Write(p []byte) (int, error) {
	i := bytes.Index(p, c.at)
	if i <= 0 || *c.between == nil {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:i])
	if err != nil {
		return n, err
	}
	time.Sleep(50 * time.Millisecond) // for Redis to do what it has
	(*c.between)()
	m, err := c.Conn.Write(p[i:])
	return n + m, err
}

// A large value that has become anything else is read as it is.
func TestLargeValueBecomesAnother(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	ctx := t.Context()
	const size = 64 << 10
	k := numberedKey
	value := cache.ValueKey("lab", k)
	for name, c := range map[string]struct {
		change func() error
		check  func(r cache.Reading)
	}{
		"the same": {
			func() error { return nil },
			func(r cache.Reading) { require.Len(t, r.Facts.Definition.Feature.Description, size) },
		},
		"somewhat longer": {
			func() error { return write(ctx, newStoreOf(server), largeState(3, size+500)) },
			func(r cache.Reading) { require.Len(t, r.Facts.Definition.Feature.Description, size+500) },
		},
		"much longer": {
			func() error { return write(ctx, newStoreOf(server), largeState(3, 4*size)) },
			func(r cache.Reading) { require.Len(t, r.Facts.Definition.Feature.Description, 4*size) },
		},
		"short": {
			func() error { return write(ctx, newStoreOf(server), largeState(3, 5)) },
			func(r cache.Reading) { require.Len(t, r.Facts.Definition.Feature.Description, 5) },
		},
		"absent": {
			func() error { return client.Del(ctx, value).Err() },
			func(r cache.Reading) { require.Equal(t, cache.ValueAbsent, r.Faults) },
		},
		"a list": {
			func() error {
				return client.Eval(ctx, `redis.call("del", KEYS[1]) return redis.call("rpush", KEYS[1], "x")`, []string{value}).Err()
			},
			func(r cache.Reading) { require.Equal(t, cache.ValueAbsent, r.Faults) },
		},
		"no JSON": {
			func() error { return client.Set(ctx, value, strings.Repeat("x", size), 0).Err() },
			func(r cache.Reading) { require.Equal(t, cache.ValueUnreadable, r.Faults) },
		},
		"without a timestamp": {
			func() error { return client.Del(ctx, cache.TimestampKey(value)).Err() },
			func(r cache.Reading) { require.Equal(t, cache.TimestampAbsent, r.Faults) },
		},
	} {
		server.FlushAll()
		store := newStoreOf(server)
		require.NoError(t, write(ctx, store, largeState(2, size)), name)
		var r cache.Reading
		require.NoError(t, store.Read(ctx, k, meter, true, &r), name)
		require.Zero(t, r.Faults, name)
		require.NoError(t, c.change(), name)
		for range 2 {
			require.NoError(t, store.Read(ctx, k, meter, true, &r), name)
			c.check(r)
		}
	}
}

func newStoreOf(server *redistest.Server) *cache.Store {
	return cache.NewStore(cache.Options{Client: server.Client(), Prefix: "lab"})
}

func write(ctx context.Context, s *cache.Store, state entitlements.State) error {
	_, err := s.WriteState(ctx, numberedKey, state, cache.WriteOptions{})
	return err
}
