package stigg

import (
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/refetch"
)

// EventType says what an Event is about.
type EventType string

// The types of events, with the fields that are set besides the customer's ids,
// which those about Redis do not have.
const (
	EventCacheHit        EventType = "cache hit"        // Source: which layer answered
	EventCacheMiss       EventType = "cache miss"       // Cause: what was missing
	EventRefetchStarted  EventType = "refetch started"  // Cause: what was missing in Redis; empty if Redis was not asked, or if something has ended
	EventRefetchJoined   EventType = "refetch joined"   // a check joined a refetch that was under way in this process
	EventRefetchWaited   EventType = "refetch waited"   // another process refetches; this one waits for it
	EventRefetchFinished EventType = "refetch finished" // Source, Duration; Err, Cause (the kind of failure) if it failed
	EventRefetchRefused  EventType = "refetch refused"  // Err: it failed a moment ago and is not tried again yet
	EventWritten         EventType = "written"          // Applied, Skipped (older than what Redis holds); Err if Redis did not take it
	EventRedisLost       EventType = "redis lost"       // Err
	EventRedisBack       EventType = "redis back"       // Duration: how long it was away
	EventRedisFailed     EventType = "redis failed"     // Err: one read failed
	EventStale           EventType = "stale"            // Err: why nothing newer could be had
	EventFallback        EventType = "fallback"         // Err: why nobody answered
	EventAmbiguousID     EventType = "ambiguous id"     // the ids could name another customer's keys
)

// Event is something that happened in the client. Events are given to
// Config.Observer as they happen, in the goroutine in which they happen: the
// observer must be quick, safe for concurrent use, and must not call the
// client. If it panics, that is logged once, and the client goes on.
type Event struct {
	Type       EventType
	CustomerID string
	ResourceID string
	Source     Source
	Cause      string
	Err        error
	Duration   time.Duration
	Applied    int
	Skipped    int
}

// errRedisAway says that Redis was not written to because it is away.
var errRedisAway = errors.New("redis is away")

func (c *Client) observe(e Event) {
	if c.config.Observer != nil {
		c.tellObserver(e)
	}
}

// tellObserver tells the observer of an event. Many events happen in goroutines
// of the client's own, where a panic would end the program, and nobody but the
// client could keep it from that.
func (c *Client) tellObserver(e Event) {
	defer func() {
		if p := recover(); p != nil {
			c.report.observerPanicked(e.Type, p)
		}
	}()
	c.config.Observer(e)
}

func (c *Client) hit(layer Source, k cache.Key) {
	if layer == SourceMemory {
		c.counters.memoryHits.Add(1)
	} else {
		c.counters.redisHits.Add(1)
	}
	if c.config.Observer != nil {
		c.observe(Event{Type: EventCacheHit, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Source: layer})
	}
}

func (c *Client) miss(k cache.Key, faults cache.Faults) {
	c.counters.redisMisses.Add(1)
	if c.config.Observer != nil {
		c.observe(Event{Type: EventCacheMiss, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Cause: missCause(faults)})
	}
}

// missCause names what was missing. A reading without faults misses because
// something in it has ended.
func missCause(faults cache.Faults) string {
	if faults == 0 {
		return "ended"
	}
	return faults.String()
}

func (c *Client) onRedisLost(err error) {
	c.report.redisLost(err)
	c.observe(Event{Type: EventRedisLost, Err: err})
}

func (c *Client) onRedisBack(away time.Duration) {
	c.report.redisBack(away)
	c.observe(Event{Type: EventRedisBack, Duration: away})
}

// onRefetch counts and passes on what the refetches do.
func (c *Client) onRefetch(e refetch.Event) {
	out := Event{
		CustomerID: e.Key.CustomerID, ResourceID: e.Key.ResourceID,
		Source: e.Source, Err: e.Err, Duration: e.Duration, Applied: e.Result.Applied, Skipped: e.Result.Skipped,
	}
	switch e.Kind {
	case refetch.Started:
		out.Type, out.Cause = EventRefetchStarted, e.Faults.String()
	case refetch.Joined:
		out.Type = EventRefetchJoined
	case refetch.Waited:
		c.counters.fleetWaits.Add(1)
		out.Type = EventRefetchWaited
	case refetch.Repeated:
		out.Type = EventRefetchRefused
	case refetch.Fetched:
		c.counters.fetches.Add(1)
		if e.Err != nil {
			c.counters.fetchFailures.Add(1)
			out.Cause = failureKind(e.Err)
		}
		c.report.fetched(e.Err)
		c.report.malformed(e.Key, e.Err)
		c.askedAPI(e.Err)
		out.Type = EventRefetchFinished
	case refetch.Written:
		c.wrote(e.Result, e.Err)
		c.forget(e.Key)
		out.Type = EventWritten
	}
	c.observe(out)
}

// askedAPI remembers how a request to the API ended, for Status.
func (c *Client) askedAPI(err error) {
	refused := errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrForbidden) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrRejected)
	c.api.asked(err, err == nil || refused)
}

// wrote counts a write to Redis.
func (c *Client) wrote(result cache.WriteResult, err error) {
	c.counters.writes.Add(1)
	if err != nil {
		c.counters.writeFailures.Add(1)
		var reply redis.Error
		if !errors.As(err, &reply) && !errors.Is(err, errRedisAway) && !errors.Is(err, cache.ErrLocked) && !c.closed.Load() {
			c.health.Failed(err) // no answer at all, as opposed to a refusal
		}
	}
	c.counters.pairsWritten.Add(uint64(result.Applied))
	c.counters.pairsSkipped.Add(uint64(result.Skipped))
	c.report.written(err)
}

// failureKind names the kind of a failure of the API.
func failureKind(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != nil {
		return e.Kind.Error()
	}
	return "failed"
}
