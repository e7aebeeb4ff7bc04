package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// togetherClient is a client as the service has it.
func togetherClient(t *testing.T, server *redistest.Server) *redis.Client {
	options := redisOptions(&config.Config{RedisHost: server.Host(), RedisPort: server.Port()})
	connections := redis.NewClient(options)
	client := sendTogether(connections, options, noPanic(t))
	t.Cleanup(func() {
		require.NoError(t, client.Close())
		require.NoError(t, connections.Close())
	})
	return client
}

func noPanic(t *testing.T) func(any) {
	return func(value any) { t.Errorf("panic: %v", value) }
}

// soon is a context with as much time as the service gives.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// many does something in many goroutines, and returns when all are done.
func many(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func stat(t *testing.T, client *redis.Client, section, name string) int {
	t.Helper()
	info, err := client.InfoMap(t.Context(), section).Result()
	require.NoError(t, err)
	for _, fields := range info {
		if value, ok := fields[name]; ok {
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("redis does not tell %s", name)
	return 0
}

// Everyone gets the answer to his own command, each command is carried out
// once, and Redis reads many at once.
func TestTogether(t *testing.T) {
	server := redistest.Start(t)
	client, ctx := togetherClient(t, server), soon(t)
	before, read := stat(t, client, "stats", "total_commands_processed"), stat(t, client, "stats", "total_reads_processed")
	const callers, rounds = 50, 40
	many(callers, func(i int) {
		key := fmt.Sprint("key-", i)
		for n := range rounds {
			got, err := client.Incr(ctx, key).Result()
			if err != nil || got != int64(n+1) {
				t.Errorf("%s: %d, %v in round %d", key, got, err, n)
			}
		}
	})
	commands := stat(t, client, "stats", "total_commands_processed") - before
	require.Less(t, commands-callers*rounds, 2*redisPool, "beside ours, only what a connection begins with")
	require.GreaterOrEqual(t, commands, callers*rounds)
	require.Less(t, stat(t, client, "stats", "total_reads_processed")-read, commands/2)
}

// The error of a command is that of who asked for it, and of nobody else.
func TestTogetherErrors(t *testing.T) {
	server := redistest.Start(t)
	client, ctx := togetherClient(t, server), soon(t)
	require.NoError(t, client.Set(ctx, "text", "x", 0).Err())
	script := redis.NewScript(`return ARGV[1]`)
	many(60, func(i int) {
		for range 20 {
			switch i % 4 {
			case 0:
				if err := client.Incr(ctx, "text").Err(); err == nil || !strings.Contains(err.Error(), "not an integer") {
					t.Errorf("text is no number, but: %v", err)
				}
			case 1:
				if err := client.Get(ctx, "nothing").Err(); !errors.Is(err, redis.Nil) {
					t.Errorf("nothing is there, but: %v", err)
				}
			case 2:
				if got, err := script.Run(ctx, client, nil, i).Int(); err != nil || got != i {
					t.Errorf("script: %d, %v", got, err)
				}
			case 3:
				if got, err := client.Get(ctx, "text").Result(); err != nil || got != "x" {
					t.Errorf("text: %q, %v", got, err)
				}
			}
		}
	})
}

// Nobody waits much longer than he may for a Redis that does not answer, who
// has little time waits for nobody, and all goes on when Redis is back.
func TestTogetherFrozen(t *testing.T) {
	server := redistest.Start(t)
	client, ctx := togetherClient(t, server), soon(t)
	require.NoError(t, client.Ping(ctx).Err())
	server.Pause()
	began := time.Now()
	var frozen sync.WaitGroup
	for i := range 40 {
		frozen.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%3)*time.Second)
			defer cancel()
			if client.Get(ctx, "x").Err() == nil {
				t.Error("an answer from nowhere")
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	short, cancel := context.WithTimeout(t.Context(), togetherLeast/2)
	defer cancel()
	require.Error(t, client.Get(short, "x").Err())
	require.Less(t, time.Since(began), time.Second)
	frozen.Wait()
	require.Less(t, time.Since(began), 5*time.Second+redisTimeout)
	server.Resume()
	many(20, func(int) {
		if err := client.Set(soon(t), "x", "y", 0).Err(); err != nil {
			t.Error(err)
		}
	})
}

// One who waited until his time was over does not fail those who have time.
func TestTogetherLate(t *testing.T) {
	server := redistest.Start(t)
	client := togetherClient(t, server)
	require.NoError(t, client.Ping(soon(t)).Err())
	front := &together{client: client, underWay: 1}
	late := &asked{command: redis.NewStatusCmd(t.Context(), "ping"), deadline: time.Now().Add(-time.Second), done: make(chan struct{})}
	good := &asked{command: redis.NewStatusCmd(t.Context(), "ping"), deadline: time.Now().Add(10 * time.Second), done: make(chan struct{})}
	front.send([]*asked{late, good})
	<-late.done
	<-good.done
	require.ErrorIs(t, late.command.Err(), context.DeadlineExceeded)
	require.NoError(t, good.command.Err())
	front.send([]*asked{{command: late.command, deadline: late.deadline, done: make(chan struct{})}})
}

// A client that was closed answers everyone.
func TestTogetherClosed(t *testing.T) {
	server := redistest.Start(t)
	options := redisOptions(&config.Config{RedisHost: server.Host(), RedisPort: server.Port()})
	connections := redis.NewClient(options)
	client := sendTogether(connections, options, noPanic(t))
	ctx := soon(t)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			for client.Incr(ctx, "x").Err() == nil {
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, connections.Close())
	all.Wait()
	require.NoError(t, client.Close())
	require.ErrorIs(t, client.Ping(ctx).Err(), redis.ErrClosed)
}

// A Redis that refuses the login of new connections has answered nobody.
func TestTogetherRefusedLogin(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	require.NoError(t, admin.ConfigSet(t.Context(), "requirepass", "new").Err())
	options := redisOptions(&config.Config{RedisHost: server.Host(), RedisPort: server.Port(), RedisPassword: "old"})
	connections := redis.NewClient(options)
	client := sendTogether(connections, options, noPanic(t))
	t.Cleanup(func() {
		require.NoError(t, client.Close())
		require.NoError(t, connections.Close())
	})
	many(60, func(int) {
		if err := client.Exists(soon(t), "x").Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("redis never saw it, but: %v", err)
		}
	})
	pipe := client.Pipeline()
	piped := pipe.MGet(t.Context(), "x", "y")
	_, err := pipe.Exec(t.Context())
	require.ErrorContains(t, err, "WRONGPASS")
	require.ErrorIs(t, piped.Err(), err)
}

// explosive is an argument that cannot be sent.
type explosive struct{}

func (explosive) MarshalBinary() ([]byte, error) { panic("boom") }

// A panic in a sending fails those whose commands were sent together, and
// nobody waits for ever.
func TestTogetherPanic(t *testing.T) {
	server := redistest.Start(t)
	client := togetherClient(t, server)
	require.NoError(t, client.Ping(soon(t)).Err())
	var told any
	front := &together{client: client, underWay: togetherUnderWay, panicked: func(value any) { told = value }}
	batch := make([]*asked, 2)
	for i, argument := range []any{"x", explosive{}} {
		batch[i] = &asked{command: redis.NewStatusCmd(t.Context(), "set", "key", argument), deadline: time.Now().Add(time.Second), done: make(chan struct{})}
	}
	front.send(batch)
	for _, a := range batch {
		<-a.done
		require.ErrorIs(t, a.command.Err(), errSendPanicked)
	}
	require.Equal(t, "boom", told)
	require.Equal(t, togetherUnderWay-1, front.underWay, "another may be sent in its place")
	require.NoError(t, client.Ping(soon(t)).Err())
}
