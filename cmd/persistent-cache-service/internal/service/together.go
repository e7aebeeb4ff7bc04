package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/internal/redispipe"
)

const (
	// togetherUnderWay is how many sendings may be under way at once: while
	// Redis works on one, another is made and the answers to a third are read.
	togetherUnderWay = 3
	// togetherMost is how many commands are sent together: enough to share the
	// cost of a round trip, and with large values still little to wait for.
	togetherMost = 32
	// togetherLeast is the least time that a command must have to be sent with
	// others, because the one with the least has its deadline count for all.
	togetherLeast = 500 * time.Millisecond
)

// errSendPanicked is the error of commands in whose sending something panicked:
// any of them may have been carried out.
var errSendPanicked = errors.New("panic while commands were sent to redis")

// together sends the commands of several goroutines in one write. While few are
// under way each goes out by itself, at once; those that come meanwhile go out
// together when one of these has its answer. It changes nothing for who asks:
// everyone has the answer to a command before the next is sent, and an error of
// his own.
//
// MULTI and EXEC must not be sent through it, nor anything else that belongs to
// one connection: neither a transaction's pipeline nor the commands between are
// kept apart from those of others.
//
// It is a hook of a client that never connects: the hooks of one that does are
// asked about the commands with which a connection begins, too, which must go
// out on that connection and nowhere else.
type together struct {
	client   *redis.Client   // that connects
	panicked func(value any) // is told of a panic that was caught

	mu       sync.Mutex
	underWay int
	waiting  []*asked
}

// asked is a command that waits to be sent.
type asked struct {
	command  redis.Cmder
	deadline time.Time
	done     chan struct{}
}

// sendTogether makes a client that sends through another, which its user
// closes. The options are those of both. A panic that nobody else could catch
// is told to panicked.
func sendTogether(client *redis.Client, options *redis.Options, panicked func(value any)) *redis.Client {
	front := redis.NewClient(options)
	front.AddHook(&together{client: client, panicked: panicked})
	return front
}

// DialHook implements redis.Hook.
func (*together) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (t *together) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return t.exec
}

// ProcessHook implements redis.Hook.
func (t *together) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		deadline, limited := ctx.Deadline()
		if !limited || time.Until(deadline) < togetherLeast {
			return t.client.Process(ctx, command)
		}
		a := t.enter(command, deadline)
		if a == nil {
			defer t.next()
			return t.client.Process(ctx, command)
		}
		<-a.done
		return command.Err()
	}
}

// exec sends commands as they are given, in one write.
func (t *together) exec(ctx context.Context, commands []redis.Cmder) error {
	pipe := t.client.Pipeline()
	for _, command := range commands {
		_ = pipe.Process(ctx, command) // only queues it
	}
	return redispipe.Send(ctx, pipe)
}

// failAll gives the error to every command that has none.
func failAll(commands []redis.Cmder, err error) {
	for _, command := range commands {
		if command.Err() == nil {
			command.SetErr(err)
		}
	}
}

// enter returns nil if the command may go out by itself, else what to wait for.
func (t *together) enter(command redis.Cmder, deadline time.Time) *asked {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.underWay < togetherUnderWay {
		t.underWay++
		return nil
	}
	a := &asked{command: command, deadline: deadline, done: make(chan struct{})}
	t.waiting = append(t.waiting, a)
	return a
}

// next puts what waits in the place of a sending that ended.
func (t *together) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.waiting), togetherMost)
	if n == 0 {
		t.underWay--
		return
	}
	batch := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	go t.send(batch)
}

func (t *together) send(batch []*asked) {
	var deadline time.Time // the first
	commands := make([]redis.Cmder, 0, len(batch))
	now := time.Now()
	for _, a := range batch {
		if !a.deadline.After(now) {
			a.command.SetErr(context.DeadlineExceeded) // it waited too long
			continue
		}
		commands = append(commands, a.command)
		if deadline.IsZero() || a.deadline.Before(deadline) {
			deadline = a.deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	defer func() {
		if value := recover(); value != nil {
			failAll(commands, errSendPanicked)
			t.panicked(value)
		}
		t.next()
		for _, a := range batch {
			close(a.done)
		}
	}()
	if len(commands) > 0 {
		_ = t.exec(ctx, commands) // every command has its own error
	}
}
