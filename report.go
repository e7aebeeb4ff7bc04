package stigg

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/cache"
)

// reporter writes what changed to the log: transitions and first sightings,
// never a line for each call.
type reporter struct {
	log *slog.Logger

	mu         sync.Mutex
	seen       *simplelru.LRU[sighting, struct{}] // what was reported once already
	apiDown    bool
	apiDownAt  time.Time
	refused    bool
	writesFail bool
	untracked  bool
}

// sighting is something that is reported once.
type sighting struct {
	what string
	key  cache.Key
}

// maxSightings bounds what is remembered as reported.
const maxSightings = 1024

func newReporter(log *slog.Logger) *reporter {
	seen, _ := simplelru.NewLRU[sighting, struct{}](maxSightings, nil) // fails only for a size of 0
	return &reporter{log: log, seen: seen}
}

// first reports whether this is seen for the first time.
func (r *reporter) first(what string, k cache.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen.Contains(sighting{what, k}) {
		return false
	}
	r.seen.Add(sighting{what, k}, struct{}{})
	return true
}

func (r *reporter) redisLost(err error) {
	r.log.Warn("stigg: redis lost; asking the api until it is back", "err", err)
}

func (r *reporter) redisBack(away time.Duration) {
	r.log.Info("stigg: redis is back", "away", away.Round(time.Millisecond))
}

func (r *reporter) ambiguous(k cache.Key) {
	if r.first("ambiguous", k) {
		r.log.Warn("stigg: ids could name another customer's keys in redis; redis is not used for them",
			"customer", k.CustomerID, "resource", k.ResourceID)
	}
}

func (r *reporter) unreadable(k cache.Key, faults cache.Faults) {
	if r.first("unreadable", k) {
		r.log.Warn("stigg: redis holds something that is not of the known form; fetching it anew",
			"customer", k.CustomerID, "resource", k.ResourceID, "fault", faults.String())
	}
}

func (r *reporter) observerPanicked(event EventType, p any) {
	if r.first("observer", cache.Key{}) {
		r.log.Error("stigg: the observer panicked; that is passed over from now on",
			"event", string(event), "panic", p, "stack", string(debug.Stack()))
	}
}

// tracking is told when Redis begins and ceases to tell of changes.
func (r *reporter) tracking(on bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case on && r.untracked:
		r.untracked = false
		r.log.Info("stigg: redis tells of changes again")
	case !on && !r.untracked:
		r.untracked = true
		r.log.Warn("stigg: redis does not tell of changes; what is in memory is revalidated", "err", err)
	}
}

// fetched is told how each fetch from the API ended.
func (r *reporter) fetched(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused := errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrForbidden)
	switch {
	case refused && !r.refused:
		r.refused = true
		if !r.apiDown {
			r.apiDownAt = time.Now()
		}
		r.log.Error("stigg: the api refuses the api key", "err", err)
	case refused, errors.Is(err, ErrNotFound), errors.Is(err, ErrRejected), errors.Is(err, ErrMalformedResponse), errors.Is(err, ErrClosed):
		// An answer, and one about this request alone.
	case err != nil && !r.apiDown:
		r.apiDown, r.apiDownAt = true, time.Now()
		r.log.Warn("stigg: the api does not answer", "err", err)
	case err == nil && (r.apiDown || r.refused):
		r.apiDown, r.refused = false, false
		r.log.Info("stigg: the api answers again", "after", time.Since(r.apiDownAt).Round(time.Millisecond))
	}
}

// unchecked is told why the API key could not be checked. Whoever answers
// that with an error is hardly the API; and a fetch that is answered so says
// nothing but to its caller.
func (r *reporter) unchecked(err error) {
	answered := errors.Is(err, ErrNotFound) || errors.Is(err, ErrRejected) || errors.Is(err, ErrMalformedResponse)
	if answered && r.first("unchecked", cache.Key{}) {
		r.log.Warn("stigg: the api key cannot be checked; is the url right?", "err", err)
	}
}

// malformed is told how each fetch ended.
func (r *reporter) malformed(k cache.Key, err error) {
	if errors.Is(err, ErrMalformedResponse) && r.first("malformed", k) {
		r.log.Warn("stigg: the api answers what is not an answer", "customer", k.CustomerID, "resource", k.ResourceID, "err", err)
	}
}

// written is told how each write-back to Redis ended.
func (r *reporter) written(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil && !r.writesFail:
		r.writesFail = true
		r.log.Warn("stigg: redis does not take what was fetched", "err", err)
	case err == nil && r.writesFail:
		r.writesFail = false
		r.log.Info("stigg: redis takes what is fetched again")
	}
}
