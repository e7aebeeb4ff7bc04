package faultproxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	segmentSize = 32 << 10
	queueLength = 64 // segments under way, while delayed or held
	corruption  = 0x80
)

// segment is a piece of a stream under way.
type segment struct {
	data []byte
	due  time.Time
}

// link is one client's connection and the server's end of it.
type link struct {
	client net.Conn
	done   chan struct{} // closed when the link has ended

	mu     sync.Mutex
	server net.Conn // nil until there is one
	ended  bool
	reset  bool
}

// attach gives the link the server's end, and reports whether the link is still
// there to take it; else it has closed it.
func (l *link) attach(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		hangUp(server, l.reset)
		return false
	}
	l.server = server
	return true
}

// end closes both ends; with reset the peers see a connection reset instead of
// the end of the stream.
func (l *link) end(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended, l.reset = true, reset
	close(l.done)
	hangUp(l.client, reset)
	if l.server != nil {
		hangUp(l.server, reset)
	}
}

// hangUp closes a connection. That fails only on one that is dead already.
func hangUp(c net.Conn, reset bool) {
	if tcp, ok := c.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// swallow reads what the client sends and does nothing with it.
func (l *link) swallow() {
	buf := make([]byte, segmentSize)
	for {
		if _, err := l.client.Read(buf); err != nil {
			l.end(false)
			return
		}
	}
}

// stream carries the bytes of a link one way.
type stream struct {
	link   *link
	from   net.Conn
	to     net.Conn
	way    Direction
	faults *faults
	bytes  *atomic.Int64 // delivered, over all links

	// A stream that has lost bytes is lost for good: what follows would be
	// taken for something else. TCP, too, delivers everything or nothing.
	lost bool

	cut, corrupt             *counter // the faults that the counts below belong to
	cutPassed, corruptPassed int
}

// run carries bytes until the link ends. When one side closes, what it has sent
// is still delivered.
func (s *stream) run() {
	queue := make(chan segment, queueLength)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		s.read(queue)
	})
	for seg := range queue {
		if !s.deliver(seg) {
			break
		}
	}
	s.link.end(false)
	reader.Wait()
}

func (s *stream) read(queue chan<- segment) {
	for {
		buf := make([]byte, segmentSize)
		n, err := s.from.Read(buf)
		if n > 0 {
			l, _ := s.faults.get(s.way)
			select {
			case queue <- segment{data: buf[:n], due: time.Now().Add(l.latency)}:
			case <-s.link.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// deliver passes a segment on when its time has come, and reports whether the
// link goes on.
func (s *stream) deliver(seg segment) bool {
	if wait := time.Until(seg.due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.link.done:
			return false
		}
	}
	l, changed := s.faults.get(s.way)
	for l.hold && !l.drop && !s.lost {
		select {
		case <-changed:
		case <-s.link.done:
			return false
		}
		l, changed = s.faults.get(s.way)
	}
	if l.drop || s.lost {
		s.lost = true
		return true
	}
	data, more := s.spoil(l, seg.data)
	// Counted before the receiver can have seen them, so that who has an
	// answer finds all of it in the numbers.
	s.bytes.Add(int64(len(data)))
	n, err := s.to.Write(data)
	s.bytes.Add(int64(n - len(data)))
	return err == nil && more
}

// spoil corrupts and cuts the data as the lane says; more tells whether
// anything may follow it.
func (s *stream) spoil(l lane, data []byte) (spoilt []byte, more bool) {
	if l.corrupt != s.corrupt {
		s.corrupt, s.corruptPassed = l.corrupt, 0
	}
	if l.corrupt != nil {
		for i := range data {
			s.corruptPassed++
			if s.corruptPassed%l.corrupt.n == 0 {
				data[i] ^= corruption
			}
		}
	}
	if l.cut != s.cut {
		s.cut, s.cutPassed = l.cut, 0
	}
	if l.cut != nil {
		if left := l.cut.n - s.cutPassed; len(data) >= left {
			return data[:left], false
		}
		s.cutPassed += len(data)
	}
	return data, true
}
