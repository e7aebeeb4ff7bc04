package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

const (
	// refetchWindow is how long a refetch waits for more messages about the
	// same customer before it begins.
	refetchWindow = 100 * time.Millisecond
	// refetchTimeout bounds one request to the Edge API.
	refetchTimeout = 10 * time.Second
	// maxFetching is how many requests may be under way.
	maxFetching = 16
	// MaxWaiting is how many jobs may wait for a refetch before a job that
	// needs another one is returned to the queue for a while, so that the
	// changes that need no refetch are not held up.
	MaxWaiting = 1000
	// MaxWaitingShared is how many may wait in all: those beyond MaxWaiting
	// share a refetch that others wait for. More are returned, too.
	MaxWaitingShared = 2 * MaxWaiting
	// apiRetryFirst and apiRetryMost bound the wait after a failed request.
	apiRetryFirst = 500 * time.Millisecond
	apiRetryMost  = 30 * time.Second
	// maxRejections is how often the API may answer for a customer that the
	// request itself is wrong, before it is taken at its word.
	maxRejections = 3
	// maxRaces is how often a refetch is done over because somebody wrote
	// meanwhile what cannot be put in order with it.
	maxRaces = 3
)

// refetcher fetches customers from the Edge API: one request for all messages
// about a customer that arrive before it begins. A message that arrives later
// needs another, because the state may have been read before its change.
type refetcher struct {
	engine   *Engine
	budget   *budget
	fetching chan struct{}

	mu     sync.Mutex
	queued map[cache.Key][]Job // a key that is worked on is in the map
	count  int                 // jobs in hand
}

func newRefetcher(e *Engine) *refetcher {
	return &refetcher{engine: e, budget: newBudget(e), fetching: make(chan struct{}, maxFetching), queued: map[cache.Key][]Job{}}
}

// submit takes a job. It reports true if it has it; else the result stands.
func (r *refetcher) submit(job Job) (Result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := job.Message.Key
	queued, active := r.queued[key]
	if r.count >= MaxWaitingShared || r.count >= MaxWaiting && len(queued) == 0 {
		return Result{
			Outcome: Returned, Fate: Return, Delay: returnDelay(job.ReceiveCount),
			Err: errTooManyWait,
		}, false
	}
	r.count++
	r.queued[key] = append(queued, job)
	if !active {
		go r.run(key)
	}
	return Result{}, true
}

func (r *refetcher) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// take takes the jobs that wait for a key; none, and the key is gone.
func (r *refetcher) take(key cache.Key) []Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	jobs := r.queued[key]
	if len(jobs) == 0 {
		delete(r.queued, key)
		return nil
	}
	r.queued[key] = nil
	return jobs
}

// more adds the jobs that came meanwhile.
func (r *refetcher) more(key cache.Key, jobs []Job) []Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	jobs = append(jobs, r.queued[key]...)
	r.queued[key] = nil
	return jobs
}

func (r *refetcher) run(key cache.Key) {
	ctx := r.engine.ctx
	for {
		watch.Sleep(ctx, refetchWindow)
		jobs := r.take(key)
		if len(jobs) == 0 {
			return
		}
		result, jobs := r.refetch(ctx, key, jobs)
		r.engine.config.Metrics.Coalesced.Add(float64(len(jobs) - 1))
		r.mu.Lock()
		r.count -= len(jobs)
		r.mu.Unlock()
		for _, job := range jobs {
			job.Done(result)
		}
	}
}

// refetch fetches and writes a customer, however often it takes. It returns
// the jobs that this serves: those given, and those that came before the last
// try.
func (r *refetcher) refetch(ctx context.Context, key cache.Key, jobs []Job) (Result, []Job) {
	rejections, races := 0, 0
	for n := 0; ; n++ {
		jobs = r.more(key, jobs)
		result, err := r.attemptSafely(ctx, key, &jobs[0])
		switch {
		case err == nil:
			return result, jobs
		case errors.Is(err, errStopping) || errors.Is(err, errRefused):
			return unfinished(err), jobs
		case errors.Is(err, errRaced) && races < maxRaces:
			races++
			continue
		case errors.Is(err, errPanicked):
			return Result{Outcome: Panicked, Fate: Leave, Err: err}, jobs
		case errors.Is(err, errRaced):
			return failed(err), jobs
		case rejected(err):
			rejections++
			switch {
			case rejections < maxRejections:
			case errors.Is(err, apierr.ErrNotFound):
				return r.forget(ctx, key), jobs
			default:
				return failed(err), jobs
			}
		}
		if !watch.Sleep(ctx, watch.Backoff(n, apiRetryFirst, apiRetryMost)) {
			return unfinished(errStopping), jobs
		}
	}
}

// rejected tells errors that come of the customer asked for, and not of the
// state of the API or of the API key.
func rejected(err error) bool {
	var e *apierr.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusNotFound:
		return true
	}
	return errors.Is(err, apierr.ErrMalformedResponse) || errors.Is(err, apierr.ErrInvalidArgument)
}

var (
	errRaced       = errors.New("others wrote while the customer was fetched")
	errTooManyWait = errors.New("too many wait for a refetch")
)

// attemptSafely is attempt; a panic becomes an error.
func (r *refetcher) attemptSafely(ctx context.Context, key cache.Key, job *Job) (result Result, err error) {
	defer func() {
		if value := recover(); value != nil {
			r.engine.panicked(value, job.Message.Type, job.ID)
			err = errPanicked
		}
	}()
	return r.attempt(ctx, key)
}

// attempt fetches and writes a customer once.
func (r *refetcher) attempt(ctx context.Context, key cache.Key) (Result, error) {
	e := r.engine
	before, err := e.ask(ctx, key)
	if err != nil {
		return Result{}, err
	}
	for !before.cached() && e.config.Policy == cache.UpdateIfExists {
		// What nobody has cached need not be fetched.
		waited, err := e.awaitReader(ctx, key)
		if err != nil {
			return Result{}, err
		}
		if before, err = e.ask(ctx, key); err != nil {
			return Result{}, err
		}
		if !waited && !before.cached() {
			e.config.Metrics.Refetches.WithLabelValues("not_cached").Inc()
			return done(NotCached), nil
		}
	}
	state, began, err := r.fetch(ctx, key)
	if err != nil {
		return Result{}, err
	}
	return r.write(ctx, key, state, began, before)
}

// fetch asks the Edge API, in its turn.
func (r *refetcher) fetch(ctx context.Context, key cache.Key) (state entitlements.State, began time.Time, err error) {
	e := r.engine
	waits := time.Now()
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return state, began, errStopping
	}
	if err := r.budget.take(ctx); err != nil {
		return state, began, err
	}
	e.config.Metrics.RefetchWait.Observe(time.Since(waits).Seconds())
	fetchCtx, cancel := untilStopped(ctx, refetchTimeout)
	defer cancel()
	began = time.Now()
	state, err = e.config.Edge.EntitlementsState(fetchCtx, key.CustomerID, key.ResourceID)
	if err == nil {
		e.config.Metrics.Refetches.WithLabelValues("ok").Inc()
		e.config.API.Worked()
		return state, began, nil
	}
	e.config.Metrics.Refetches.WithLabelValues("error").Inc()
	if rejected(err) {
		e.config.API.Erred(err)
		return state, began, err
	}
	e.config.API.Missed(err)
	var apiErr *apierr.Error
	if errors.As(err, &apiErr) && errors.Is(err, apierr.ErrRateLimited) {
		r.budget.pause(fetchCtx, max(apiErr.RetryAfter, time.Second))
	}
	return state, began, err
}

// inLane does work in the customer's lane, and waits for it.
func (r *refetcher) inLane(key cache.Key, work func() (Result, error)) (result Result, err error) {
	finished := make(chan struct{})
	err = errPanicked
	r.engine.lanes.submit(key.CustomerID, func() {
		defer close(finished)
		defer func() {
			if value := recover(); value != nil {
				r.engine.panicked(value, "refetch", "")
			}
		}()
		result, err = work()
	})
	<-finished
	return result, err
}

// forget deletes what is cached of a customer, or of its resource, that the
// API does not know. If somebody wrote it meanwhile, a reader asks the API.
func (r *refetcher) forget(ctx context.Context, key cache.Key) Result {
	gone := []cache.Key{key.Customer()}
	if key.ResourceID != "" {
		gone = append(gone, key)
	}
	result, err := r.inLane(key, func() (Result, error) {
		return done(Purged), r.engine.redisOp(ctx, true, func(ctx context.Context) error {
			return r.engine.config.Store.Purge(ctx, gone...)
		})
	})
	switch {
	case errors.Is(err, errPanicked):
		return Result{Outcome: Panicked, Fate: Leave, Err: err}
	case err != nil:
		return unfinished(err)
	}
	return result
}

// write writes what was fetched, in the customer's lane. What was fetched
// before a purge must not come after it.
func (r *refetcher) write(ctx context.Context, key cache.Key, state entitlements.State, began time.Time, before knowledge) (Result, error) {
	e := r.engine
	result, err := r.inLane(key, func() (Result, error) {
		now, err := e.ask(ctx, key)
		if err != nil {
			return Result{}, err
		}
		// An empty list carries no time and overwrites whatever it meets: it
		// must not meet what was written after it was read.
		if now.purgedSince(before) || len(state.Records) == 0 && now.at != before.at {
			return Result{}, errRaced
		}
		written, err := e.writeState(ctx, key, state, began)
		if err != nil {
			return Result{}, err
		}
		purged, err := e.takeBack(ctx, key, before)
		switch {
		case err != nil:
			return Result{}, err
		case purged:
			return Result{}, errRaced
		}
		result := e.written(written)
		if result.Outcome == Applied {
			result.Outcome = Refetched
		}
		return result, nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("write what was fetched: %w", err)
	}
	return result, nil
}
