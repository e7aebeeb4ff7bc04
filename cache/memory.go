package cache

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/entitlements"
)

// Memory keeps what was read from Redis in this process, in front of it.
//
// An entry can be trusted while a Tracker hears of every change. It is never
// stale by construction: a read that began before a change was heard of is not
// kept after it (see Token), and what was read before the Tracker's connection
// was lost, or before it was made again, is not trusted but revalidated. What
// becomes of the entries that a change concerns:
//
//   - the customer value or the metadata changed: they are read anew;
//   - a usage changed, whoever wrote it: they are revalidated, because the value
//     is as it was;
//   - a resource's global customer changed: they are revalidated.
//
// Until then they are kept, for when nothing newer can be had (see Stale).
//
// It is safe for concurrent use.
type Memory struct {
	max int
	ttl time.Duration // ceiling of an entry's age; 0: none

	awaited atomic.Bool // it is the Tracker's turn

	mu        sync.Mutex
	lru       *simplelru.LRU[entryKey, *slot]
	customers map[string]*customer
	tracked   bool      // changes are heard of
	epoch     uint64    // grows when changes may have been missed
	losses    []loss    // the last ones, oldest first
	listen    func()    // has the Tracker hear what has arrived
	listened  time.Time // when it was last called
	gets      int       // since then
}

// Where checks come as thick as listenGets in listenEvery, the Tracker is made
// to hear what has arrived every so often.
const (
	listenEvery = 5 * time.Millisecond
	listenGets  = 64
)

// entryKey names an entry. The entry that lists what a customer or resource has
// is kept under the empty Ref.
type entryKey struct {
	key Key
	ref Ref
}

// slot is where an entry is kept.
type slot struct {
	entry     *Entry
	group     *group
	epoch     uint64    // in which it was read; doubtful: something in it has changed
	values    uint64    // group.values when it was read
	confirmed time.Time // when Redis last said so, apart from what its epoch tells
	// listed is what was kept here before, if it belongs to the list that is
	// kept and the entry does not. Only StaleList uses it.
	listed *slot
	index  int // see undoubted
}

// replaced reports whether Redis holds another value.
func (s *slot) replaced() bool { return s.values != s.group.values }

// of returns the slot whose entry belongs to a list: s or what it took the
// place of; nil if neither does.
func (s *slot) of(list *Entry) *slot {
	for ; s != nil; s = s.listed {
		if s.entry.belongsTo(list) {
			return s
		}
	}
	return nil
}

func (s *slot) place() *int { return &s.index }

// doubtful is the epoch of nothing that can be trusted.
const doubtful uint64 = 0

// loss is the end of an epoch in which changes were heard of.
type loss struct {
	epoch uint64
	at    time.Time // when Redis was last heard
}

// maxLosses bounds the losses that are remembered. An entry from before them
// counts as confirmed when it was read.
const maxLosses = 64

// customer is what is known of a customer and its resources.
type customer struct {
	groups map[string]*group // by resource id
	// resources are the groups of resources in which something has begun since
	// the customer itself last changed: a token may be out, or an entry kept
	// that no change has concerned. The others need not hear of the next one.
	resources undoubted[*group]
}

// group is what is known of one customer or resource: how much of it is kept,
// and how often it has changed while it was known.
type group struct {
	key      Key
	customer *customer
	changes  uint64
	values   uint64 // how many of the changes were of the value or the metadata
	readers  int    // reads under way
	kept     int    // entries
	entries  undoubted[*slot]
	index    int // see undoubted
}

func (g *group) place() *int { return &g.index }

// undoubted are those that a change has still to concern, in no order, so that
// a change costs no more than was kept since the last one. Each of them knows
// its place: its index, from 1; 0 if it is not among them.
type undoubted[T interface{ place() *int }] []T

func (u *undoubted[T]) add(x T) {
	if *x.place() == 0 {
		*u = append(*u, x)
		*x.place() = len(*u)
	}
}

func (u *undoubted[T]) remove(x T) {
	at := *x.place()
	if at == 0 {
		return
	}
	end := len(*u) - 1
	last := (*u)[end]
	(*u)[at-1], *last.place() = last, at
	*u = slices.Delete(*u, end, end+1)
	*x.place() = 0
}

// Entry is one entitlement as it was read, or the list of all. Do not change it.
type Entry struct {
	Facts     entitlements.Facts
	Times     Times
	ValueSize int  // length of the customer value in bytes
	WithUsage bool // the usage was read
	// List names the entitlements of a list entry, in order.
	List         []Ref
	DeniedReason entitlements.AccessDeniedReason

	snapshot, walletSnapshot *entitlements.Usage

	confirmed time.Time // when the read began that this entry is from
	whole     time.Time // when the read began that fetched the customer value
}

// belongsTo reports whether e can stand for what a list names: it is of the
// same customer value, in which the entitlement is, and complete.
func (e *Entry) belongsTo(list *Entry) bool {
	d := e.Facts.Definition
	return d != nil && e.Times.Value == list.Times.Value && e.ValueSize == list.ValueSize && (e.WithUsage || !d.UsageTrackable())
}

// Token stands for a read under way. What was read may be kept only if nothing
// that it depends on has changed since the token was taken.
type Token struct {
	group   *group
	changes uint64
	epoch   uint64
}

// NewMemory makes a memory of at most maxEntries entries (> 0), where the list
// of what a customer or resource has counts as one. Each is used for at most
// ttl (0: no limit) without the customer value being read anew.
func NewMemory(maxEntries int, ttl time.Duration) *Memory {
	m := &Memory{max: maxEntries, ttl: ttl, customers: make(map[string]*customer), epoch: doubtful + 1}
	m.lru, _ = simplelru.NewLRU(maxEntries, m.evicted) // fails only for a size of 0
	return m
}

// Get returns the entry for ref; nil if there is none, or all of it must be
// read anew. trusted says that it is as good as a read from Redis; else it must
// be revalidated.
func (m *Memory) Get(k Key, ref Ref, now time.Time) (e *Entry, trusted bool) {
	m.lockToGet(now)
	defer m.mu.Unlock()
	s, ok := m.lru.Get(entryKey{k, ref})
	if !ok || s.replaced() || m.tooOld(s, now) {
		return nil, false
	}
	return s.entry, m.trusts(s)
}

// GetList returns the list entry of k and the entries that it names, if all of
// them are there and can be trusted; else nil.
func (m *Memory) GetList(k Key, now time.Time) (list *Entry, entries []*Entry) {
	m.lockToGet(now)
	defer m.mu.Unlock()
	return m.list(k, func(s *slot) bool { return m.trusts(s) && !m.tooOld(s, now) })
}

// Stale returns the entry for ref although it cannot be trusted, if Redis has
// confirmed it within maxStale, and when that was; else nil.
func (m *Memory) Stale(k Key, ref Ref, now time.Time, maxStale time.Duration) (*Entry, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.lru.Get(entryKey{k, ref})
	if !ok || m.tooStale(s, now, maxStale) {
		return nil, time.Time{}
	}
	return s.entry, m.confirmed(s, now)
}

// StaleList is Stale for the list of k and everything in it. All of it is of one
// customer value, that of the list: where an entitlement was read alone after
// the value had changed, what the list knew of it is returned.
func (m *Memory) StaleList(k Key, now time.Time, maxStale time.Duration) (list *Entry, entries []*Entry, confirmed time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	confirmed = now
	list, entries = m.list(k, func(s *slot) bool {
		if at := m.confirmed(s, now); at.Before(confirmed) {
			confirmed = at
		}
		return !m.tooStale(s, now, maxStale)
	})
	return list, entries, confirmed
}

// list returns the list entry of k and the entries that it names, if all of
// them are there and good.
func (m *Memory) list(k Key, good func(*slot) bool) (list *Entry, entries []*Entry) {
	s, ok := m.lru.Get(entryKey{key: k})
	if !ok || !good(s) {
		return nil, nil
	}
	list = s.entry
	entries = make([]*Entry, len(list.List))
	for i, ref := range list.List {
		s, _ := m.lru.Get(entryKey{k, ref})
		if s = s.of(list); s == nil || !good(s) {
			return nil, nil
		}
		entries[i] = s.entry
	}
	return list, entries
}

// lockToGet locks. Goroutines that do little but check share the processors
// among themselves, 10 ms each; that there is something to hear would not be
// noticed before, and heard after all of them. So now and then one of them has
// the Tracker hear it, and all let it run first.
func (m *Memory) lockToGet(now time.Time) {
	if m.awaited.Load() {
		runtime.Gosched()
	}
	m.mu.Lock()
	m.gets++
	if now.Sub(m.listened) < listenEvery {
		return
	}
	thick := m.gets >= listenGets
	m.listened, m.gets = now, 0
	if !m.tracked || !thick {
		return
	}
	listen := m.listen
	m.mu.Unlock()
	listen()
	m.mu.Lock()
}

func (m *Memory) trusts(s *slot) bool { return m.tracked && s.epoch == m.epoch }

func (m *Memory) tooOld(s *slot, now time.Time) bool {
	return m.ttl > 0 && now.Sub(s.entry.whole) >= m.ttl
}

func (m *Memory) tooStale(s *slot, now time.Time, maxStale time.Duration) bool {
	return maxStale <= 0 || now.Sub(m.confirmed(s, now)) > maxStale
}

// confirmed is when an entry was last known to be what Redis holds: while it
// was trusted that was so at every moment.
func (m *Memory) confirmed(s *slot, now time.Time) time.Time {
	if m.trusts(s) {
		return now
	}
	for _, l := range m.losses {
		if l.epoch == s.epoch && l.at.After(s.confirmed) {
			return l.at
		}
	}
	return s.confirmed
}

// Begin takes a token for a read of k. Every token must be given back, to Put,
// PutList or End.
func (m *Memory) Begin(k Key) Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.customers[k.CustomerID]
	if !ok {
		c = &customer{groups: make(map[string]*group)}
		m.customers[k.CustomerID] = c
	}
	g, ok := c.groups[k.ResourceID]
	if !ok {
		g = &group{key: k, customer: c}
		c.groups[k.ResourceID] = g
	}
	if k.ResourceID != "" {
		c.resources.add(g)
	}
	g.readers++
	return Token{group: g, changes: g.changes, epoch: m.epoch}
}

// Put keeps what was read under a token.
func (m *Memory) Put(t Token, ref Ref, e *Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.done(t.group)
	if t.group.changes == t.changes {
		m.keep(t, ref, e)
	}
}

// PutList keeps the list of what k has and its entries. A list that the memory
// cannot hold with all its entries is not kept, nor are they.
func (m *Memory) PutList(t Token, list *Entry, entries []*Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.done(t.group)
	if t.group.changes != t.changes || len(entries) >= m.max {
		return
	}
	m.keep(t, Ref{}, list) // first, so that no entry keeps what an older list knew
	for i, e := range entries {
		m.keep(t, list.List[i], e)
	}
}

// End gives a token back without keeping anything.
func (m *Memory) End(t Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done(t.group)
}

func (m *Memory) keep(t Token, ref Ref, e *Entry) {
	g := t.group
	k := entryKey{g.key, ref}
	s := &slot{entry: e, group: g, epoch: t.epoch, values: g.values, confirmed: e.confirmed}
	before, again := m.lru.Peek(k)
	if again {
		s.listed = m.listed(before, e)
		g.entries.remove(before)
	} else {
		g.kept++
	}
	g.entries.add(s)
	m.lru.Add(k, s)
}

// listed returns what is to be kept beside an entry that takes the place of
// another: nothing, unless the list that is kept needs it.
func (m *Memory) listed(before *slot, e *Entry) *slot {
	list, ok := m.lru.Peek(entryKey{key: before.group.key})
	if !ok || e.belongsTo(list.entry) {
		return nil
	}
	s := before.of(list.entry)
	if s != nil {
		m.doubt(s, e.confirmed) // when it was known to have been replaced, if not before
		s.listed = nil
	}
	return s
}

func (m *Memory) done(g *group) {
	g.readers--
	m.tidy(g)
}

// tidy forgets a group that nothing is known of any more.
func (m *Memory) tidy(g *group) {
	c := g.customer
	if g.readers > 0 || g.kept > 0 || c.groups[g.key.ResourceID] != g {
		return
	}
	c.resources.remove(g)
	delete(c.groups, g.key.ResourceID)
	if len(c.groups) == 0 {
		delete(m.customers, g.key.CustomerID)
	}
}

// evicted is told by the LRU of every entry that it lets go; mu is held.
func (m *Memory) evicted(_ entryKey, s *slot) {
	s.group.entries.remove(s)
	s.group.kept--
	m.tidy(s.group)
}

// group returns what is known of k; nil if nothing is.
func (m *Memory) group(k Key) *group {
	if c, ok := m.customers[k.CustomerID]; ok {
		return c.groups[k.ResourceID]
	}
	return nil
}

// Changed says that a key of Redis has changed. key is the name behind the
// environment prefix and "c_".
func (m *Memory) Changed(key string, now time.Time) {
	c := splitKey(key)
	m.awaited.Store(true)
	m.mu.Lock()
	m.awaited.Store(false)
	defer m.mu.Unlock()
	if c.part != partUsage {
		m.valueChanged(c.key, now)
	} else if g := m.group(c.key); g != nil {
		m.usageChanged(g, c.usage, now)
		if c.usageOrTime != c.usage {
			m.usageChanged(g, c.usageOrTime, now)
		}
	}
	if c.part == partValue {
		m.customerChanged(c.key, now)
	}
}

// Forget says that this process has just changed k in Redis.
func (m *Memory) Forget(k Key, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.valueChanged(k, now)
	m.customerChanged(k, now)
}

// ForgetUsage says that this process has just changed a usage of k in Redis,
// and nothing else.
func (m *Memory) ForgetUsage(k Key, ref Ref, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.group(k); g != nil {
		m.usageChanged(g, ref, now)
	}
}

// valueChanged says that the value of k has changed, or its metadata.
func (m *Memory) valueChanged(k Key, now time.Time) {
	if g := m.group(k); g != nil {
		g.values++
		m.doubtAll(g, now)
	}
}

// customerChanged says that the value of k has changed. If k is a global
// customer, how old its resources may be depends on its timestamp.
func (m *Memory) customerChanged(k Key, now time.Time) {
	c, ok := m.customers[k.CustomerID]
	if !ok || k.ResourceID != "" {
		return
	}
	for len(c.resources) > 0 {
		g := c.resources[len(c.resources)-1]
		c.resources.remove(g)
		m.doubtAll(g, now)
	}
}

// doubtAll says that something has changed that concerns all of a group.
func (m *Memory) doubtAll(g *group, now time.Time) {
	g.changes++
	for len(g.entries) > 0 {
		m.doubt(g.entries[len(g.entries)-1], now)
	}
}

// usageChanged says that the usage of ref has changed, on which features that
// draw on it depend too, if it is a credit's.
func (m *Memory) usageChanged(g *group, ref Ref, now time.Time) {
	g.changes++
	if s, kept := m.lru.Peek(entryKey{g.key, ref}); kept {
		m.doubt(s, now)
	}
	if !ref.IsCredit {
		return
	}
	for i := len(g.entries) - 1; i >= 0; i-- { // from the end: doubt puts the last in the place of what it removes
		s := g.entries[i]
		if s.entry.Facts.Wallet != nil && RefOf(s.entry.Facts.Wallet) == ref {
			m.doubt(s, now)
		}
	}
}

// doubt takes the trust from an entry that is kept.
func (m *Memory) doubt(s *slot, now time.Time) {
	s.confirmed = m.confirmed(s, now)
	s.epoch = doubtful
	s.group.entries.remove(s)
}

// Tracked says that from now on every change is heard of. What was kept before
// is not trusted. listen, which is called now and then by those who use the
// memory, has what has arrived heard.
func (m *Memory) Tracked(listen func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tracked, m.listen = true, listen
	m.epoch++
}

// Untracked says that changes may be missed from now on, and when Redis was
// last heard.
func (m *Memory) Untracked(heard time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose(heard)
	m.tracked = false
	m.awaited.Store(false)
}

// Doubt says that changes may have been missed just now: nothing that was kept
// is trusted until it is revalidated.
func (m *Memory) Doubt(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose(now)
}

func (m *Memory) lose(heard time.Time) {
	if m.tracked {
		if len(m.losses) == maxLosses {
			m.losses = append(m.losses[:0], m.losses[1:]...)
		}
		m.losses = append(m.losses, loss{m.epoch, heard})
	}
	m.epoch++
}

// Len is the number of entries that are kept.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lru.Len()
}

// part is what a key of Redis holds.
type part uint8

const (
	partValue    part = iota // the customer value or its timestamp
	partMetadata             // or its timestamp
	partUsage                // or its timestamp
)

// change is what the name of a key that has changed says.
type change struct {
	key  Key
	part part
	// usage is whose usage or timestamp of a usage the key holds. A name that
	// ends like a timestamp's can be that of an id that ends so: then it is the
	// usage of usageOrTime that has changed.
	usage, usageOrTime Ref
}

// splitKey takes the name of a key apart. Customers and resources whose ids are
// ambiguous are never kept, so that the first separator is the true one.
func splitKey(name string) change {
	var c change
	var separator string
	trimmed := strings.TrimSuffix(name, timestampSuffix)
	suffix := name[len(trimmed):]
	c.key.CustomerID, separator, trimmed = cutFirst(trimmed)
	if separator == ":r_" {
		c.key.ResourceID, separator, trimmed = cutFirst(trimmed)
	}
	switch separator {
	case ":f_", ":credit_":
		c.part = partUsage
		c.usage = Ref{IsCredit: separator == ":credit_", ID: trimmed}
		c.usageOrTime = Ref{IsCredit: c.usage.IsCredit, ID: name[len(name)-len(suffix)-len(trimmed):]}
	case metadataSuffix:
		c.part = partMetadata
	}
	return c
}

// cutFirst cuts a name at the first separator in it.
func cutFirst(name string) (before, separator, after string) {
	at := len(name)
	for _, s := range separators {
		if i := strings.Index(name, s); i >= 0 && i < at {
			at, separator = i, s
		}
	}
	return name[:at], separator, name[min(len(name), at+len(separator)):]
}
