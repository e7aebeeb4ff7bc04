// Package consumer takes messages from the queue, has them carried out, and
// deletes them when that is done, and not before.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/metrics"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

const (
	// receiveGrace is how much longer than it waits for messages a receive may
	// take when the service stops. One that is given up can have taken
	// messages from the queue, which then stay hidden for their whole time.
	receiveGrace = 2 * time.Second
	// maxInHand is how many messages may be in hand, those aside that wait for
	// a refetch. Receives that are under way when that is reached come on top.
	maxInHand = 256
	// maxUntold is of how many messages that are in hand no more the queue may
	// not have been told yet. It bounds what piles up while the queue hands out
	// messages and takes nothing back; with all that can be in hand it stays
	// below what a batcher takes.
	maxUntold = 512
	// maxBytesAtWork is from how many bytes of messages on no other is worked
	// on at the same time: reading and writing one takes some times its size.
	maxBytesAtWork = 1 << 20
	// retryFirst and retryMost bound the wait after a failed receive.
	retryFirst = 250 * time.Millisecond
	retryMost  = 20 * time.Second
	// deleteTries is how often to try to delete. What could not be deleted
	// comes again, which changes nothing.
	deleteTries = 5
	// callsGrace is how much longer than the work itself the calls to the queue
	// may take that come after it when the service stops.
	callsGrace = 1500 * time.Millisecond
)

// Config configures a Consumer. All of it is required.
type Config struct {
	Queue      queue.Queue
	Engine     *apply.Engine
	Redis      *watch.Gate       // nothing is received while Redis is away
	State      *watch.Dependency // of the queue
	Consumers  int               // receives under way at the same time
	BatchSize  int               // messages per receive
	Wait       time.Duration     // how long a receive waits for messages
	Visibility time.Duration     // how long messages in hand are hidden, extended in time
	Metrics    *metrics.Metrics
	Log        *slog.Logger
	OnPanic    func(value any, messageType, messageID string)
}

// Consumer consumes one queue.
type Consumer struct {
	config  Config
	calls   context.Context // of the calls to the queue that come after the work; see Run
	running atomic.Int32    // receivers that work
	deletes *batcher[string]
	returns *batcher[returned]

	deleting *watch.Dependency // whether messages can be deleted

	fewer, smaller room // below maxInHand, below maxBytesAtWork

	mu     sync.Mutex
	inHand map[*delivery]struct{}
	orders orders
	bytes  int                          // of the messages that are worked on
	counts map[string]map[string]uint64 // by type and outcome
	last   time.Time
	logged memory
}

// delivery is a message in hand.
type delivery struct {
	message     queue.Message
	held        int // what it counts for in the bytes in hand
	size        int // what it counts for in those that are worked on
	received    time.Time
	hiddenUntil time.Time
}

type returned struct {
	receipt string
	delay   time.Duration
}

// New makes a Consumer. Nothing is received until Run.
func New(config Config) *Consumer {
	return &Consumer{
		config: config, deleting: watch.NewDependency(sayDeleting(config.Log)), fewer: newRoom(), smaller: newRoom(), orders: newOrders(),
		inHand: map[*delivery]struct{}{}, counts: map[string]map[string]uint64{},
	}
}

// sayDeleting says when deleting begins to fail, and when it works again.
func sayDeleting(log *slog.Logger) func(watch.State) {
	failing := false
	return func(s watch.State) {
		switch {
		case !s.Up:
			log.Error("messages that were dealt with cannot be deleted, and come again", "err", s.LastError)
		case failing:
			log.Info("messages can be deleted again")
		}
		failing = !s.Up
	}
}

// Run consumes until ctx ends; then it finishes what is in hand, gives what is
// not finished within the time for stopping back to the queue, and returns, a
// moment after that time at the latest: a queue that does not answer is not
// waited for. What it was not told comes again, which changes nothing. The
// engine is stopped with it.
func (c *Consumer) Run(ctx context.Context, stopping time.Duration) {
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	c.calls = calls
	c.deletes = newBatcher(c.delete)
	c.returns = newBatcher(c.giveBack)
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	var keeper, receivers sync.WaitGroup
	keeper.Go(func() { c.keepHidden(keeping) })
	for range c.config.Consumers {
		receivers.Go(func() { c.receive(ctx) })
	}
	<-ctx.Done()
	timer := time.NewTimer(stopping)
	defer timer.Stop()
	defer time.AfterFunc(stopping+callsGrace, endCalls).Stop()
	c.config.Engine.Stop()
	receivers.Wait()

	finished := make(chan struct{})
	go func() {
		defer close(finished)
		c.config.Engine.Wait()
	}()
	select {
	case <-finished:
	case <-timer.C:
		c.abandon()
	}
	stopKeeping()
	keeper.Wait()
	c.deletes.close()
	c.returns.close()
}

// Running is how many receivers work: they are connected, and Redis is there.
func (c *Consumer) Running() int { return int(c.running.Load()) }

// receive receives messages, one batch after the other.
func (c *Consumer) receive(ctx context.Context) {
	pollCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(c.config.Wait+receiveGrace, cancel) })()

	works := false
	turn := func(on bool) {
		if works != on {
			works = on
			if on {
				c.running.Add(1)
			} else {
				c.running.Add(-1)
			}
		}
	}
	defer func() { turn(false) }()
	for failures := 0; ctx.Err() == nil; {
		if !c.config.Redis.Up() {
			turn(false)
			if c.config.Redis.Wait(ctx) != nil {
				return
			}
		}
		var placed order
		if !c.fewer.await(ctx, func() (ok bool) {
			placed, ok = c.place()
			return ok
		}) {
			return
		}
		wait := c.config.Wait
		if !works {
			wait = 0 // find out at once whether the queue is there
		}
		large := queue.WithRoom(pollCtx, func(ctx context.Context, bytes int) { c.awaitReading(ctx, &placed, bytes) })
		messages, err := c.config.Queue.Receive(large, placed.messages, wait, c.config.Visibility)
		if err != nil {
			c.unplace(placed)
			if ctx.Err() != nil {
				return
			}
			turn(false)
			c.config.Metrics.QueueErrors.WithLabelValues("receive").Inc()
			if c.Running() == 0 {
				c.config.State.Failed(err)
			} else {
				c.config.State.Erred(err)
			}
			if !watch.Sleep(ctx, watch.Backoff(failures, retryFirst, retryMost)) {
				return
			}
			failures++
			continue
		}
		failures = 0
		turn(true)
		c.config.State.Worked()
		c.acceptAll(ctx, placed, messages)
	}
}

// place returns what to ask the queue for, if there may be more in hand.
func (c *Consumer) place() (order, bool) {
	if c.deletes.pending()+c.returns.pending() >= maxUntold {
		return order{}, false
	}
	waiting := c.config.Engine.Waiting()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inHand)-waiting >= maxInHand {
		return order{}, false
	}
	return c.orders.place(c.config.BatchSize)
}

// awaitReading waits for room for a large answer, for a while.
func (c *Consumer) awaitReading(ctx context.Context, placed *order, bytes int) {
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	c.fewer.await(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.orders.read(placed, bytes)
	})
}

// unplace takes back what failed.
func (c *Consumer) unplace(placed order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders.end(placed)
	c.fewer.tell()
}

// admit counts a message as worked on, if it may be.
func (c *Consumer) admit(d *delivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes >= maxBytesAtWork {
		return false
	}
	d.size = len(d.message.Body)
	c.bytes += d.size
	return true
}

// acceptAll takes messages in hand, all of them before the first is worked on,
// so that none of them shows again meanwhile. It waits while too much is worked
// on, unless the service stops.
func (c *Consumer) acceptAll(ctx context.Context, placed order, messages []queue.Message) {
	now := time.Now()
	deliveries := make([]*delivery, len(messages))
	c.mu.Lock()
	c.orders.arrived(placed, messages)
	if len(messages) > 0 {
		c.last = now
	}
	for i, m := range messages {
		deliveries[i] = &delivery{message: m, held: len(m.Body), received: now, hiddenUntil: now.Add(c.config.Visibility)}
		c.inHand[deliveries[i]] = struct{}{}
	}
	c.mu.Unlock()
	c.fewer.tell()
	// Those that were damaged go first: nothing may name one without a receipt
	// to the queue.
	deliveries = slices.DeleteFunc(deliveries, c.refuse)
	for _, d := range deliveries {
		c.smaller.await(ctx, func() bool { return c.admit(d) })
		c.accept(d)
	}
}

const (
	// unreadable is the label of messages of which not even the type is known.
	unreadable = "unreadable"
	// damaged is the outcome of messages that are not what was sent.
	damaged = "damaged"
)

// refuse leaves a message in the queue that was damaged on its way, if it was.
// It comes again, whole or up to its queue's redrive policy.
func (c *Consumer) refuse(d *delivery) bool {
	if d.message.Damaged == nil {
		return false
	}
	c.finish(d, unreadable, apply.Result{Outcome: damaged, Fate: apply.Leave, Err: d.message.Damaged})
	return true
}

// accept has one message carried out.
func (c *Consumer) accept(d *delivery) {
	m, err := c.decode(d)
	if err != nil {
		outcome := apply.Panicked
		var unread *message.Error
		if errors.As(err, &unread) {
			outcome = unread.Kind
		}
		c.finish(d, unreadable, apply.Result{Outcome: outcome, Fate: apply.Leave, Err: err})
		return
	}
	at := m.Time
	for _, known := range []time.Time{m.SentAt, d.message.SentAt, d.received} {
		if at.IsZero() {
			at = known
		}
	}
	messageType := m.Type
	id := d.message.ID
	d.message.Body = "" // it can be large, and the message can be in hand for long
	if m.Action != message.Write {
		c.shrink(d) // no more of it is kept than the ids
	}
	c.config.Engine.Submit(apply.Job{
		ID: id, Message: m, At: at, ReceiveCount: d.message.ReceiveCount,
		Done:   func(r apply.Result) { c.finish(d, messageType, r) },
		Shrunk: func() { c.shrink(d) },
	})
}

// shrink says that the message takes up no room worth counting any more.
func (c *Consumer) shrink(d *delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release(d)
	c.smaller.tell()
	c.fewer.tell()
}

// release takes a message out of the bytes in hand.
func (c *Consumer) release(d *delivery) {
	c.bytes -= d.size
	c.orders.held -= d.held
	d.size, d.held = 0, 0
}

func (c *Consumer) decode(d *delivery) (m message.Message, err error) {
	defer func() {
		if value := recover(); value != nil {
			c.config.Metrics.Panics.Inc()
			// Its value can quote the message, so that it is not logged.
			c.config.Log.Error("panic while a message was read; it stays in the queue",
				"messageId", d.message.ID, "stack", string(debug.Stack()))
			if c.config.OnPanic != nil {
				c.config.OnPanic(value, unreadable, d.message.ID)
			}
			err = errors.New("panic while the message was read")
		}
	}()
	return message.Decode(d.message.Body)
}

// finish does with a message what its result asks for.
func (c *Consumer) finish(d *delivery, messageType string, r apply.Result) {
	now := time.Now()
	c.mu.Lock()
	if _, there := c.inHand[d]; !there {
		c.mu.Unlock()
		return // given back when the service stopped
	}
	delete(c.inHand, d)
	c.release(d)
	byOutcome := c.counts[messageType]
	if byOutcome == nil {
		byOutcome = map[string]uint64{}
		c.counts[messageType] = byOutcome
	}
	byOutcome[r.Outcome]++
	tell := r.Fate == apply.Leave && c.logged.add(d.message.ID)
	c.mu.Unlock()
	c.fewer.tell()
	c.smaller.tell()

	m := c.config.Metrics
	m.Messages.WithLabelValues(messageType, r.Outcome).Inc()
	m.MessageDuration.Observe(now.Sub(d.received).Seconds())
	switch r.Fate {
	case apply.Delete:
		m.Processed.Inc()
		if !d.message.SentAt.IsZero() {
			m.Lag.Observe(max(0, now.Sub(d.message.SentAt).Seconds()))
		}
		c.deletes.add(d.message.Receipt)
	case apply.Return:
		c.returns.add(returned{d.message.Receipt, r.Delay})
	case apply.Leave:
		if tell {
			c.config.Log.Warn("message is left in the queue",
				"messageId", d.message.ID, "type", messageType, "outcome", r.Outcome, "err", r.Err)
		}
	}
}

// delete deletes a batch, again as long as it may help.
func (c *Consumer) delete(receipts []string) {
	var err error
	for n := range deleteTries {
		if receipts, err = c.config.Queue.Delete(c.calls, receipts); err == nil {
			c.deleting.Worked()
			return
		}
		c.config.Metrics.QueueErrors.WithLabelValues("delete").Inc()
		if len(receipts) == 0 || !watch.Sleep(c.calls, watch.Backoff(n, retryFirst, time.Second)) {
			break
		}
	}
	c.config.State.Erred(fmt.Errorf("messages that were dealt with come again: %w", err))
	if c.calls.Err() == nil {
		c.deleting.Missed(err)
	}
}

// giveBack shows messages in the queue again, at once or after their delay.
func (c *Consumer) giveBack(batch []returned) {
	byDelay := map[time.Duration][]string{}
	for _, r := range batch {
		// Whole quarters of a minute make few groups.
		delay := r.delay.Round(15 * time.Second)
		byDelay[delay] = append(byDelay[delay], r.receipt)
	}
	for delay, receipts := range byDelay {
		if _, err := c.config.Queue.SetVisibility(c.calls, receipts, delay); err != nil {
			// They show again when their time is over.
			c.visibilityFailed(err)
		}
	}
}

func (c *Consumer) visibilityFailed(err error) {
	c.config.Metrics.QueueErrors.WithLabelValues("visibility").Inc()
	c.config.State.Erred(err)
}

// abandon gives back what is still in hand.
func (c *Consumer) abandon() {
	c.mu.Lock()
	rest := make([]*delivery, 0, len(c.inHand))
	for d := range c.inHand {
		rest = append(rest, d)
	}
	clear(c.inHand)
	c.bytes, c.orders.held = 0, 0
	c.mu.Unlock()
	c.config.Log.Warn("messages are given back to the queue: they could not be finished in time", "messages", len(rest))
	for _, d := range rest {
		c.returns.add(returned{receipt: d.message.Receipt})
	}
}
