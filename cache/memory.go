package cache

import (
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stiggio/server-sdk-go/entitlements"
)

// Memory keeps what was read from Redis in this process, in front of it.
//
// An entry can be trusted while a Tracker hears of every change: a change drops
// what depends on it. It is never stale by construction: a read that began
// before a change was heard of is not kept after it (see Token), and what was
// read before the Tracker's connection was lost, or before it was made again,
// is not trusted but revalidated.
//
// It is safe for concurrent use.
type Memory struct {
	ttl time.Duration // ceiling of an entry's age; 0: none

	mu        sync.Mutex
	lru       *simplelru.LRU[entryKey, *Entry]
	customers map[string]map[string]*group // by customer id and resource id
	tracked   bool                         // changes are heard of
	epoch     uint64                       // grows when changes may have been missed
	lostAt    time.Time                    // when changes were last heard of
	lostEpoch uint64                       // the epoch until then
}

// entryKey names an entry. The entry that lists what a customer or resource has
// is kept under the empty Ref.
type entryKey struct {
	key Key
	ref Ref
}

// group is what is known of one customer or resource: which of its entries are
// kept, and how often it has changed while it was known.
type group struct {
	key     Key
	changes uint64
	readers int // reads under way
	refs    map[Ref]struct{}
}

// Entry is one entitlement as it was read, or the list of all. Do not change it.
type Entry struct {
	Facts     entitlements.Facts
	Times     Times
	ValueSize int       // length of the customer value in bytes
	WithUsage bool      // the usage was read
	Confirmed time.Time // when Redis last said so
	// List names the entitlements of a list entry, in order.
	List         []Ref
	DeniedReason entitlements.AccessDeniedReason

	snapshot, walletSnapshot entitlements.Usage

	epoch uint64
	added time.Time
}

// Token stands for a read under way. What was read may be kept only if nothing
// that it depends on has changed since the token was taken.
type Token struct {
	group   *group
	changes uint64
	epoch   uint64
}

// NewMemory makes a memory of at most maxEntries entries (> 0), each used for
// at most ttl (0: no limit).
func NewMemory(maxEntries int, ttl time.Duration) *Memory {
	m := &Memory{ttl: ttl, customers: make(map[string]map[string]*group)}
	m.lru, _ = simplelru.NewLRU(maxEntries, m.evicted) // fails only for a size of 0
	return m
}

// Get returns the entry for ref. trusted says that it is as good as a read from
// Redis; else it must be revalidated.
func (m *Memory) Get(k Key, ref Ref, now time.Time) (e *Entry, trusted bool) {
	m.mu.Lock()
	e, ok := m.lru.Get(entryKey{k, ref})
	trusted = ok && m.tracked && e.epoch == m.epoch
	m.mu.Unlock()
	if !ok || m.ttl > 0 && now.Sub(e.added) >= m.ttl {
		return nil, false
	}
	return e, trusted
}

// GetList returns the list entry of k and the entries that it names, if all of
// them are there. trusted is as for Get.
func (m *Memory) GetList(k Key, now time.Time) (list *Entry, entries []*Entry, trusted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, ok := m.lru.Get(entryKey{key: k})
	if !ok || m.ttl > 0 && now.Sub(list.added) >= m.ttl {
		return nil, nil, false
	}
	trusted = m.tracked && list.epoch == m.epoch
	entries = make([]*Entry, len(list.List))
	for i, ref := range list.List {
		e, ok := m.lru.Get(entryKey{k, ref})
		if !ok || !e.WithUsage && e.Facts.Definition.UsageTrackable() {
			return nil, nil, false
		}
		trusted = trusted && e.epoch == m.epoch
		entries[i] = e
	}
	return list, entries, trusted
}

// Stale returns the entry for ref although it cannot be trusted, if Redis has
// confirmed it within maxStale.
func (m *Memory) Stale(k Key, ref Ref, now time.Time, maxStale time.Duration) *Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.lru.Get(entryKey{k, ref})
	if !ok || now.Sub(m.confirmed(e, now)) > maxStale {
		return nil
	}
	return e
}

// StaleList is Stale for the list of k and everything in it.
func (m *Memory) StaleList(k Key, now time.Time, maxStale time.Duration) (list *Entry, entries []*Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, ok := m.lru.Get(entryKey{key: k})
	if !ok || now.Sub(m.confirmed(list, now)) > maxStale {
		return nil, nil
	}
	for _, ref := range list.List {
		e, ok := m.lru.Get(entryKey{k, ref})
		if !ok || !e.WithUsage && e.Facts.Definition.UsageTrackable() || now.Sub(m.confirmed(e, now)) > maxStale {
			return nil, nil
		}
		entries = append(entries, e)
	}
	return list, entries
}

// confirmed is when an entry was last known to be what Redis holds: while it
// was trusted that was so at every moment.
func (m *Memory) confirmed(e *Entry, now time.Time) time.Time {
	switch {
	case m.tracked && e.epoch == m.epoch:
		return now
	case e.epoch == m.lostEpoch && m.lostAt.After(e.Confirmed):
		return m.lostAt
	}
	return e.Confirmed
}

// Begin takes a token for a read of k. Every token must be given back, to Put,
// PutList or End.
func (m *Memory) Begin(k Key) Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	resources, ok := m.customers[k.CustomerID]
	if !ok {
		resources = make(map[string]*group)
		m.customers[k.CustomerID] = resources
	}
	g, ok := resources[k.ResourceID]
	if !ok {
		g = &group{key: k, refs: make(map[Ref]struct{})}
		resources[k.ResourceID] = g
	}
	g.readers++
	return Token{group: g, changes: g.changes, epoch: m.epoch}
}

// Put keeps what was read under a token.
func (m *Memory) Put(t Token, ref Ref, e *Entry, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.done(t.group)
	if t.group.changes == t.changes {
		m.keep(t, ref, e, now)
	}
}

// PutList keeps the list of what k has and its entries. A list that is larger
// than the memory is not kept.
func (m *Memory) PutList(t Token, list *Entry, entries []*Entry, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.done(t.group)
	if t.group.changes != t.changes {
		return
	}
	for i, e := range entries {
		m.keep(t, list.List[i], e, now)
	}
	m.keep(t, Ref{}, list, now)
}

// End gives a token back without keeping anything.
func (m *Memory) End(t Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done(t.group)
}

func (m *Memory) keep(t Token, ref Ref, e *Entry, now time.Time) {
	e.epoch, e.added = t.epoch, now
	k := entryKey{t.group.key, ref}
	m.lru.Remove(k)
	t.group.refs[ref] = struct{}{}
	m.lru.Add(k, e)
}

func (m *Memory) done(g *group) {
	g.readers--
	m.tidy(g)
}

// tidy forgets a group that nothing is known of any more.
func (m *Memory) tidy(g *group) {
	if g.readers > 0 || len(g.refs) > 0 {
		return
	}
	resources := m.customers[g.key.CustomerID]
	if resources[g.key.ResourceID] != g {
		return
	}
	delete(resources, g.key.ResourceID)
	if len(resources) == 0 {
		delete(m.customers, g.key.CustomerID)
	}
}

// evicted is told by the LRU of every entry that it lets go; mu is held.
func (m *Memory) evicted(k entryKey, _ *Entry) {
	g, ok := m.customers[k.key.CustomerID][k.key.ResourceID]
	if !ok {
		return
	}
	delete(g.refs, k.ref)
	m.tidy(g)
}

// Changed drops what depends on a key of Redis that has changed. key is the
// name behind the environment prefix and "c_".
func (m *Memory) Changed(key string) {
	k, ref, part := splitKey(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	resources, ok := m.customers[k.CustomerID]
	if !ok {
		return
	}
	if g, ok := resources[k.ResourceID]; ok {
		m.drop(g, ref)
	}
	if part == partValue && k.ResourceID == "" { // what a resource has depends on its global customer's timestamp
		for resource, g := range resources {
			if resource != "" {
				m.drop(g, Ref{})
			}
		}
	}
}

// Forget drops everything about k, which this process has just changed.
func (m *Memory) Forget(k Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for resource, g := range m.customers[k.CustomerID] {
		if k.ResourceID == "" || resource == k.ResourceID {
			m.drop(g, Ref{})
		}
	}
}

// drop drops what depends on the usage of ref; everything if ref is empty.
func (m *Memory) drop(g *group, ref Ref) {
	g.changes++
	for kept := range g.refs {
		k := entryKey{g.key, kept}
		if ref != (Ref{}) && kept != ref {
			e, ok := m.lru.Peek(k)
			if ok && (e.Facts.Wallet == nil || RefOf(e.Facts.Wallet) != ref) {
				continue
			}
		}
		m.lru.Remove(k)
	}
}

// Tracked says that from now on every change is heard of. What was kept before
// is not trusted.
func (m *Memory) Tracked() {
	m.mu.Lock()
	m.tracked = true
	m.epoch++
	m.mu.Unlock()
}

// Untracked says that changes may be missed from now on.
func (m *Memory) Untracked() {
	m.mu.Lock()
	m.tracked = false
	m.lostAt, m.lostEpoch = time.Now(), m.epoch
	m.epoch++
	m.mu.Unlock()
}

// Doubt says that changes may have been missed: nothing that was kept is
// trusted until it is revalidated.
func (m *Memory) Doubt() {
	m.mu.Lock()
	m.epoch++
	m.mu.Unlock()
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

// splitKey takes the name of a key apart. Ids that are ambiguous are never
// kept, so that the first separator is the true one.
func splitKey(name string) (k Key, ref Ref, what part) {
	name = strings.TrimSuffix(name, timestampSuffix)
	var separator string
	k.CustomerID, separator, name = cutFirst(name)
	if separator == ":r_" {
		k.ResourceID, separator, name = cutFirst(name)
	}
	switch separator {
	case ":f_":
		return k, Ref{ID: name}, partUsage
	case ":credit_":
		return k, Ref{IsCredit: true, ID: name}, partUsage
	case metadataSuffix:
		return k, Ref{}, partMetadata
	}
	return k, Ref{}, partValue
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
