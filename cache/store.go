package cache

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redispipe"
)

// DefaultTTL is how long a key lives that is not written again.
const DefaultTTL = 7 * 24 * time.Hour

// Options configure a Store.
type Options struct {
	// Client is the connection to Redis: one server, Sentinel or Cluster.
	Client redis.UniversalClient
	// Prefix is the environment prefix. It must equal that of every other
	// program that shares the cache.
	Prefix string
	// TTL is how long keys live; 0 means DefaultTTL, negative means no expiry.
	TTL time.Duration
	// Timeout bounds one read, with all its round trips; 0 means no bound but
	// the caller's context.
	Timeout time.Duration
	// Kept says that readings are kept in a Memory. On a Cluster, where a value
	// can be read with the timestamp of the one after it, each then takes one
	// round trip more, so that it is not confirmed by that timestamp for ever.
	Kept bool
}

// Store reads and writes the shared cache. It is safe for concurrent use.
type Store struct {
	client  redis.UniversalClient
	prefix  string
	ttl     time.Duration
	timeout time.Duration
	memo    *memo
	// single says that all keys live on one server, so that one command can
	// name several of them. On a Cluster they live in different slots.
	single bool
	// detach says that the client ignores deadlines of contexts, so that a
	// command must be waited for from outside.
	detach bool
	batch  *batcher // nil: reads go out one by one
	// timeFirst says to read a value's timestamp before it, too.
	timeFirst bool
}

// NewStore makes a Store. It does not connect.
func NewStore(o Options) *Store {
	ttl := o.TTL
	switch {
	case ttl == 0:
		ttl = DefaultTTL
	case ttl < 0:
		ttl = 0
	}
	s := &Store{client: o.Client, prefix: o.Prefix, ttl: ttl, timeout: o.Timeout, memo: newMemo()}
	switch c := o.Client.(type) {
	case *redis.Client:
		s.single = true
		s.detach = !c.Options().ContextTimeoutEnabled
		s.batch = newBatcher(c, o.Timeout)
	case *redis.ClusterClient:
		s.detach = !c.Options().ContextTimeoutEnabled
	default:
		s.detach = true
	}
	s.timeFirst = o.Kept && !s.single
	return s
}

// Drain waits until no read is under way, as long as ctx allows: a connection
// that is closed under a read makes go-redis complain.
func (s *Store) Drain(ctx context.Context) {
	if s.batch != nil {
		s.batch.drain(ctx)
	}
}

// ErrNoAnswer says that Redis did not answer within Options.Timeout.
var ErrNoAnswer = errors.New("redis did not answer in time")

// Read reads one entitlement of k. With withUsage the usage is read with it,
// which a boolean, enum or numeric entitlement does not need. It takes one
// round trip, and a second for the wallet of a credit-backed feature if it is
// not known yet which wallet that is; if the value changes in between,
// everything is read once more. An error means that Redis could not be asked;
// it is never a miss.
func (s *Store) Read(ctx context.Context, k Key, ref Ref, withUsage bool, r *Reading) error {
	ctx, err := s.Bound(ctx)
	if err != nil {
		return err
	}
	before, err := s.readTimeFirst(ctx, k)
	if err != nil {
		return err
	}
	changed, err := s.read(ctx, k, ref, withUsage, r)
	if err == nil && changed {
		_, err = s.read(ctx, k, ref, withUsage, r)
	}
	r.before = before
	return err
}

// readTimeFirst reads the timestamp of k's value, if that is to be read before
// the value; 0 if not. Each value is written before its timestamp: one that is
// read after the timestamp is that timestamp's or a later one.
func (s *Store) readTimeFirst(ctx context.Context, k Key) (int64, error) {
	if !s.timeFirst {
		return 0, nil
	}
	times, err := s.ReadTimes(ctx, k)
	return times.Value, err
}

// read also reports whether the value changed before the wallet was read.
func (s *Store) read(ctx context.Context, k Key, ref Ref, withUsage bool, r *Reading) (changed bool, err error) {
	known := s.memo.get(k)
	var wallet string
	if withUsage && !ref.IsCredit {
		wallet = walletOf(known, ref)
	}

	keys := s.readKeys(k, ref, withUsage, wallet)
	values, err := s.get(ctx, keys, known)
	if err != nil {
		return false, err
	}

	head, rest := s.readHead(k, known, keys, values)
	*r = Reading{Faults: head.faults, Times: head.times, Damaged: head.damaged}
	if head.value == nil {
		return false, nil
	}
	r.ValueSize = len(head.value.raw)
	it, err := head.value.find(ref)
	if err != nil {
		r.Faults |= ValueUnreadable
		r.Damaged = append(r.Damaged, damaged(keys[0], head.value.raw))
		return false, nil //nolint:nilerr // what cannot be read is a fault of the reading
	}
	f := &r.Facts
	f.Source = entitlements.SourceRedis
	f.DataTime = millisTime(head.times.Value)
	if it == nil {
		f.NoEntitlements = len(head.value.entries) == 0
		var bad bool
		if f.StateDeniedReason, bad = head.reason(); bad {
			r.Faults |= MetadataUnreadable
			r.Damaged = append(r.Damaged, damaged(keys[1], head.metadata.text))
		}
		return false, nil
	}
	f.Definition = &it.definition
	if !withUsage || !it.trackable {
		return false, nil
	}
	usage := s.readUsage(&it.usage, keys[rest:], values[rest:], &f.Usage)
	r.snapshot = &it.usage
	f.DataTime = millisTime(max(head.times.Value, usage.at))
	r.addUsageFaults(usage, UsageAbsent, UsageUnreadable)

	rate := it.definition.CreditRate
	if rate == nil || it.definition.IsCredit {
		return false, nil
	}
	walletItem, err := head.value.find(Ref{IsCredit: true, ID: rate.CurrencyID})
	if err != nil {
		r.Faults |= ValueUnreadable
		r.Damaged = append(r.Damaged, damaged(keys[0], head.value.raw))
		return false, nil //nolint:nilerr // what cannot be read is a fault of the reading
	}
	if walletItem == nil {
		return false, nil
	}
	walletKeys, walletValues := keys[rest+2:], values[rest+2:]
	if wallet != rate.CurrencyID {
		name := UsageKey(s.prefix, k, Ref{IsCredit: true, ID: rate.CurrencyID})
		walletKeys = []string{name, TimestampKey(name), keys[2]}
		if walletValues, err = s.get(ctx, walletKeys, nil); err != nil {
			return false, err
		}
		changed = timestampReply(walletValues[2]) != head.times.Value
	}
	usage = s.readUsage(&walletItem.usage, walletKeys, walletValues, &f.WalletUsage)
	r.walletSnapshot = &walletItem.usage
	f.Wallet = &walletItem.definition
	if at := millisTime(usage.at); at.After(f.DataTime) {
		f.DataTime = at
	}
	r.addUsageFaults(usage, WalletUsageAbsent, WalletUsageUnreadable)
	return changed, nil
}

func (r *Reading) addUsageFaults(u usageReading, absent, unreadable Faults) {
	if u.absent {
		r.Faults |= absent
	}
	if u.damaged.Key != "" {
		r.Faults |= unreadable
		r.Damaged = append(r.Damaged, u.damaged)
	}
}

// walletOf tells the currency that ref draws on, as far as the value that was
// read last says.
func walletOf(v *parsed, ref Ref) string {
	if v == nil {
		return ""
	}
	it, err := v.find(ref)
	if err != nil || it == nil || it.definition.CreditRate == nil {
		return ""
	}
	return it.definition.CreditRate.CurrencyID
}

// head is the part that every reading has: the customer value, its metadata
// and its timestamp.
type head struct {
	value    *parsed // nil: absent or unreadable
	metadata reply
	times    Times
	faults   Faults
	damaged  []Damaged
}

// readHead judges the first replies of a reading and returns how many they were.
func (s *Store) readHead(k Key, known *parsed, keys []string, values []any) (head, int) {
	h := head{times: Times{Value: timestampReply(values[2]), Global: NoTimestamp}, metadata: textReply(values[1])}
	value := textReply(values[0])
	switch {
	case !value.ok:
		h.faults |= ValueAbsent
	case known != nil && known.raw == value.text:
		h.value = known
	default:
		hint := len(value.text)/256 + 4
		v, err := parse(value.text, hint)
		if err != nil {
			h.faults |= ValueUnreadable
			h.damaged = append(h.damaged, damaged(keys[0], value.text))
			break
		}
		v.names = known.stateKeys() // as a rule they are the same; nobody else has v yet
		s.memo.put(k, v)
		h.value = v
	}
	if value.ok && h.times.Value == NoTimestamp {
		h.faults |= TimestampAbsent
	}
	if k.ResourceID == "" {
		return h, 3
	}
	h.times.Global = timestampReply(values[3])
	h.faults |= globalFaults(value.ok, h.times)
	return h, 4
}

func (h *head) reason() (reason entitlements.AccessDeniedReason, bad bool) {
	if !h.metadata.ok {
		return "", false
	}
	reason, err := decodeMetadata(h.metadata.text)
	return reason, err != nil
}

// usageReading says how reading a usage went.
type usageReading struct {
	at      int64
	absent  bool
	damaged Damaged
}

// readUsage reads a usage and its timestamp over the snapshot that came with
// the entitlement, into u.
func (s *Store) readUsage(snapshot *entitlements.Usage, keys []string, values []any, u *entitlements.Usage) usageReading {
	r := usageReading{at: timestampReply(values[1])}
	value := textReply(values[0])
	if !value.ok || r.at == NoTimestamp {
		*u, r.absent = *snapshot, true
		return r
	}
	fields, err := decodeUsage(value.text)
	if err != nil {
		*u, r.damaged = *snapshot, damaged(keys[0], value.text)
		return r
	}
	*u = fields.over(*snapshot)
	u.UpdatedAt = millisTime(r.at)
	return r
}

func millisTime(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// reply is the text of one key; ok is false if the key is absent, or is not a
// string, which nobody who knows the layout writes.
type reply struct {
	text string
	ok   bool
}

func textReply(v any) reply {
	text, ok := v.(string)
	return reply{text: text, ok: ok}
}

func timestampReply(v any) int64 {
	if text, ok := v.(string); ok {
		if ms, ok := parseTimestamp(text); ok {
			return ms
		}
	}
	return NoTimestamp
}

// addHead adds the keys that every reading begins with: value, metadata,
// timestamp and, for a resource, its global customer's timestamp.
func (b *keyNames) addHead(prefix string, k Key) {
	b.add(prefix, k)
	b.add(prefix, k, metadataSuffix)
	b.add(prefix, k, timestampSuffix)
	if k.ResourceID != "" {
		b.add(prefix, k.Customer(), timestampSuffix)
	}
}

func (b *keyNames) addUsage(prefix string, k Key, ref Ref) {
	b.add(prefix, k, usageInfix(ref), ref.ID)
	b.add(prefix, k, usageInfix(ref), ref.ID, timestampSuffix)
}

// readKeys names the keys of a read of one entitlement: those that every
// reading begins with, and if asked for its usage and its wallet's.
func (s *Store) readKeys(k Key, ref Ref, withUsage bool, wallet string) []string {
	var names keyNames
	names.grow(s.namesLen(k, ref, withUsage, wallet))
	names.addHead(s.prefix, k)
	if withUsage {
		names.addUsage(s.prefix, k, ref)
	}
	if wallet != "" {
		names.addUsage(s.prefix, k, Ref{IsCredit: true, ID: wallet})
	}
	return names.names()
}

// namesLen is the size of the names of a read, an upper bound.
func (s *Store) namesLen(k Key, ref Ref, withUsage bool, wallet string) int {
	const longestInfix = len(":credit_")
	base := len(s.prefix) + len(":c_") + len(k.CustomerID)
	if k.ResourceID != "" {
		base += len(":r_") + len(k.ResourceID)
	}
	n := 4*base + len(metadataSuffix) + 2*len(timestampSuffix)
	if withUsage {
		n += 2*(base+longestInfix+len(ref.ID)) + len(timestampSuffix)
	}
	if wallet != "" {
		n += 2*(base+longestInfix+len(wallet)) + len(timestampSuffix)
	}
	return n
}

// ReadState reads all entitlements of k. The value names the usages: what was
// read last tells which they are, so that it takes one round trip, unless they
// are others since. Then it takes a second trip for the usages, and if the
// value changes in between, everything is read once more.
func (s *Store) ReadState(ctx context.Context, k Key) (*StateReading, error) {
	ctx, err := s.Bound(ctx)
	if err != nil {
		return nil, err
	}
	before, err := s.readTimeFirst(ctx, k)
	if err != nil {
		return nil, err
	}
	r, changed, err := s.readState(ctx, k, nil)
	if err == nil && changed != nil {
		r, _, err = s.readState(ctx, k, changed)
	}
	if r != nil {
		r.before = before
	}
	return r, err
}

// readState reads the keys that are named, or those that a reading of all needs
// as far as that is known. If the value changed before its usages were read, it
// also returns the keys that it needed.
func (s *Store) readState(ctx context.Context, k Key, keys []string) (r *StateReading, changed []string, err error) {
	known := s.memo.get(k)
	if keys == nil {
		keys = known.stateKeys()
	}
	if keys == nil || !s.single { // across the servers of a Cluster one trip would not be one moment
		keys = s.headKeys(k)
	}
	values, err := s.get(ctx, keys, known)
	if err != nil {
		return nil, nil, err
	}
	head, rest := s.readHead(k, known, keys, values)
	r = &StateReading{Faults: head.faults, Times: head.times, Damaged: head.damaged}
	if head.value == nil {
		return r, nil, nil
	}
	r.ValueSize = len(head.value.raw)
	items, err := head.value.list(keys[:rest])
	if err != nil {
		r.Faults |= ValueUnreadable
		r.Damaged = append(r.Damaged, damaged(keys[0], head.value.raw))
		return r, nil, nil //nolint:nilerr // what cannot be read is a fault of the reading
	}
	if len(items) == 0 {
		var bad bool
		if r.DeniedReason, bad = head.reason(); bad {
			r.Faults |= MetadataUnreadable
			r.Damaged = append(r.Damaged, damaged(keys[1], head.metadata.text))
		}
		return r, nil, nil
	}
	needed := head.value.stateKeys()
	usageKeys, usages := needed[rest:], values[rest:]
	if !slices.Equal(usageKeys, keys[rest:]) {
		if usages, err = s.get(ctx, append(usageKeys[:len(usageKeys):len(usageKeys)], keys[2]), nil); err != nil {
			return nil, nil, err
		}
		if timestampReply(usages[len(usageKeys)]) != head.times.Value {
			changed = needed
		}
	}
	r.Entitlements = make([]CachedEntitlement, len(items))
	next := 0
	for i, it := range items {
		c := &r.Entitlements[i]
		c.Definition, c.DataTime, c.snapshot = &it.definition, head.times.Value, &it.usage
		if !it.trackable {
			c.Usage = it.usage
			continue
		}
		usage := s.readUsage(&it.usage, usageKeys[next:], usages[next:], &c.Usage)
		next += 2
		c.DataTime = max(c.DataTime, usage.at)
		if usage.absent {
			c.Faults |= UsageAbsent
		}
		if usage.damaged.Key != "" {
			c.Faults |= UsageUnreadable
			r.Damaged = append(r.Damaged, usage.damaged)
		}
		r.Faults |= c.Faults
	}
	return r, changed, nil
}

// headKeys names the keys that every reading begins with.
func (s *Store) headKeys(k Key) []string {
	return s.readKeys(k, Ref{}, false, "")
}

// ReadTimes reads the timestamps of k alone.
func (s *Store) ReadTimes(ctx context.Context, k Key) (Times, error) {
	ctx, err := s.Bound(ctx)
	if err != nil {
		return Times{Value: NoTimestamp, Global: NoTimestamp}, err
	}
	keys := []string{TimestampKey(ValueKey(s.prefix, k))}
	if k.ResourceID != "" {
		keys = append(keys, TimestampKey(ValueKey(s.prefix, k.Customer())))
	}
	values, err := s.get(ctx, keys, nil)
	t := Times{Value: NoTimestamp, Global: NoTimestamp}
	if err != nil {
		return t, err
	}
	t.Value = timestampReply(values[0])
	if k.ResourceID != "" {
		t.Global = timestampReply(values[1])
	}
	return t, nil
}

// errOtherNumber says that a reply is not one to what was asked.
var errOtherNumber = errors.New("redis answered with another number of values")

// get reads keys: in one command where one command can, else in one pipeline.
// known is as for batcher.get. There are as many values as keys: a hook of the
// caller's client can keep an error to itself, which leaves none.
func (s *Store) get(ctx context.Context, keys []string, known *parsed) ([]any, error) {
	values, err := s.getAny(ctx, keys, known)
	if err == nil && len(values) != len(keys) {
		err = errOtherNumber
	}
	return values, err
}

func (s *Store) getAny(ctx context.Context, keys []string, known *parsed) ([]any, error) {
	if s.detach || s.batch == nil && ctx.Done() != nil {
		// go-redis heeds a context's deadline at best, but not its cancellation.
		// The keys may be parts of the caller's stack; the command may outlive it.
		return detached(ctx, append([]string(nil), keys...), s.getNow)
	}
	if s.batch != nil {
		return s.batch.get(ctx, keys, known)
	}
	return s.getNow(ctx, keys)
}

func (s *Store) getNow(ctx context.Context, keys []string) ([]any, error) {
	if s.single {
		return s.client.MGet(ctx, keys...).Result()
	}
	pipe := s.client.Pipeline()
	commands := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		commands[i] = pipe.Get(ctx, key)
	}
	_ = redispipe.Send(ctx, pipe) // every command has its own error
	return replies(commands)
}

// replies collects the replies of commands that stand for one MGET.
func replies(commands []*redis.StringCmd) ([]any, error) {
	values := make([]any, len(commands))
	for i, c := range commands {
		text, err := c.Result()
		switch {
		case err == nil:
			values[i] = text
		case errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "WRONGTYPE"):
		default:
			return nil, err
		}
	}
	return values, nil
}

// detached waits for do no longer than ctx allows.
func detached(ctx context.Context, keys []string, do func(context.Context, []string) ([]any, error)) ([]any, error) {
	type result struct {
		values []any
		err    error
	}
	done := make(chan result, 1)
	go func() {
		values, err := do(ctx, keys)
		done <- result{values, err}
	}()
	var timeout <-chan time.Time
	if d, ok := ctx.(*deadlineContext); ok {
		timer := time.NewTimer(time.Until(d.deadline))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case r := <-done:
		return r.values, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout:
		return nil, ErrNoAnswer
	}
}

// deadlineContext puts a deadline on a context without a timer: go-redis needs
// just the time, for the deadline of its connection.
type deadlineContext struct {
	context.Context
	deadline time.Time
}

func (d *deadlineContext) Deadline() (time.Time, bool) { return d.deadline, true }

// Bound bounds ctx by Options.Timeout, for several reads that are to take no
// longer than one. The error is that of a context that has ended.
func (s *Store) Bound(ctx context.Context) (context.Context, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.timeout <= 0 {
		return ctx, nil
	}
	deadline := time.Now().Add(s.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		return ctx, nil
	}
	return &deadlineContext{Context: ctx, deadline: deadline}, nil
}
