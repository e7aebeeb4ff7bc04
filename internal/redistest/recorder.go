package redistest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	syncTimeout  = 5 * time.Second
	markerPrefix = "redistest:marker:"
)

// Recorder keeps every command that a server carries out, in order, in the way
// of the MONITOR command. What it returns is exact: each method first waits
// until everything that the server has carried out so far has been recorded.
// Commands that carry passwords (AUTH, HELLO with credentials) are never shown
// by the server.
//
// A recorder ends when its server does; then it keeps what it has.
type Recorder struct {
	t       testing.TB
	monitor net.Conn
	marker  *wire
	id      string // makes this recorder's markers its own
	done    chan struct{}

	syncing sync.Mutex // one marker at a time

	mu       sync.Mutex
	commands []Command
	sent     int           // number of the latest marker
	seen     int           // number of the latest marker that came back
	changed  chan struct{} // closed and replaced when seen changes
	err      error         // why recording ended
}

// Monitor starts to record the commands that the server at addr carries out,
// until the test ends. The server has neither password nor TLS; for those that
// do there is [Server.Monitor].
func Monitor(t testing.TB, addr string) *Recorder {
	t.Helper()
	return record(t, addr, nil, "", "")
}

// Monitor starts to record the commands that the server carries out, until the
// test or the server ends.
func (s *Server) Monitor() *Recorder {
	s.t.Helper()
	return record(s.t, s.Addr(), s.TLSConfig(), s.settings.username, s.settings.password)
}

func record(t testing.TB, addr string, config *tls.Config, username, password string) *Recorder {
	t.Helper()
	marker, err := dialWire(addr, config, username, password)
	if err != nil {
		t.Fatal(err)
	}
	monitor, err := dialWire(addr, config, username, password)
	if err == nil {
		_, err = monitor.do("MONITOR")
	}
	if err != nil {
		t.Fatal(errors.Join(err, marker.conn.Close()))
	}
	r := &Recorder{
		t:       t,
		monitor: monitor.conn,
		marker:  marker,
		id:      markerPrefix + marker.conn.LocalAddr().String() + ":",
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	go r.read(monitor.reader)
	t.Cleanup(func() {
		// The server may have closed them first.
		_ = r.monitor.Close()
		_ = r.marker.conn.Close()
		<-r.done
	})
	return r
}

// Sync waits until everything that the server has carried out so far has been
// recorded. It fails the test if the server does not answer within 5 s, unless
// it has closed the connection.
func (r *Recorder) Sync() {
	r.t.Helper()
	r.syncing.Lock()
	defer r.syncing.Unlock()
	r.mu.Lock()
	r.sent++
	number, ended := r.sent, r.err != nil
	r.mu.Unlock()
	if ended {
		return
	}

	timeout := time.NewTimer(syncTimeout)
	defer timeout.Stop()
	if _, err := r.marker.do("ECHO", r.id+strconv.Itoa(number)); err != nil {
		// A server that dies closes both connections.
		select {
		case <-r.done:
		case <-timeout.C:
			r.t.Fatalf("recorder: send marker: %v", err)
		}
		return
	}
	for {
		r.mu.Lock()
		seen, changed := r.seen, r.changed
		r.mu.Unlock()
		if seen >= number {
			return
		}
		select {
		case <-changed:
		case <-r.done:
			return
		case <-timeout.C:
			r.t.Fatalf("recorder: marker did not come back within %v", syncTimeout)
		}
	}
}

// Commands returns everything recorded since the start or the last
// [Recorder.Reset], in the order in which the server carried it out: handshakes
// and the commands of Lua scripts included.
func (r *Recorder) Commands() []Command {
	r.t.Helper()
	r.Sync()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands)
}

// Calls returns what clients sent on purpose: [Recorder.Commands] without
// handshakes and without what Lua scripts did.
func (r *Recorder) Calls() []Command {
	r.t.Helper()
	return slices.DeleteFunc(r.Commands(), func(c Command) bool { return c.Lua || c.Handshake() })
}

// Count returns the number of [Recorder.Calls]; with names, of those commands
// only, whatever their case.
func (r *Recorder) Count(names ...string) int {
	r.t.Helper()
	calls := r.Calls()
	if len(names) == 0 {
		return len(calls)
	}
	n := 0
	for _, c := range calls {
		if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, c.Name()) }) {
			n++
		}
	}
	return n
}

// Reset forgets everything that the server has carried out so far.
func (r *Recorder) Reset() {
	r.t.Helper()
	r.Sync()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands = nil
}

// read records until the connection ends.
func (r *Recorder) read(reader *bufio.Reader) {
	defer close(r.done)
	for {
		line, err := reader.ReadString('\n')
		if err == nil {
			err = r.add(strings.TrimSuffix(strings.TrimPrefix(line, "+"), "\r\n"))
		}
		if err != nil {
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
			return
		}
	}
}

func (r *Recorder) add(line string) error {
	c, err := parseCommand(line)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(c.Args) == 2 && c.Name() == "ECHO" && strings.HasPrefix(c.Args[1], markerPrefix) {
		if number, ours := strings.CutPrefix(c.Args[1], r.id); ours {
			if r.seen, err = strconv.Atoi(number); err != nil {
				return fmt.Errorf("marker: %w", err)
			}
			close(r.changed)
			r.changed = make(chan struct{})
		}
		return nil
	}
	r.commands = append(r.commands, c)
	return nil
}

// wire is a bare connection to a server: what a recorder sends has to be known
// to the last command.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dialWire(addr string, config *tls.Config, username, password string) (*wire, error) {
	conn, err := net.DialTimeout("tcp", addr, syncTimeout)
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	if config != nil {
		if config.ServerName == "" {
			config.ServerName = host
		}
		conn = tls.Client(conn, config)
	}
	w := &wire{conn: conn, reader: bufio.NewReader(conn)}
	switch {
	case username != "":
		_, err = w.do("AUTH", username, password)
	case password != "":
		_, err = w.do("AUTH", password)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

// do sends a command and reads its answer: a status or a bulk string.
func (w *wire) do(args ...string) (string, error) {
	if err := w.conn.SetDeadline(time.Now().Add(syncTimeout)); err != nil {
		return "", fmt.Errorf("recorder: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w.conn, b.String()); err != nil {
		return "", fmt.Errorf("recorder: %w", err)
	}
	answer, err := w.reader.ReadString('\n')
	if err == nil && strings.HasPrefix(answer, "$") {
		answer, err = w.reader.ReadString('\n')
	}
	if err == nil {
		err = w.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return "", fmt.Errorf("recorder: %w", err)
	}
	answer = strings.TrimSuffix(answer, "\r\n")
	if strings.HasPrefix(answer, "-") {
		return "", fmt.Errorf("recorder: %s: %s", args[0], answer[1:])
	}
	return answer, nil
}
