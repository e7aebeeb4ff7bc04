package faultproxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/faultproxy"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// silence is how long a test waits for an answer that must not come.
const silence = 60 * time.Millisecond

// peer is a bare connection, so that a test sees what the network does and not
// what a client library makes of it.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, addr string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (p *peer) send(command string) {
	p.t.Helper()
	_, err := io.WriteString(p.conn, command+"\r\n")
	require.NoError(p.t, err)
}

func (p *peer) line(patience time.Duration) (string, error) {
	p.t.Helper()
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(patience)))
	s, err := p.r.ReadString('\n')
	return strings.TrimSuffix(s, "\r\n"), err
}

// answers requires that a PING is answered.
func (p *peer) answers() {
	p.t.Helper()
	p.send("PING")
	got, err := p.line(5 * time.Second)
	require.NoError(p.t, err)
	require.Equal(p.t, "+PONG", got)
}

// silent requires that nothing arrives and that the connection stays open.
func (p *peer) silent() {
	p.t.Helper()
	got, err := p.line(silence)
	require.ErrorIs(p.t, err, os.ErrDeadlineExceeded, got)
}

func start(t *testing.T) (*redistest.Server, *faultproxy.Proxy) {
	t.Helper()
	s := redistest.Start(t)
	return s, faultproxy.New(t, s.Addr())
}

func TestPassAndStats(t *testing.T) {
	_, proxy := start(t)
	a, b := dial(t, proxy.Addr()), dial(t, proxy.Addr())
	a.answers()
	b.answers()
	b.answers()
	require.Equal(t, faultproxy.Stats{
		Accepted: 2, Open: 2,
		RequestBytes: int64(3 * len("PING\r\n")),
		ReplyBytes:   int64(3 * len("+PONG\r\n")),
	}, proxy.Stats())

	require.NoError(t, a.conn.Close())
	require.Eventually(t, func() bool { return proxy.Stats().Open == 1 }, 5*time.Second, time.Millisecond)
	require.Equal(t, 2, proxy.Stats().Accepted)
}

func TestLargeValuesAndPipelinesArriveWhole(t *testing.T) {
	s, proxy := start(t)
	o := s.Options()
	o.Addr = proxy.Addr()
	c := redis.NewClient(o)
	defer func() { require.NoError(t, c.Close()) }()
	for _, latency := range []time.Duration{0, 3 * time.Millisecond} {
		proxy.Latency(faultproxy.Both, latency)
		value := strings.Repeat("0123456789", 500_000)
		require.NoError(t, c.Set(t.Context(), "k", value, 0).Err())
		require.True(t, value == c.Get(t.Context(), "k").Val(), "latency %v", latency)
	}
}

func TestServerClosingIsPassedOn(t *testing.T) {
	s, proxy := start(t)
	p := dial(t, proxy.Addr())
	p.send("QUIT")
	got, err := p.line(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "+OK", got, "the last reply is delivered")
	_, err = p.line(5 * time.Second)
	require.ErrorIs(t, err, io.EOF)

	s.Kill()
	conn, err := net.Dial("tcp", proxy.Addr())
	if err == nil { // the reset can be faster than the dial
		_, err = conn.Read(make([]byte, 1))
		require.NoError(t, conn.Close())
	}
	require.ErrorIs(t, err, syscall.ECONNRESET, "no server behind the proxy")
}

func TestRefuse(t *testing.T) {
	_, proxy := start(t)
	open := dial(t, proxy.Addr())
	open.answers()
	for range 3 {
		addr := proxy.Addr()
		proxy.Refuse()
		proxy.Refuse() // refused already
		_, err := net.Dial("tcp", addr)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		open.answers()

		proxy.Pass()
		require.Equal(t, addr, proxy.Addr())
		dial(t, addr).answers()
	}
}

func TestDownResetsAndRefuses(t *testing.T) {
	_, proxy := start(t)
	open := dial(t, proxy.Addr())
	open.answers()
	proxy.Down()
	_, err := open.line(5 * time.Second)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = net.Dial("tcp", proxy.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	proxy.Pass()
	dial(t, proxy.Addr()).answers()
}

func TestResetAllLeavesNewConnectionsAlone(t *testing.T) {
	_, proxy := start(t)
	open := dial(t, proxy.Addr())
	open.answers()
	proxy.ResetAll()
	_, err := open.line(5 * time.Second)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	dial(t, proxy.Addr()).answers()
}

func TestBlackhole(t *testing.T) {
	_, proxy := start(t)
	spoken, idle := dial(t, proxy.Addr()), dial(t, proxy.Addr())
	spoken.answers()
	idle.answers()

	proxy.Blackhole(faultproxy.Both)
	before := proxy.Stats()
	fresh := dial(t, proxy.Addr())
	for _, p := range []*peer{spoken, fresh} {
		p.send("PING")
		p.silent()
	}
	require.Equal(t, before.RequestBytes, proxy.Stats().RequestBytes, "nothing reached the server")
	require.Equal(t, before.Accepted+1, proxy.Stats().Accepted)

	proxy.Pass()
	for _, p := range []*peer{spoken, fresh} {
		p.send("PING")
		p.silent() // bytes are missing from this stream for ever
	}
	idle.answers()
	dial(t, proxy.Addr()).answers()
}

func TestBlackholeOfRepliesLetsRequestsThrough(t *testing.T) {
	s, proxy := start(t)
	p := dial(t, proxy.Addr())
	p.answers()
	proxy.Blackhole(faultproxy.Replies)
	p.send("SET k v")
	p.silent()
	require.Equal(t, "v", s.Client().Get(t.Context(), "k").Val())
}

func TestStallDeliversLater(t *testing.T) {
	for name, way := range map[string]faultproxy.Direction{
		"requests": faultproxy.Requests, "replies": faultproxy.Replies, "both": faultproxy.Both,
	} {
		t.Run(name, func(t *testing.T) {
			s, proxy := start(t)
			p := dial(t, proxy.Addr())
			p.answers()
			proxy.Stall(way)
			p.send("SET k v")
			p.silent()
			require.Equal(t, way == faultproxy.Replies, s.Client().Get(t.Context(), "k").Val() == "v")

			proxy.Pass()
			got, err := p.line(5 * time.Second)
			require.NoError(t, err)
			require.Equal(t, "+OK", got)
			p.answers()
		})
	}
}

func TestLatency(t *testing.T) {
	_, proxy := start(t)
	p := dial(t, proxy.Addr())
	p.answers()
	const delay = 40 * time.Millisecond
	for way, want := range map[faultproxy.Direction]time.Duration{
		faultproxy.Requests: delay, faultproxy.Replies: delay, faultproxy.Both: 2 * delay,
	} {
		proxy.Latency(way, delay)
		began := time.Now()
		p.answers()
		require.GreaterOrEqual(t, time.Since(began), want)
		proxy.Latency(way, 0)
	}
	// The fastest of some: a busy machine makes single ones slow.
	fastest := time.Hour
	for range 10 {
		began := time.Now()
		p.answers()
		fastest = min(fastest, time.Since(began))
	}
	require.Less(t, fastest, delay, "the delay has ended")
}

// Delay is not a limit of the rate: what is sent together arrives together.
func TestLatencyOverlaps(t *testing.T) {
	_, proxy := start(t)
	p := dial(t, proxy.Addr())
	p.answers()
	const delay, pings = 100 * time.Millisecond, 20
	proxy.Latency(faultproxy.Requests, delay)
	began := time.Now()
	for range pings {
		p.send("PING")
		time.Sleep(time.Millisecond)
	}
	for range pings {
		_, err := p.line(5 * time.Second)
		require.NoError(t, err)
	}
	require.Less(t, time.Since(began), pings*delay/2)
}

func TestCutAfterDiesInMidReply(t *testing.T) {
	s, proxy := start(t)
	require.NoError(t, s.Client().Set(t.Context(), "k", strings.Repeat("x", 100_000), 0).Err())
	open := dial(t, proxy.Addr())
	open.answers()

	proxy.CutAfter(50_000)
	for range 2 { // every connection, not only the first
		for _, p := range []*peer{open, dial(t, proxy.Addr())} {
			p.send("GET k")
			require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(5*time.Second)))
			got, err := io.ReadAll(p.r)
			require.NoError(t, err)
			require.Len(t, got, 50_000)
		}
		open = dial(t, proxy.Addr())
	}
	proxy.Pass()
	dial(t, proxy.Addr()).answers()
}

func TestCorrupt(t *testing.T) {
	_, proxy := start(t)
	p := dial(t, proxy.Addr())
	p.answers()
	proxy.Corrupt(3)
	p.send("PING")
	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	got := make([]byte, len("+PONG\r\n"))
	_, err := io.ReadFull(p.r, got)
	require.NoError(t, err)
	require.Equal(t, "+P\xcfNG\x8d\n", string(got))

	proxy.Pass()
	p.answers()
}

func TestFaultsChangeUnderLoad(t *testing.T) {
	s, proxy := start(t)
	o := s.Options()
	o.Addr = proxy.Addr()
	o.ReadTimeout, o.DialTimeout, o.MaxRetries = 20*time.Millisecond, 20*time.Millisecond, -1
	c := redis.NewClient(o)
	defer func() { require.NoError(t, c.Close()) }()

	stop, done := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for stop.Err() == nil {
				// Whatever comes is right, but another's value.
				if v, err := c.Echo(t.Context(), "hello").Result(); err == nil && v != "hello" {
					t.Errorf("got %q", v)
				}
			}
		})
	}
	for range 3 {
		for _, fault := range []func(){
			proxy.Down,
			func() { proxy.Blackhole(faultproxy.Both) },
			func() { proxy.Stall(faultproxy.Replies) },
			func() { proxy.Latency(faultproxy.Both, time.Millisecond) },
			func() { proxy.CutAfter(100) },
			proxy.ResetAll,
		} {
			fault()
			time.Sleep(5 * time.Millisecond)
			proxy.Pass()
			time.Sleep(5 * time.Millisecond)
		}
	}
	done()
	wg.Wait()
	require.Eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil }, 5*time.Second, time.Millisecond)
}

// TestPassAfterTheEnd: a timer of a test that ends late does not open the proxy
// again. TestMain would find it.
func TestPassAfterTheEnd(t *testing.T) {
	var p *faultproxy.Proxy
	t.Run("", func(t *testing.T) { p = faultproxy.New(t, "127.0.0.1:1") })
	p.Pass()
	require.Zero(t, p.Stats().Open)
}
