package storetest

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
)

// foreign is the token of another program.
const foreign = "token-of-another-program"

// lockCases are the rules of the lock under which a customer is written.
func lockCases() []testCase {
	return []testCase{
		{"it is held while writing, and given back", func(b *bed) {
			lock := cache.WriteLockKey(b.prefix, customer)
			var tokens []string
			for range 2 {
				b.onceBefore(b.value(customer), func() {
					tokens = append(tokens, b.get(lock))
					ttl := b.client.PTTL(b.Context(), lock).Val()
					require.Positive(b, ttl)
					require.LessOrEqual(b, ttl, 5*time.Second)
				})
				b.write(customer, sample(), cache.WriteOptions{})
				b.requireNoKey(lock)
			}
			require.Len(b, tokens, 2)
			require.NotEmpty(b, tokens[0])
			require.NotEqual(b, tokens[0], tokens[1], "every lock has a token of its own")
		}},
		{"it is given back after a write that changed nothing", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{Policy: cache.UpdateIfExists})
			require.Empty(b, b.keys(b.Context()))
		}},
		{"while another program holds it nothing is written", func(b *bed) {
			lock := cache.WriteLockKey(b.prefix, customer)
			b.set(lock, foreign)
			ctx, cancel := context.WithTimeout(b.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := b.store.WriteState(ctx, customer, sample(), cache.WriteOptions{})
			require.ErrorIs(b, err, cache.ErrLocked)
			require.Less(b, time.Since(start), 2*time.Second)
			b.requireKey(foreign, lock)
			require.Equal(b, []string{lock}, b.keys(b.Context()))
		}},
		{"once another program has let go of it the write goes on", func(b *bed) {
			lock := cache.WriteLockKey(b.prefix, customer)
			b.set(lock, foreign)
			release := time.AfterFunc(200*time.Millisecond, func() { b.client.Del(b.Context(), lock) })
			defer release.Stop()
			start := time.Now()
			b.write(customer, sample(), cache.WriteOptions{})
			require.GreaterOrEqual(b, time.Since(start), 200*time.Millisecond)
			b.requireHit(customer, calls)
			b.requireNoKey(lock)
		}},
		{"another program's lock is not taken away", func(b *bed) {
			// Ours ran out in mid-write, and somebody else took it.
			lock := cache.WriteLockKey(b.prefix, customer)
			b.onceBefore(b.value(customer), func() {
				b.delete(lock)
				b.set(lock, foreign)
			})
			b.write(customer, sample(), cache.WriteOptions{})
			b.requireKey(foreign, lock)
		}},
		{"a lock that ran out is not missed", func(b *bed) {
			lock := cache.WriteLockKey(b.prefix, customer)
			b.onceBefore(b.value(customer), func() { b.delete(lock) })
			b.requireApplied(4, 0, b.write(customer, sample(), cache.WriteOptions{}))
			b.requireNoKey(lock)
		}},
		{"a resource has a lock of its own", func(b *bed) {
			b.set(cache.WriteLockKey(b.prefix, customer), foreign)
			b.write(resource, sample(), cache.WriteOptions{})
			b.requireHitBeside(resource)
			b.delete(cache.WriteLockKey(b.prefix, customer))
			b.set(cache.WriteLockKey(b.prefix, resource), foreign)
			b.write(customer, sample(), cache.WriteOptions{})
			b.requireHit(customer, calls)
		}},
		{"reads do not wait for it", func(b *bed) {
			b.write(customer, sample(), cache.WriteOptions{})
			b.set(cache.WriteLockKey(b.prefix, customer), foreign)
			b.requireHit(customer, calls)
			b.requireFaults(0, b.readState(customer).Faults)
		}},
	}
}

// refetchCases are the rules of the lock under which a customer is refetched,
// and of the announcement that follows.
func refetchCases() []testCase {
	take := func(b *bed, k cache.Key) *cache.Lock {
		b.Helper()
		lock, err := b.store.TryRefetchLock(b.Context(), k)
		require.NoError(b, err)
		return lock
	}
	requireLocked := func(b *bed, want bool) {
		b.Helper()
		locked, err := b.store.RefetchLocked(b.Context(), customer)
		require.NoError(b, err)
		require.Equal(b, want, locked)
	}
	return []testCase{
		{"one has it at a time", func(b *bed) {
			requireLocked(b, false)
			lock := take(b, customer)
			require.NotNil(b, lock)
			requireLocked(b, true)
			require.Nil(b, take(b, customer))
			require.NotNil(b, take(b, resource), "a resource has its own")
			ttl := b.client.PTTL(b.Context(), cache.RefetchLockKey(b.prefix, customer)).Val()
			require.Greater(b, ttl, cache.LockTTL-time.Second)
			require.LessOrEqual(b, ttl, cache.LockTTL)
			require.NoError(b, lock.Release(b.Context()))
			requireLocked(b, false)
			require.NotNil(b, take(b, customer))
		}},
		{"it is extended while it is ours", func(b *bed) {
			name := cache.RefetchLockKey(b.prefix, customer)
			lock := take(b, customer)
			require.NoError(b, b.client.PExpire(b.Context(), name, 2*time.Second).Err())
			ours, err := lock.Extend(b.Context())
			require.NoError(b, err)
			require.True(b, ours)
			require.Greater(b, b.client.PTTL(b.Context(), name).Val(), cache.LockTTL-time.Second)
		}},
		{"another program's is left alone", func(b *bed) {
			name := cache.RefetchLockKey(b.prefix, customer)
			lock := take(b, customer)
			b.set(name, foreign)
			require.Nil(b, take(b, customer))
			ours, err := lock.Extend(b.Context())
			require.NoError(b, err)
			require.False(b, ours)
			require.NoError(b, lock.Release(b.Context()))
			b.requireKey(foreign, name)
			b.delete(name)
			ours, err = lock.Extend(b.Context())
			require.NoError(b, err)
			require.False(b, ours, "a lock that is gone is not taken again")
			requireLocked(b, false)
		}},
		{"its end is announced to those who wait", func(b *bed) {
			announcements := b.store.NewAnnouncements()
			defer announcements.Close()
			for _, k := range []cache.Key{customer, resource} {
				for success, failure := range map[bool]error{true: nil, false: errors.New("boom")} {
					wait, err := announcements.Wait(b.Context(), k)
					require.NoError(b, err)
					require.NoError(b, b.store.Announce(b.Context(), k, failure))
					select {
					case got := <-wait.C:
						require.Equal(b, success, got)
					case <-time.After(5 * time.Second):
						require.Fail(b, "not heard")
					}
					wait.Close()
				}
			}
		}},
		{"the announcement has the form that other programs know", func(b *bed) {
			heard := b.client.Subscribe(b.Context(), cache.RefetchChannel(b.prefix, customer))
			defer func() { require.NoError(b, heard.Close()) }()
			_, err := heard.Receive(b.Context())
			require.NoError(b, err)
			for want, failure := range map[string]error{`{}`: nil, `{"error":"boom"}`: errors.New("boom")} {
				require.NoError(b, b.store.Announce(b.Context(), customer, failure))
				message, err := heard.ReceiveMessage(b.Context())
				require.NoError(b, err)
				require.Equal(b, want, message.Payload)
			}
		}},
	}
}

// requireHitBeside checks that a resource is cached, whether its customer is or not.
func (b *bed) requireHitBeside(k cache.Key) {
	b.Helper()
	b.requireFaults(0, b.read(k, calls).Faults&^cache.GlobalAbsent)
}

// onceBefore calls do before the next command of the client that names key.
func (b *bed) onceBefore(key string, do func()) {
	b.client.AddHook(&onceBefore{key: key, do: do})
}

type onceBefore struct {
	key  string
	do   func()
	done atomic.Bool
}

func (h *onceBefore) look(commands ...redis.Cmder) {
	for _, c := range commands {
		for _, arg := range c.Args() {
			if arg == h.key && h.done.CompareAndSwap(false, true) {
				h.do()
			}
		}
	}
}

// DialHook changes nothing.
func (h *onceBefore) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook looks at commands that are sent alone.
func (h *onceBefore) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		h.look(c)
		return next(ctx, c)
	}
}

// ProcessPipelineHook looks at commands that are sent together.
func (h *onceBefore) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		h.look(commands...)
		return next(ctx, commands)
	}
}
