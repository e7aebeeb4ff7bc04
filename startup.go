package stigg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// startGrace is how long Initialize waits for a first sign of life.
	startGrace = 250 * time.Millisecond
	// The check of the API key is repeated, until it is answered, at intervals
	// that grow from the first to the longest.
	firstStartPause   = time.Second
	longestStartPause = 30 * time.Second
)

// startup is the check of the API key, which runs beside the calls.
type startup struct {
	once   sync.Once
	done   chan struct{} // closed when err is known
	err    error
	last   atomic.Pointer[error] // what the last try failed with, while err is not known
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// settle says how the check ended.
func (s *startup) settle(err error) {
	s.once.Do(func() {
		if s.done == nil {
			s.done = make(chan struct{})
		}
		s.err = err
		close(s.done)
	})
}

// end stops the check.
func (s *startup) end() {
	if s.cancel != nil {
		s.cancel()
	}
	s.wait.Wait()
	s.settle(fmt.Errorf("stigg: %w", ErrClosed))
}

// begin starts to check the API key and to connect to Redis, and waits a
// moment for both.
func (c *Client) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	c.start.done, c.start.cancel = make(chan struct{}), cancel
	c.start.wait.Add(1)
	go func() {
		defer c.start.wait.Done()
		c.checkAPIKey(ctx)
	}()
	redisSeen := make(chan struct{})
	if c.redis == nil {
		close(redisSeen)
	} else {
		c.start.wait.Add(1)
		go func() {
			defer c.start.wait.Done()
			c.firstProbe(ctx)
			close(redisSeen)
			c.watchHeartbeat(ctx)
		}()
	}
	grace := time.NewTimer(startGrace)
	defer grace.Stop()
	for _, seen := range []<-chan struct{}{c.start.done, redisSeen} {
		select {
		case <-seen:
		case <-grace.C:
			return
		}
	}
}

// firstProbe makes the first connection to Redis, and tries as often as it
// takes to know whether Redis is away.
func (c *Client) firstProbe(ctx context.Context) {
	for range redisThreshold {
		probeCtx, cancel := context.WithTimeout(ctx, c.config.Redis.Timeout)
		err := c.store.Probe(probeCtx)
		cancel()
		if err == nil {
			c.health.Succeeded()
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.health.Failed(err)
	}
}

// checkAPIKey asks the API whether the key is right, until it says so or not.
func (c *Client) checkAPIKey(ctx context.Context) {
	pause := firstStartPause
	for {
		err := c.askAPIKey(ctx)
		c.askedAPI(err)
		if err == nil || errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrForbidden) {
			if err != nil {
				c.report.fetched(err)
			}
			c.start.settle(err)
			return
		}
		c.start.last.Store(&err)
		c.report.unchecked(err)
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		pause = min(2*pause, longestStartPause)
	}
}

func (c *Client) askAPIKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	if c.edge == nil {
		return c.graphql.CheckAPIKey(ctx)
	}
	return c.edge.CheckAPIKey(ctx)
}

// WaitForInitialization waits until the API has said whether the API key is
// right: nil if it is, ErrUnauthenticated or ErrForbidden if not, ErrClosed if
// the client is closed meanwhile, or the error of ctx, with what the last try
// failed with. A client need not be waited for: it answers from the start.
func (c *Client) WaitForInitialization(ctx context.Context) error {
	select {
	case <-c.start.done:
		return c.start.err
	default:
	}
	select {
	case <-c.start.done:
		return c.start.err
	case <-ctx.Done():
		if last := c.start.last.Load(); last != nil {
			return fmt.Errorf("stigg: the api key is not checked yet: %w; the last try: %w", ctx.Err(), *last)
		}
		return fmt.Errorf("stigg: the api did not answer yet: %w", ctx.Err())
	}
}
