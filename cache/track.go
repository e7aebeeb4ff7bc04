package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Tracker hears of every change of the cached customers, from Redis itself
// (CLIENT TRACKING in broadcasting mode, Redis 6 and later), over one
// connection that lives as long as the Tracker, and tells a Memory.
//
// What can go wrong, and what happens; in every case the memory is told that
// changes may be missed, until the connection stands again:
//
//   - the connection is lost, or Redis ends it: it is made anew;
//   - a network that is cut does not say so: nothing is heard for
//     trackSilence, which is the longest that a change can stay unheard;
//   - the server becomes a replica: it says so when it is next asked, within
//     trackAsk, and the primary is looked for;
//   - it is found at another address: connections on which values are read may
//     still be to the former primary, which follows the new one. What is read
//     there after a change was heard of can be from before it. So nothing is
//     trusted until those connections have lived out their time. Behind Sentinel
//     go-redis has closed them;
//   - a primary that Sentinel has given up is still within reach: Sentinel is
//     asked for the primary every trackPrimary;
//   - very many keys change at once: the connection is made anew, and
//     everything revalidated;
//   - this Redis, or this user, cannot track: it is tried again every
//     trackUnable.
type Tracker struct {
	options *redis.Options
	prefix  string
	memory  *Memory
	log     func(connected bool, err error)

	// Of run's goroutine alone.
	primary string    // the address at which the primary was last found
	demoted bool      // that server has become a replica since
	moved   time.Time // when the primary was last found elsewhere; zero: that is over

	cancel context.CancelFunc
	done   chan struct{}
}

const (
	// trackAsk is how often the server is asked for a sign of life.
	trackAsk = 250 * time.Millisecond
	// trackSilence is how long the connection may be silent.
	trackSilence = 4 * trackAsk
	// trackPrimary is how often Sentinel is asked where the primary is.
	trackPrimary = 2 * time.Second
	// Pauses between two tries to connect grow from the first to the longest.
	trackFirstPause   = 50 * time.Millisecond
	trackLongestPause = time.Second
	// trackUnable is the pause after the server has said that it cannot track.
	trackUnable = time.Minute
	// behindSentinel is the address of a go-redis client that asks Sentinel.
	behindSentinel = "FailoverClient"
)

// ErrCannotTrack says that this Redis does not tell of changes: it is too old,
// or a Cluster, of which no single connection hears everything, or the user
// may not ask.
var ErrCannotTrack = errors.New("redis cannot track changes here")

var (
	errReplica = errors.New("the server is a replica")
	errMoved   = errors.New("the primary is another server")
	errBehind  = errors.New("the primary is another server, and values may still be read from the former one")
)

// NewTracker makes a Tracker of the store's Redis and starts it. log, if not
// nil, is told when the connection is made and lost. Close the Tracker.
func (s *Store) NewTracker(m *Memory, log func(connected bool, err error)) (*Tracker, error) {
	client, ok := s.client.(*redis.Client)
	if !ok {
		return nil, ErrCannotTrack
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Tracker{
		options: client.Options(), prefix: s.prefix + ":c_", memory: m, log: log,
		cancel: cancel, done: make(chan struct{}),
	}
	go t.run(ctx)
	return t, nil
}

func (t *Tracker) run(ctx context.Context) {
	defer close(t.done)
	pause := trackFirstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := t.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if t.log != nil {
			t.log(false, err)
		}
		if errors.Is(err, errReplica) {
			t.demoted = true
		}
		switch {
		case errors.Is(err, ErrCannotTrack):
			pause = trackUnable
		case time.Since(began) > trackLongestPause:
			pause = trackFirstPause
		default:
			pause = min(2*pause, trackLongestPause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listen connects, turns tracking on, and hears changes until the connection
// is lost.
func (t *Tracker) listen(ctx context.Context) error {
	conn, err := t.dial(ctx)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var helpers sync.WaitGroup
	defer func() {
		end(nil)
		if stop() {
			_ = conn.Close()
		}
		helpers.Wait()
	}()

	heard := &hearing{conn: conn, memory: t.memory}
	r := bufio.NewReaderSize(heard, 16<<10)
	if err := t.turnOn(ctx, conn, r); err != nil {
		return err
	}
	if t.mayBeBehind(conn.RemoteAddr().String(), time.Now()) {
		return errBehind
	}
	t.memory.Tracked(heard.now)
	if t.log != nil {
		t.log(true, nil)
	}
	helpers.Go(func() { end(t.keepAsking(ctx, conn)) })
	if t.options.Addr == behindSentinel {
		helpers.Go(func() { end(t.watchPrimary(ctx, conn.RemoteAddr().String())) })
	}
	err = t.hear(r)
	t.memory.Untracked(heard.last)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// mayBeBehind reports whether values may be read from a server that changes are
// not heard of from: from a former primary, over connections that were made
// before the primary was found at addr.
func (t *Tracker) mayBeBehind(addr string, now time.Time) bool {
	if t.demoted && t.primary != "" && t.primary != addr && t.options.Addr != behindSentinel {
		t.moved = now
	}
	t.primary, t.demoted = addr, false
	if t.moved.IsZero() {
		return false
	}
	life := t.options.ConnMaxLifetime + t.options.ConnMaxLifetimeJitter
	if life <= 0 || now.Sub(t.moved) < life {
		return true
	}
	t.moved = time.Time{}
	return false
}

func (t *Tracker) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.options.DialTimeout)
	defer cancel()
	return t.options.Dialer(ctx, t.options.Network, t.options.Addr)
}

// hearing is a connection on which something is heard at least every
// trackSilence.
type hearing struct {
	conn   net.Conn
	memory *Memory
	last   time.Time // when something was last read
}

func (h *hearing) Read(p []byte) (int, error) {
	until := time.Now().Add(trackSilence)
	for {
		if err := h.conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
		h.memory.awaited.Store(false)
		n, err := h.conn.Read(p)
		if n > 0 {
			h.last = time.Now()
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(until) {
			return 0, err
		}
		// It was woken up by now.
	}
}

// now has what has arrived read at once, by making the read that waits look
// again: else a goroutine that waits for a connection is not even noticed to be
// ready while all processors are busy.
func (h *hearing) now() {
	h.memory.awaited.Store(true)
	if h.conn.SetReadDeadline(time.Unix(1, 0)) != nil {
		h.memory.awaited.Store(false) // it is closed
		return
	}
	runtime.Gosched()
}

// turnOn logs in and asks to be told of changes.
func (t *Tracker) turnOn(ctx context.Context, conn net.Conn, r *bufio.Reader) error {
	username, password, err := t.credentials(ctx)
	if err != nil {
		return err
	}
	hello := []string{"HELLO", "3"}
	if password != "" {
		if username == "" {
			username = "default"
		}
		hello = append(hello, "AUTH", username, password)
	}
	for _, command := range [][]string{hello, {"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", t.prefix}} {
		if err := conn.SetWriteDeadline(time.Now().Add(trackSilence)); err != nil {
			return err
		}
		if _, err := conn.Write(appendCommand(nil, command...)); err != nil {
			return err
		}
		reply, err := readReply(r)
		if err != nil {
			return err
		}
		switch reply := reply.(type) {
		case respError:
			return refusal(command[0], reply)
		case []any:
			if isReplica(reply) {
				return errReplica
			}
		}
	}
	return nil
}

// refusal tells a server that cannot track from one that cannot right now.
func refusal(command string, reply respError) error {
	for _, unable := range []string{"NOPROTO", "NOPERM", "ERR unknown", "ERR Unknown", "ERR syntax", "ERR wrong number"} {
		if strings.HasPrefix(string(reply), unable) {
			return fmt.Errorf("%w: %s: %w", ErrCannotTrack, command, reply)
		}
	}
	return fmt.Errorf("%s: %w", command, reply)
}

// isReplica reports whether a reply to HELLO is that of a replica. The changes
// that it tells of are not those of another replica that is read from.
func isReplica(hello []any) bool {
	for i := 0; i+1 < len(hello); i += 2 {
		if hello[i] == "role" {
			return hello[i+1] == "replica" || hello[i+1] == "slave"
		}
	}
	return false
}

func (t *Tracker) credentials(ctx context.Context) (username, password string, err error) {
	switch o := t.options; {
	case o.CredentialsProviderContext != nil:
		return o.CredentialsProviderContext(ctx)
	case o.CredentialsProvider != nil:
		username, password = o.CredentialsProvider()
		return username, password, nil
	default:
		return o.Username, o.Password, nil
	}
}

// keepAsking asks for signs of life, so that silence means something, until
// that fails. It asks by HELLO, which tells what the server is, and which every
// user may send.
func (t *Tracker) keepAsking(ctx context.Context, conn net.Conn) error {
	hello := appendCommand(nil, "HELLO", "3")
	tick := time.NewTicker(trackAsk)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := conn.SetWriteDeadline(time.Now().Add(trackSilence)); err != nil {
			return err
		}
		if _, err := conn.Write(hello); err != nil {
			return err
		}
	}
}

// watchPrimary returns when Sentinel says that the primary is not at addr.
func (t *Tracker) watchPrimary(ctx context.Context, addr string) error {
	tick := time.NewTicker(trackPrimary)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		conn, err := t.dial(ctx)
		if err != nil {
			continue // nobody knows better
		}
		// A dialer may give a connection that fails at its first use.
		primary, connected := conn.RemoteAddr().(*net.TCPAddr)
		_ = conn.Close()
		if connected && primary.String() != addr {
			return errMoved
		}
	}
}

// hear reads until the connection is lost.
func (t *Tracker) hear(r *bufio.Reader) error {
	for {
		message, err := readResp(r)
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case respPush:
			t.changed(m, time.Now())
		case respError:
			return m
		case []any:
			if isReplica(m) {
				return errReplica
			}
		}
	}
}

// changed passes on a push, if it is an invalidation: names of keys, or a null
// if all keys were deleted at once.
func (t *Tracker) changed(push respPush, now time.Time) {
	if len(push) == 0 || push[0] != "invalidate" {
		return
	}
	keys, ok := push[len(push)-1].([]any)
	if !ok {
		t.memory.Doubt(now)
		return
	}
	for _, k := range keys {
		name, ok := k.(string)
		switch {
		case !ok:
			t.memory.Doubt(now)
		case strings.HasPrefix(name, t.prefix):
			t.memory.Changed(name[len(t.prefix):], now)
		}
	}
}

// Close ends the Tracker. The memory is not trusted any more.
func (t *Tracker) Close() {
	t.cancel()
	<-t.done
}
