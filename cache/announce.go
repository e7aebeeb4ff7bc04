package cache

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// announcement is what the end of a refetch is announced with: an empty object
// on success.
type announcement struct {
	Error string `json:"error,omitempty"`
}

// Announce tells every process that waits for a refetch of k that it is over.
// failure is nil on success; its text is read by all who share the cache.
func (s *Store) Announce(ctx context.Context, k Key, failure error) error {
	var a announcement
	if failure != nil {
		a.Error = failure.Error()
	}
	message, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = bounded(ctx, s, func(ctx context.Context) (int64, error) {
		return s.client.Publish(ctx, RefetchChannel(s.prefix, k), message).Result()
	})
	return err
}

const (
	// announceIdle is how long a connection may be silent before it is asked
	// for a sign of life; twice that, and it counts as dead.
	announceIdle = 10 * time.Second
	// announceRetry is the pause after a connection that was of no use.
	announceRetry = 100 * time.Millisecond
	// announceTimeout bounds the making of a connection and one command on it.
	announceTimeout = time.Second
)

// Announcements receives the announcements of refetches, for any number of
// waits, over one connection. It connects when it is first needed, and again
// when the connection is lost while somebody waits.
//
// Everything that talks to Redis runs in goroutines of its own: a wait only
// notes which channel it wants, and is never held up by a Redis that does not
// answer.
type Announcements struct {
	client  redis.UniversalClient
	prefix  string
	timeout time.Duration // how long to wait for a subscription to be confirmed
	idle    time.Duration // announceIdle

	context context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	changed chan struct{} // somebody began or ended a wait

	mu       sync.Mutex
	started  bool
	closed   bool
	pubsub   *redis.PubSub // the current connection; nil: there is none
	channels map[string]*channel
}

// channel is one that somebody listens to, or did until just now.
type channel struct {
	waits      map[*Wait]struct{} // empty: to be unsubscribed
	subscribed bool               // SUBSCRIBE was sent on the current connection
	ready      chan struct{}      // closed when the server has confirmed it once
}

// Wait is one wait for an announcement.
type Wait struct {
	// C receives true for an announced success and false for an announced
	// failure.
	C    <-chan bool
	c    chan bool
	name string
	from *Announcements
}

// NewAnnouncements makes a receiver on the store's Redis. Close it.
func (s *Store) NewAnnouncements() *Announcements {
	a := &Announcements{
		client: s.client, prefix: s.prefix, timeout: max(s.timeout, announceRetry), idle: announceIdle,
		changed: make(chan struct{}, 1), channels: make(map[string]*channel),
	}
	a.context, a.stop = context.WithCancel(context.Background())
	return a
}

// errAnnouncementsClosed says that Close was called.
var errAnnouncementsClosed = errors.New("announcements are closed")

// Wait begins to listen for the end of the refetch of k. It returns when the
// server has confirmed that, or after a moment: an announcement can be missed
// in any case, and whoever waits must look for itself now and then. Close the
// wait. The error says that Close was called.
func (a *Announcements) Wait(ctx context.Context, k Key) (*Wait, error) {
	w, ready, err := a.add(RefetchChannel(a.prefix, k))
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(a.timeout)
	defer timer.Stop()
	select {
	case <-ready:
	case <-timer.C:
	case <-ctx.Done():
	case <-a.context.Done():
	}
	return w, nil
}

func (a *Announcements) add(name string) (*Wait, <-chan struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, nil, errAnnouncementsClosed
	}
	if !a.started {
		a.started = true
		a.running.Go(a.run)
	}
	listened, ok := a.channels[name]
	if !ok {
		listened = &channel{waits: make(map[*Wait]struct{}), ready: make(chan struct{})}
		a.channels[name] = listened
		a.notify()
	}
	c := make(chan bool, 1)
	w := &Wait{C: c, c: c, name: name, from: a}
	listened.waits[w] = struct{}{}
	return w, listened.ready, nil
}

// Close ends the wait.
func (w *Wait) Close() {
	a := w.from
	a.mu.Lock()
	defer a.mu.Unlock()
	listened, ok := a.channels[w.name]
	if !ok {
		return
	}
	delete(listened.waits, w)
	if len(listened.waits) == 0 {
		a.notify()
	}
}

// notify says that a.channels has changed.
func (a *Announcements) notify() {
	select {
	case a.changed <- struct{}{}:
	default: // it is said already
	}
}

// Close ends the connection. Waits that are open hear nothing any more.
func (a *Announcements) Close() {
	a.mu.Lock()
	a.closed = true
	a.stop()
	pubsub := a.pubsub
	a.mu.Unlock()
	if pubsub != nil {
		_ = pubsub.Close() // what it was connected to may be away
	}
	a.running.Wait()
}

// run keeps a connection while somebody listens, and the one that is there
// until it is lost.
func (a *Announcements) run() {
	for a.wanted() {
		if a.session() {
			continue
		}
		select {
		case <-a.context.Done():
		case <-time.After(announceRetry):
		}
	}
}

// session is the life of one connection. It reports whether that was of use.
func (a *Announcements) session() bool {
	pubsub := a.connect()
	if pubsub == nil {
		return false
	}
	defer func() { _ = pubsub.Close() }() // it is of no use any more
	if a.subscribe(pubsub) != nil {
		return false
	}
	lost := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() { a.follow(pubsub, lost) })
	defer following.Wait()
	defer close(lost)
	return a.receive(pubsub)
}

// wanted waits until somebody listens. It reports false when the receiver is
// closed.
func (a *Announcements) wanted() bool {
	for {
		a.mu.Lock()
		for name, c := range a.channels {
			if len(c.waits) == 0 {
				delete(a.channels, name)
			}
		}
		n := len(a.channels)
		a.mu.Unlock()
		if n > 0 {
			return a.context.Err() == nil
		}
		select {
		case <-a.changed:
		case <-a.context.Done():
			return false
		}
	}
}

// connect prepares a connection, on which nothing is subscribed yet; nil if the
// receiver is closed.
func (a *Announcements) connect() *redis.PubSub {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	for _, c := range a.channels {
		c.subscribed = false
	}
	a.pubsub = a.client.Subscribe(a.context)
	return a.pubsub
}

// follow subscribes and unsubscribes what is wanted, until the connection is
// lost.
func (a *Announcements) follow(pubsub *redis.PubSub, lost <-chan struct{}) {
	for {
		select {
		case <-a.changed:
		case <-lost:
			return
		}
		if a.subscribe(pubsub) != nil {
			_ = pubsub.Close() // the receiving end notices
			return
		}
	}
}

// subscribe subscribes and unsubscribes on a connection what is not yet as it
// is wanted.
func (a *Announcements) subscribe(pubsub *redis.PubSub) error {
	wanted, unwanted := a.changes()
	ctx, cancel := context.WithTimeout(a.context, announceTimeout)
	defer cancel()
	if len(wanted) > 0 {
		if err := pubsub.Subscribe(ctx, wanted...); err != nil {
			return err
		}
	}
	if len(unwanted) > 0 {
		return pubsub.Unsubscribe(ctx, unwanted...)
	}
	return nil
}

// changes returns the channels to subscribe and to unsubscribe, and notes that
// this is done.
func (a *Announcements) changes() (wanted, unwanted []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, c := range a.channels {
		switch {
		case len(c.waits) == 0:
			delete(a.channels, name)
			if c.subscribed {
				unwanted = append(unwanted, name)
			}
		case !c.subscribed:
			c.subscribed = true
			wanted = append(wanted, name)
		}
	}
	return wanted, unwanted
}

// receive hands out what a connection receives until it is lost. It reports
// whether the connection was of use.
func (a *Announcements) receive(pubsub *redis.PubSub) (alive bool) {
	silent := false
	for {
		message, err := pubsub.ReceiveTimeout(a.context, a.idle)
		var refusal redis.Error
		var timeout net.Error
		switch {
		case err == nil:
			alive, silent = true, false
			a.handOut(message)
		case errors.As(err, &refusal):
			return false // the waits look for themselves meanwhile
		case errors.As(err, &timeout) && timeout.Timeout() && !silent && pubsub.Ping(a.context) == nil:
			silent = true
		default:
			return alive
		}
	}
}

func (a *Announcements) handOut(message any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch m := message.(type) {
	case *redis.Subscription:
		listened, ok := a.channels[m.Channel]
		if !ok || m.Kind != "subscribe" {
			return
		}
		select {
		case <-listened.ready:
		default:
			close(listened.ready)
		}
	case *redis.Message:
		listened, ok := a.channels[m.Channel]
		if !ok {
			return
		}
		var said announcement
		success := json.Unmarshal([]byte(m.Payload), &said) == nil && said.Error == ""
		for w := range listened.waits {
			select {
			case w.c <- success:
			default: // it has one already
			}
		}
	}
}
