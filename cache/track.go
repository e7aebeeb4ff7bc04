package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Tracker hears of every change of the cached customers, from Redis itself
// (CLIENT TRACKING in broadcasting mode, Redis 6 and later), over one
// connection that lives as long as the Tracker, and tells a Memory.
//
// When the connection is lost, or silent for longer than trackSilence, the
// memory is told that changes may be missed, until the connection stands
// again. A connection that is cut by a network that does not say so is noticed
// by its silence: that is the longest that a change can stay unheard.
type Tracker struct {
	options *redis.Options
	prefix  string
	memory  *Memory
	log     func(connected bool, err error)

	cancel context.CancelFunc
	done   chan struct{}
}

const (
	// trackPing is how often the server is asked for a sign of life.
	trackPing = 250 * time.Millisecond
	// trackSilence is how long the connection may be silent.
	trackSilence = 4 * trackPing
	// Pauses between two tries to connect grow from the first to the longest.
	trackFirstPause   = 50 * time.Millisecond
	trackLongestPause = time.Second
	// trackUnable is the pause after the server has said that it cannot track.
	trackUnable = time.Minute
)

// ErrCannotTrack says that this Redis does not tell of changes: it is too old,
// or a Cluster, of which no single connection hears everything, or the user
// may not ask.
var ErrCannotTrack = errors.New("redis cannot track changes here")

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
	dialCtx, cancel := context.WithTimeout(ctx, t.options.DialTimeout)
	conn, err := t.options.Dialer(dialCtx, t.options.Network, t.options.Addr)
	cancel()
	if err != nil {
		return err
	}
	// Everything that is read under this connection has a deadline, so that
	// Close and a silent server end it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()

	r := bufio.NewReaderSize(conn, 16<<10)
	if err := t.turnOn(ctx, conn, r); err != nil {
		return err
	}
	t.memory.Tracked()
	defer t.memory.Untracked()
	if t.log != nil {
		t.log(true, nil)
	}
	pinging := make(chan struct{})
	pingCtx, stopPinging := context.WithCancel(ctx)
	go func() {
		defer close(pinging)
		t.keepPinging(pingCtx, conn)
	}()
	defer func() {
		stopPinging()
		<-pinging
	}()
	return t.hear(conn, r)
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
		if err := conn.SetDeadline(time.Now().Add(trackSilence)); err != nil {
			return err
		}
		if _, err := conn.Write(appendCommand(nil, command...)); err != nil {
			return err
		}
		reply, err := readResp(r, 0)
		for ; err == nil; reply, err = readResp(r, 0) {
			if _, push := reply.(respPush); !push {
				break
			}
		}
		if err != nil {
			return err
		}
		if refused, ok := reply.(respError); ok {
			return refusal(command[0], refused)
		}
	}
	return nil
}

// refusal tells a server that cannot track from one that cannot right now.
func refusal(command string, reply respError) error {
	for _, passing := range []string{"LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "WRONGPASS", "NOAUTH"} {
		if strings.HasPrefix(string(reply), passing) {
			return fmt.Errorf("%s: %w", command, reply)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrCannotTrack, command, reply)
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

// keepPinging asks for signs of life, so that silence means something.
func (t *Tracker) keepPinging(ctx context.Context, conn net.Conn) {
	ping := appendCommand(nil, "PING")
	tick := time.NewTicker(trackPing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if conn.SetWriteDeadline(time.Now().Add(trackSilence)) != nil {
			return
		}
		if _, err := conn.Write(ping); err != nil {
			_ = conn.Close() // ends hear
			return
		}
	}
}

// hear reads until the connection is lost.
func (t *Tracker) hear(conn net.Conn, r *bufio.Reader) error {
	for {
		if err := conn.SetReadDeadline(time.Now().Add(trackSilence)); err != nil {
			return err
		}
		message, err := readResp(r, 0)
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case respPush:
			t.changed(m)
		case respError:
			return m
		}
	}
}

// changed passes on a push, if it is an invalidation: names of keys, or a null
// if all keys were deleted at once.
func (t *Tracker) changed(push respPush) {
	if len(push) != 2 || push[0] != "invalidate" {
		return
	}
	keys, ok := push[1].([]any)
	if !ok {
		t.memory.Doubt()
		return
	}
	for _, k := range keys {
		if name, ok := k.(string); ok && strings.HasPrefix(name, t.prefix) {
			t.memory.Changed(name[len(t.prefix):])
		}
	}
}

// Close ends the Tracker. The memory is not trusted any more.
func (t *Tracker) Close() {
	t.cancel()
	<-t.done
}
