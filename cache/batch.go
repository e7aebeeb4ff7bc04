package cache

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/internal/redispipe"
)

// batcher reads keys for many callers at once. While few reads are under way
// each goes out by itself, at once; those that come in while batchReaders are
// under way wait for one of them to end, and then go out together, in one
// command. Under load that makes one round trip of many without ever waiting
// for company.
//
// Each caller keeps its own context and deadline. What goes out for several
// runs under a deadline of its own, so that one caller's cancellation fails
// nobody else.
type batcher struct {
	client  *redis.Client
	timeout time.Duration
	// bounded says that the client waits no longer than timeout for a
	// connection: it does not heed deadlines there.
	bounded bool

	mu      sync.Mutex
	readers int // commands under way, of those that are not large
	callers int // that they read for
	larges  int // commands under way, of those that are
	waiting []*batchRead
	// The fastest command for several callers lately, and when that was.
	fastest   time.Duration
	fastestAt time.Time

	buffers sync.Pool // of *[]byte, for large values
}

const (
	// batchReaders is how many commands may be under way at once.
	batchReaders = 4
	// batchReadersNear is how many, where from batchFew to batchMany callers
	// are there and Redis is near: while the replies of one command are judged,
	// it works on the other, and more commands would only read for fewer
	// callers each. Where Redis is further away, more of them fill the time
	// that the network takes.
	batchReadersNear = 2
	batchFew         = 16
	batchMany        = 2 * batchMost
	// batchNear is how fast a Redis that is near answers, and batchNearFor how
	// long an answer tells that it is.
	batchNear    = 300 * time.Microsecond
	batchNearFor = time.Second
	// batchMost is how many callers one command reads for, at most, and
	// batchBytes how much, as far as that is known.
	batchMost  = 128
	batchBytes = 1 << 20
	// batchLarge is the size of a customer value, in bytes, from which on reads
	// go out by themselves: a reply of megabytes delays all that wait for it.
	batchLarge = 32 << 10
	// batchKeys is the most keys of a read that goes out with others: those of
	// many entitlements are better spread over several connections.
	batchKeys = 32
	// inlineTimeout is the longest timeout with which a read may run in the
	// caller's own goroutine.
	inlineTimeout = 150 * time.Millisecond
	// batchTimeout bounds a read for several callers where Options.Timeout
	// does not.
	batchTimeout = 5 * time.Second
)

func newBatcher(client *redis.Client, timeout time.Duration) *batcher {
	o := client.Options()
	return &batcher{client: client, timeout: timeout, bounded: o.DialTimeout <= timeout && o.PoolTimeout <= timeout}
}

// batchRead is what one caller reads: the values of keys, and, with size, the
// length of the first key in place of its value.
type batchRead struct {
	keys  []string
	size  bool
	large bool    // to be read alone
	known *parsed // the value that the first key had, if it is known
	gone  atomic.Bool

	done   chan struct{}
	values []any
	length int
	err    error
}

// get reads keys for one caller. known is the customer value that the first of
// them had when it was last read, nil if it is not known or not read.
func (b *batcher) get(ctx context.Context, keys []string, known *parsed) ([]any, error) {
	large := known.large() || len(keys) > batchKeys
	if b.inline(ctx) {
		if large {
			b.count(1)
			defer b.count(-1)
			return b.getAlone(ctx, keys, known)
		}
		if b.enter() {
			defer b.next()
			return b.getAlone(ctx, keys, known)
		}
	}
	_, values, err := b.join(ctx, &batchRead{keys: keys, large: large, known: known})
	return values, err
}

// getAlone reads keys with nobody else. known is as for get.
func (b *batcher) getAlone(ctx context.Context, keys []string, known *parsed) ([]any, error) {
	if known.large() {
		if values, same := b.getLarge(ctx, keys, known.raw); same {
			return values, nil
		}
	}
	return b.client.MGet(ctx, keys...).Result()
}

// getLarge reads keys as one MGET would, if the value of the first, which is a
// large one, is still the one that is known; the third is its timestamp. It
// reads the value into memory that is used again, because to allocate what is
// only compared costs more than the rest of a check. The other keys are read
// before the value: that they belong to it is sure if the timestamp is the same
// after it.
func (b *batcher) getLarge(ctx context.Context, keys []string, known string) (values []any, same bool) {
	const slack, forTime = 1024, 512 // a reply that does not fit costs the connection
	buffer, _ := b.buffers.Get().(*[]byte)
	if buffer == nil || len(*buffer) < forTime+len(known)+slack {
		made := make([]byte, forTime+len(known)+len(known)/4+slack)
		buffer = &made
	}
	defer b.buffers.Put(buffer)
	// All arguments in one piece of memory.
	args := make([]any, 0, len(keys)+4)
	args = append(args, "mget")
	for _, key := range keys[1:] {
		args = append(args, key)
	}
	n := len(args)
	args = append(args, "get", keys[0], "get", args[2])
	others := redis.NewSliceCmd(ctx, args[:n]...)
	value := redis.NewZeroCopyStringCmd(ctx, (*buffer)[forTime:], args[n:n+2]...)
	after := redis.NewZeroCopyStringCmd(ctx, (*buffer)[:forTime:forTime], args[n+2:]...)
	pipe := b.client.Pipeline()
	if err := pipe.BatchProcess(ctx, others, value, after); err != nil {
		return nil, false
	}
	if err := redispipe.Send(ctx, pipe); err != nil {
		return nil, false
	}
	rest := others.Val()
	if len(rest) != len(keys)-1 {
		return nil, false
	}
	if before, ok := rest[1].(string); !ok || before != string(after.Bytes()) {
		return nil, false
	}
	if string(value.Bytes()) != known {
		return nil, false // with an equal timestamp the other keys may be of the value before
	}
	return append(append(make([]any, 0, len(keys)), known), rest...), true
}

// sizeAndGet reads the length of the first key and the values of the others.
func (b *batcher) sizeAndGet(ctx context.Context, keys []string) (int, []any, error) {
	if b.inline(ctx) && b.enter() {
		defer b.next()
		return b.sizeAndGetAlone(ctx, keys)
	}
	return b.join(ctx, &batchRead{keys: keys, size: true})
}

// inline reports whether a read may run in the caller's own goroutine. go-redis
// heeds a context's deadline there, but not its cancellation: a caller that
// cancels waits for the reply, for the timeout at most. Where that is short it
// is not worth the goroutine.
func (b *batcher) inline(ctx context.Context) bool {
	if b.timeout <= 0 {
		return ctx.Done() == nil
	}
	return b.bounded && (ctx.Done() == nil || b.timeout <= inlineTimeout)
}

func (b *batcher) sizeAndGetAlone(ctx context.Context, keys []string) (int, []any, error) {
	pipe := b.client.Pipeline()
	length := pipe.StrLen(ctx, keys[0])
	values := pipe.MGet(ctx, keys[1:]...)
	_ = redispipe.Send(ctx, pipe) // every command has its own error
	return int(length.Val()), values.Val(), firstError(length.Err(), values.Err())
}

// enter reports whether a read may go out by itself; then next must be called.
func (b *batcher) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readers >= b.most() {
		return false
	}
	b.readers++
	b.callers++
	return true
}

// most is how many commands may be under way; mu is held.
func (b *batcher) most() int {
	if n := b.callers + len(b.waiting); n >= batchFew && n <= batchMany && b.fastest < batchNear {
		return batchReadersNear
	}
	return batchReaders
}

// join reads in another goroutine, together with others if enough are under way.
func (b *batcher) join(ctx context.Context, r *batchRead) (int, []any, error) {
	// The keys may be parts of the caller's stack, which this read can outlive.
	r.keys, r.done = append([]string(nil), r.keys...), make(chan struct{})
	b.mu.Lock()
	alone := r.large || b.readers < b.most()
	switch {
	case r.large:
		b.larges++
	case alone:
		b.readers++
		b.callers++
	default:
		b.waiting = append(b.waiting, r)
	}
	b.mu.Unlock()
	var timeout <-chan time.Time
	if alone {
		go b.runAlone(ctx, r)
	}
	if deadline, ok := ctx.Deadline(); ok && (!alone || !b.bounded) {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-r.done:
		return r.length, r.values, r.err
	case <-ctx.Done():
		r.gone.Store(true)
		return 0, nil, ctx.Err()
	case <-timeout:
		r.gone.Store(true)
		if _, ours := ctx.(*deadlineContext); ours {
			return 0, nil, ErrNoAnswer
		}
		return 0, nil, context.DeadlineExceeded // its timer is a little late
	}
}

// runAlone reads for one caller, under its own deadline, and then gives its
// place to those that wait.
func (b *batcher) runAlone(ctx context.Context, r *batchRead) {
	if r.size {
		r.length, r.values, r.err = b.sizeAndGetAlone(ctx, r.keys)
	} else {
		r.values, r.err = b.getAlone(ctx, r.keys, r.known)
	}
	close(r.done)
	if r.large {
		b.count(-1)
		return
	}
	b.next()
}

// count counts the large reads under way.
func (b *batcher) count(n int) {
	b.mu.Lock()
	b.larges += n
	b.mu.Unlock()
}

// next gives the place of a read for one caller, which has ended, to those that
// wait.
func (b *batcher) next() {
	if reads := b.take(1); len(reads) > 0 {
		go b.loop(reads)
	}
}

// loop reads for those that wait, until nobody does.
func (b *batcher) loop(reads []*batchRead) {
	for len(reads) > 0 {
		began := time.Now()
		b.runAll(reads)
		b.took(began, time.Now())
		// Those that have their values now come back for more: together, if
		// they are let go first.
		runtime.Gosched()
		reads = b.take(len(reads))
	}
}

// took notes how long a command took.
func (b *batcher) took(began, ended time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if took := ended.Sub(began); took < b.fastest || ended.Sub(b.fastestAt) > batchNearFor {
		b.fastest, b.fastestAt = took, ended
	}
}

// take takes the reads that go out together next, in place of a command for so
// many callers that has ended; none, if that command's place is not needed. It
// leaves their part to the other commands that may be under way.
func (b *batcher) take(ended int) []*batchRead {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.callers -= ended
	b.waiting = slices.DeleteFunc(b.waiting, func(r *batchRead) bool { return r.gone.Load() })
	most := b.most()
	if len(b.waiting) == 0 || b.readers > most {
		b.readers--
		return nil
	}
	part := max(batchFew, (b.callers+len(b.waiting)+most-1)/most)
	limit := min(len(b.waiting), batchMost, part)
	n, size := 0, 0
	for n < limit && size < batchBytes {
		size += b.waiting[n].expected()
		n++
	}
	b.callers += n
	reads := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	return reads
}

// expected is how many bytes a read will bring, as far as that is known.
func (r *batchRead) expected() int {
	if r.known == nil {
		return 0
	}
	return len(r.known.raw)
}

// drain waits until no read is under way, as long as ctx allows.
func (b *batcher) drain(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		idle := b.readers+b.larges == 0
		b.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// firstError is the first error of a reading. A key of another type has no
// length, and is no failure of Redis.
func firstError(length, values error) error {
	if length != nil && !redis.HasErrorPrefix(length, "WRONGTYPE") {
		return length
	}
	return values
}

// runAll reads for several callers, each of which may have given up meanwhile.
func (b *batcher) runAll(reads []*batchRead) {
	timeout := b.timeout
	if timeout <= 0 {
		timeout = batchTimeout
	}
	ctx := &deadlineContext{Context: context.Background(), deadline: time.Now().Add(timeout)}
	var keys []string
	sizes := 0
	for _, r := range reads {
		if r.size {
			sizes++
			keys = append(keys, r.keys[1:]...)
		} else {
			keys = append(keys, r.keys...)
		}
	}
	lengths := make([]*redis.IntCmd, 0, sizes)
	var all []any
	var err error
	if sizes == 0 {
		all, err = b.client.MGet(ctx, keys...).Result()
	} else {
		pipe := b.client.Pipeline()
		for _, r := range reads {
			if r.size {
				lengths = append(lengths, pipe.StrLen(ctx, r.keys[0]))
			}
		}
		values := pipe.MGet(ctx, keys...)
		_ = redispipe.Send(ctx, pipe) // every command has its own error
		all, err = values.Result()
	}
	if err == nil && len(all) != len(keys) {
		err = errOtherNumber
	}
	for _, r := range reads {
		n := len(r.keys)
		r.err = err
		if r.size {
			n--
			length := lengths[0]
			lengths = lengths[1:]
			r.length, r.err = int(length.Val()), firstError(length.Err(), err)
		}
		if err == nil {
			r.values, all = all[:n:n], all[n:]
		}
		close(r.done)
	}
}
