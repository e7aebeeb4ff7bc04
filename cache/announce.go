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
// failure is nil on success.
func (s *Store) Announce(ctx context.Context, k Key, failure error) error {
	var a announcement
	if failure != nil {
		a.Error = failure.Error()
	}
	message, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return s.client.Publish(ctx, RefetchChannel(s.prefix, k), message).Err()
}

// Announcements receives the announcements of refetches, for any number of
// waits, over one connection. It connects when it is first needed.
type Announcements struct {
	client  redis.UniversalClient
	prefix  string
	timeout time.Duration // how long to wait for a subscription to be confirmed

	mu       sync.Mutex
	closed   bool
	pubsub   *redis.PubSub // nil: not connected
	channels map[string]*announced
	running  sync.WaitGroup
	stop     chan struct{}
}

// announced is a channel that somebody listens to.
type announced struct {
	ready chan struct{} // closed when the server has confirmed the subscription
	waits map[*Wait]struct{}
}

// Wait is one wait for an announcement.
type Wait struct {
	// C receives true for an announced success and false for an announced
	// failure.
	C       <-chan bool
	c       chan bool
	channel string
	from    *Announcements
}

const (
	// announceIdle is how long a connection may be silent before it is asked
	// for a sign of life; twice that, and it counts as dead.
	announceIdle = 10 * time.Second
	// announceRetry is the pause before a lost connection is made again.
	announceRetry = 100 * time.Millisecond
)

// NewAnnouncements makes a receiver on the store's Redis. Close it.
func (s *Store) NewAnnouncements() *Announcements {
	return &Announcements{
		client: s.client, prefix: s.prefix, timeout: s.timeout,
		channels: make(map[string]*announced), stop: make(chan struct{}),
	}
}

// errAnnouncementsClosed says that Close was called.
var errAnnouncementsClosed = errors.New("announcements are closed")

// Wait begins to listen for the end of the refetch of k. It returns when the
// server has confirmed that, or after a moment: an announcement can be missed
// in any case, and whoever waits must look for itself now and then. Close the
// wait.
func (a *Announcements) Wait(ctx context.Context, k Key) (*Wait, error) {
	channel := RefetchChannel(a.prefix, k)
	w, ready, err := a.add(ctx, channel)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(max(a.timeout, announceRetry))
	defer timer.Stop()
	select {
	case <-ready:
	case <-timer.C:
	case <-ctx.Done():
	case <-a.stop:
	}
	return w, nil
}

func (a *Announcements) add(ctx context.Context, channel string) (*Wait, <-chan struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, nil, errAnnouncementsClosed
	}
	if a.pubsub == nil {
		a.pubsub = a.client.Subscribe(ctx)
		a.running.Add(1)
		go a.receive(a.pubsub)
	}
	listened, ok := a.channels[channel]
	if !ok {
		if err := a.pubsub.Subscribe(ctx, channel); err != nil {
			return nil, nil, err
		}
		listened = &announced{ready: make(chan struct{}), waits: make(map[*Wait]struct{})}
		a.channels[channel] = listened
	}
	c := make(chan bool, 1)
	w := &Wait{C: c, c: c, channel: channel, from: a}
	listened.waits[w] = struct{}{}
	return w, listened.ready, nil
}

// Close ends the wait.
func (w *Wait) Close() {
	a := w.from
	a.mu.Lock()
	defer a.mu.Unlock()
	listened, ok := a.channels[w.channel]
	if !ok {
		return
	}
	delete(listened.waits, w)
	if len(listened.waits) > 0 {
		return
	}
	delete(a.channels, w.channel)
	if a.pubsub != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = a.pubsub.Unsubscribe(ctx, w.channel) // a dead connection has no subscriptions
	}
}

// receive hands out what the connection receives, until the receiver is closed
// or the connection is lost while nobody listens.
func (a *Announcements) receive(pubsub *redis.PubSub) {
	defer a.running.Done()
	silent := false
	for pubsub != nil {
		message, err := pubsub.ReceiveTimeout(context.Background(), announceIdle)
		var timeout net.Error
		switch {
		case err == nil:
			silent = false
			a.handOut(message)
			continue
		case errors.As(err, &timeout) && timeout.Timeout() && !silent:
			silent = true
			if pubsub.Ping(context.Background()) == nil {
				continue
			}
		}
		silent = false
		select {
		case <-a.stop:
		case <-time.After(announceRetry):
		}
		pubsub = a.renew(pubsub)
	}
}

// renew replaces a connection that was lost, if anybody still listens.
func (a *Announcements) renew(lost *redis.PubSub) *redis.PubSub {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = lost.Close() // it is of no use any more
	a.pubsub = nil
	if a.closed || len(a.channels) == 0 {
		return nil
	}
	channels := make([]string, 0, len(a.channels))
	for channel := range a.channels {
		channels = append(channels, channel)
	}
	a.pubsub = a.client.Subscribe(context.Background(), channels...)
	return a.pubsub
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

// Close ends the connection. Waits that are open hear nothing any more.
func (a *Announcements) Close() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	close(a.stop)
	if a.pubsub != nil {
		_ = a.pubsub.Close() // what it was connected to may be away
	}
	a.mu.Unlock()
	a.running.Wait()
}
