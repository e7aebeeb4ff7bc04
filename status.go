package stigg

import (
	"context"
	"sync"
	"time"
)

// heartbeatInterval is how often the persistent-cache-service's heartbeat is
// read, which it writes every 30 s.
const heartbeatInterval = 30 * time.Second

// Status says how the client's dependencies are.
type Status struct {
	Redis DependencyStatus
	API   DependencyStatus
	// Heartbeat is when the persistent-cache-service that keeps the cache fresh
	// last gave a sign of life, as far as was seen in the last minute. Zero:
	// unknown; not every such service gives one, and while Redis is down nobody
	// sees it. One that is minutes old says that the cache is not kept fresh
	// any more.
	Heartbeat time.Time
}

// DependencyStatus says how one dependency is.
type DependencyStatus struct {
	State       DependencyState
	Since       time.Time // of the state; zero: unknown
	LastError   error     // the last failure; nil if there was none
	LastErrorAt time.Time
}

// DependencyState is the state of a dependency.
type DependencyState string

// The states of a dependency.
const (
	StateUnknown DependencyState = "unknown" // not asked yet
	StateUnused  DependencyState = "unused"  // not configured
	StateUp      DependencyState = "up"
	StateDown    DependencyState = "down"
)

// HeartbeatAge is how old the heartbeat is; ok is false if there is none.
func (s Status) HeartbeatAge(now time.Time) (age time.Duration, ok bool) {
	if s.Heartbeat.IsZero() {
		return 0, false
	}
	return max(0, now.Sub(s.Heartbeat)), true
}

// Status tells how Redis, the API and the persistent-cache-service are, as far
// as the client knows from its own calls. It asks nobody.
func (c *Client) Status() Status {
	s := Status{Redis: DependencyStatus{State: StateUnused}, API: DependencyStatus{State: StateUnused}}
	if c.health != nil {
		redis := c.health.State()
		s.Redis = DependencyStatus{State: StateDown, Since: redis.Since, LastError: redis.LastError, LastErrorAt: redis.LastErrAt}
		if redis.Up {
			s.Redis.State = StateUp
		}
	}
	if !c.config.Offline {
		s.API = c.api.get()
	}
	if s.Redis.State == StateUp {
		s.Heartbeat = c.heartbeat.seen(time.Now())
	}
	return s
}

// apiStatus is what is known of the API.
type apiStatus struct {
	mu     sync.Mutex
	status DependencyStatus
}

func (a *apiStatus) get() DependencyStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status.State == "" {
		return DependencyStatus{State: StateUnknown}
	}
	return a.status
}

// asked is told how a request to the API ended. answered says that the API
// answered, be it with a refusal.
func (a *apiStatus) asked(err error, answered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	state := StateUp
	if !answered {
		state = StateDown
	}
	if a.status.State != state {
		a.status.State, a.status.Since = state, now
	}
	if err != nil {
		a.status.LastError, a.status.LastErrorAt = err, now
	}
}

// heartbeat is when the persistent-cache-service was last seen.
type heartbeat struct {
	mu   sync.Mutex
	at   time.Time
	read time.Time
}

// seen is the heartbeat, if it was read lately.
func (h *heartbeat) seen(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.read) > 2*heartbeatInterval {
		return time.Time{}
	}
	return h.at
}

// watchHeartbeat reads the heartbeat now and then, until ctx ends.
func (c *Client) watchHeartbeat(ctx context.Context) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		if c.redisUp() {
			readCtx, cancel := context.WithTimeout(ctx, c.config.Redis.Timeout)
			if at, err := c.store.Heartbeat(readCtx); err == nil { // a failure is seen by the checks
				c.heartbeat.mu.Lock()
				c.heartbeat.at, c.heartbeat.read = at, time.Now()
				c.heartbeat.mu.Unlock()
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
