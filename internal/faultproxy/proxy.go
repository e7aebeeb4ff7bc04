package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stiggio/server-sdk-go/internal/redistest/port"
)

const (
	dialTimeout = 2 * time.Second
	portTries   = 20
)

// Proxy is a TCP proxy in front of one server. It starts without faults. Its
// methods may be called at any time and from any goroutine; those that open the
// listener fail the test if they cannot, so they belong in the test's own.
type Proxy struct {
	t      testing.TB
	addr   string
	target string
	faults *faults

	accepted     atomic.Int64
	requestBytes atomic.Int64
	replyBytes   atomic.Int64

	switching sync.Mutex // one opening or closing of the listener at a time
	closed    bool       // it is not opened any more; guarded by switching

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}

	acceptors sync.WaitGroup
	streams   sync.WaitGroup
}

// Stats are numbers since the proxy's start.
type Stats struct {
	// Accepted counts the connections accepted from clients.
	Accepted int
	// Open is the number of connections open now.
	Open int
	// RequestBytes and ReplyBytes count the bytes delivered to the server and
	// to clients.
	RequestBytes, ReplyBytes int64
}

// New starts a proxy on a free port of 127.0.0.1 in front of the server at
// target, a "host:port". It is closed when the test ends.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, target: target, faults: newFaults(), links: map[*link]struct{}{}}
	var err error
	for range portTries {
		var free int
		if free, err = port.Free(); err != nil {
			break
		}
		p.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(free))
		if err = p.open(); err == nil {
			t.Cleanup(p.close)
			return p
		}
	}
	t.Fatal(err)
	return nil
}

// Addr returns the proxy's "host:port"; it never changes.
func (p *Proxy) Addr() string { return p.addr }

// Stats returns what has gone through the proxy.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	open := len(p.links)
	p.mu.Unlock()
	return Stats{
		Accepted:     int(p.accepted.Load()),
		Open:         open,
		RequestBytes: p.requestBytes.Load(),
		ReplyBytes:   p.replyBytes.Load(),
	}
}

// Pass ends all faults: connections are accepted, bytes go through. What
// [Proxy.Stall] held back is delivered; a connection that has lost bytes to
// [Proxy.Blackhole] stays silent until it is closed.
func (p *Proxy) Pass() {
	p.t.Helper()
	p.faults.set(Both, func(l *lane) { *l = lane{} })
	if err := p.open(); err != nil {
		p.t.Fatal(err)
	}
}

// Refuse closes the listener: new connections are refused, until
// [Proxy.Pass]. Open connections go on.
func (p *Proxy) Refuse() {
	p.switching.Lock()
	defer p.switching.Unlock()
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l == nil {
		return
	}
	if err := l.Close(); err != nil {
		p.t.Errorf("faultproxy: close listener: %v", err)
	}
	p.acceptors.Wait()
}

// Down is what clients see of a server that crashed: open connections are
// reset and new ones refused, until [Proxy.Pass].
func (p *Proxy) Down() {
	p.Refuse()
	p.ResetAll()
}

// ResetAll resets the connections that are open now. New ones are accepted.
func (p *Proxy) ResetAll() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.end(true)
	}
}

// Blackhole swallows what travels in the given directions, on open and on new
// connections, which are accepted: nobody is told anything. Requests go
// unanswered; with [Replies] alone, the server carries them out all the same.
func (p *Proxy) Blackhole(d Direction) {
	p.faults.set(d, func(l *lane) { l.drop = true })
}

// Stall holds back what travels in the given directions until [Proxy.Pass].
func (p *Proxy) Stall(d Direction) {
	p.faults.set(d, func(l *lane) { l.hold = true })
}

// Latency delays what is sent from now on in the given directions, each way by
// the given time, without limiting the rate; 0 ends it.
func (p *Proxy) Latency(d Direction, delay time.Duration) {
	p.faults.set(d, func(l *lane) { l.latency = delay })
}

// CutAfter closes each connection once n bytes of replies have gone through it,
// counted from now or from its start, until [Proxy.Pass]. A new connection's
// handshake counts as well.
func (p *Proxy) CutAfter(n int) {
	p.faults.set(Replies, func(l *lane) { l.cut = &counter{max(n, 0)} })
}

// Corrupt flips the highest bit of every nth byte of each connection's replies,
// counted from now or from its start, until [Proxy.Pass]; 1 spoils them all.
// A new connection's handshake is spoilt as well.
func (p *Proxy) Corrupt(n int) {
	p.faults.set(Replies, func(l *lane) { l.corrupt = &counter{max(n, 1)} })
}

// open starts to listen, unless the proxy does, or has been closed: a Pass that
// a timer brings can come after the test's end.
func (p *Proxy) open() error {
	p.switching.Lock()
	defer p.switching.Unlock()
	p.mu.Lock()
	listening := p.listener != nil
	p.mu.Unlock()
	if listening || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.acceptors.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.t.Errorf("faultproxy: accept: %v", err)
			return
		}
		p.accepted.Add(1)
		link := &link{client: conn, done: make(chan struct{})}
		p.mu.Lock()
		p.links[link] = struct{}{}
		p.mu.Unlock()
		p.streams.Go(func() {
			p.serve(link)
			link.end(false)
			p.mu.Lock()
			delete(p.links, link)
			p.mu.Unlock()
		})
	}
}

// serve carries a connection's bytes both ways until it ends.
func (p *Proxy) serve(l *link) {
	if requests, _ := p.faults.get(Requests); requests.drop {
		l.swallow()
		return
	}
	server, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil || !l.attach(server) {
		// A server that is not there is a reset to the client.
		l.end(true)
		return
	}
	var replies sync.WaitGroup
	replies.Go(func() {
		(&stream{link: l, from: server, to: l.client, way: Replies, faults: p.faults, bytes: &p.replyBytes}).run()
	})
	(&stream{link: l, from: l.client, to: server, way: Requests, faults: p.faults, bytes: &p.requestBytes}).run()
	replies.Wait()
}

// close ends the proxy and all its connections.
func (p *Proxy) close() {
	p.switching.Lock()
	p.closed = true
	p.switching.Unlock()
	p.Refuse()
	p.ResetAll()
	p.streams.Wait()
}
