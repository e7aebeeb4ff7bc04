package apply

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/metrics"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// Fetcher fetches the state of a customer or of one of its resources.
type Fetcher interface {
	EntitlementsState(ctx context.Context, customerID, resourceID string) (entitlements.State, error)
}

// Config configures an Engine. All of it is required but EnvironmentID,
// OnPanic and LockRetryCount.
type Config struct {
	Store  *cache.Store
	Redis  *redis.Client
	Prefix string
	Policy cache.Policy
	// LockRetryCount is how often to try for a customer's lock, about 100 ms
	// apart; 0: 20.
	LockRetryCount int
	// Gate lets writes wait while Redis is away.
	Gate *watch.Gate

	Edge Fetcher
	// API is told how the requests to the Edge API fare.
	API *watch.Dependency
	// RefetchesPerMinute bounds the requests of all instances on one Redis.
	RefetchesPerMinute int

	// EnvironmentID returns the id of the environment; empty: not known, and
	// then nothing counts as foreign. Nil is the same.
	EnvironmentID func() string

	Metrics *metrics.Metrics
	Log     *slog.Logger
	// OnPanic is told of a panic that was caught.
	OnPanic func(value any, messageType, messageID string)
}

// Engine carries out messages. It is safe for concurrent use.
type Engine struct {
	config    Config
	lanes     *lanes
	refetcher *refetcher
	purger    *purger

	ctx  context.Context
	stop context.CancelFunc

	mu        sync.Mutex
	ambiguous map[string]bool // customers that were logged, bounded
	jobs      int             // in hand
	idle      sync.Cond       // no jobs are in hand
}

const defaultLockRetryCount = 20

var (
	errForeign  = errors.New("message is of another environment")
	errNoAction = errors.New("message asks for nothing")
	errPanicked = errors.New("panic")
)

// New makes an Engine.
func New(config Config) *Engine {
	if config.LockRetryCount == 0 {
		config.LockRetryCount = defaultLockRetryCount
	}
	e := &Engine{config: config, lanes: newLanes(), ambiguous: map[string]bool{}}
	e.idle.L = &e.mu
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.refetcher = newRefetcher(e)
	e.purger = newPurger(e)
	return e
}

// Submit takes a job. It never waits; whoever submits bounds how many jobs are
// in hand, see Waiting.
func (e *Engine) Submit(job Job) {
	e.count(1)
	told := job.Done
	job.Done = func(r Result) {
		told(r)
		e.count(-1)
	}
	m := &job.Message
	switch {
	case e.foreign(m):
		job.Done(Result{Outcome: Foreign, Fate: Leave, Err: errForeign})
	case m.Action == message.Ignore:
		job.Done(done(Ignored))
	case m.Action == message.PurgeAll:
		e.purger.submit(job)
	case m.Key.Ambiguous():
		e.logAmbiguous(job)
		job.Done(done(Ambiguous))
	default:
		e.lanes.submit(m.Key.CustomerID, func() { e.run(job) })
	}
}

func (e *Engine) foreign(m *message.Message) bool {
	if e.config.EnvironmentID == nil || m.EnvironmentID == "" {
		return false
	}
	own := e.config.EnvironmentID()
	return own != "" && own != m.EnvironmentID
}

// logAmbiguous says once for each customer that it is not cached.
func (e *Engine) logAmbiguous(job Job) {
	const most = 1000
	e.mu.Lock()
	defer e.mu.Unlock()
	id := job.Message.Key.CustomerID
	if e.ambiguous[id] || len(e.ambiguous) >= most {
		return
	}
	e.ambiguous[id] = true
	e.config.Log.Warn("customer is not cached: its id could name the keys of another", "messageId", job.ID)
}

// Waiting is how many jobs wait for a refetch, for the rate limit or for the
// Edge API to come back. They cost nothing but their memory.
func (e *Engine) Waiting() int { return e.refetcher.waiting() }

// Stop makes jobs that cannot be finished at once end as returned, as far as
// they wait for something: Redis, the Edge API, its rate limit. Jobs that do
// not wait are finished.
func (e *Engine) Stop() { e.stop() }

// Wait waits until no job is in hand.
func (e *Engine) Wait() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.jobs > 0 {
		e.idle.Wait()
	}
}

func (e *Engine) count(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.jobs += n; e.jobs == 0 {
		e.idle.Broadcast()
	}
}

// run carries out a job in its customer's lane.
func (e *Engine) run(job Job) {
	e.guard(&job, func() {
		result, pending := e.carryOut(job)
		if !pending {
			job.Done(result)
		}
	})
}

// guard turns a panic of work into the job's result.
func (e *Engine) guard(job *Job, work func()) {
	defer func() {
		if value := recover(); value != nil {
			e.panicked(value, job.Message.Type, job.ID)
			job.Done(Result{Outcome: Panicked, Fate: Leave, Err: errPanicked})
		}
	}()
	work()
}

// panicked counts and reports a panic. Its value can quote a message, so that
// it is not logged.
func (e *Engine) panicked(value any, messageType, messageID string) {
	e.config.Metrics.Panics.Inc()
	e.config.Log.Error("panic while a message was worked on; it stays in the queue",
		"type", messageType, "messageId", messageID, "stack", string(debug.Stack()))
	if e.config.OnPanic != nil {
		e.config.OnPanic(value, messageType, messageID)
	}
}

// carryOut does what a message asks for. It reports true if the job was handed
// on to be refetched.
func (e *Engine) carryOut(job Job) (result Result, pending bool) {
	ctx := e.ctx
	switch job.Message.Action {
	case message.Write:
		return e.write(ctx, job)
	case message.UpdateUsage:
		m := &job.Message
		return e.updateUsage(ctx, m.Key, m.Ref, m.Usage, job.At), false
	case message.UpdateBalance:
		return e.updateBalance(ctx, job)
	case message.Refetch:
		return e.refetcher.submit(job)
	case message.PurgeCustomer:
		return e.purgeCustomer(ctx, job), false
	}
	return failed(errNoAction), false
}

// written turns what became of a write into a result.
func (e *Engine) written(r cache.WriteResult) Result {
	e.config.Metrics.SkippedOlder.Add(float64(r.Skipped))
	switch {
	case r.Applied > 0:
		return done(Applied)
	case r.Skipped > 0:
		return done(SkippedOlder)
	}
	return done(NotCached)
}

// untilStopped is for work that has to be finished even though the engine
// stops, for a while.
func untilStopped(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), most)
}
