package cache

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// parsed is a customer value that has been checked and indexed. Entitlements
// are decoded when they are first asked for. It is safe for concurrent use.
type parsed struct {
	raw     string
	entries []entry

	mu    sync.Mutex
	items map[Ref]*item
	all   []*item  // every entitlement, in the value's order; nil until asked for
	names []string // of the keys that a reading of all needs; until asked for, those of the value before
}

// large reports whether the value, if it is known, is a large one to read.
func (v *parsed) large() bool { return v != nil && len(v.raw) > batchLarge }

// parse checks and indexes a customer value.
func parse(raw string, sizeHint int) (*parsed, error) {
	entries, err := index(raw, make([]entry, 0, sizeHint))
	if err != nil {
		return nil, err
	}
	return &parsed{raw: raw, entries: entries}, nil
}

// find returns the entitlement that ref names; nil if the value has none.
func (v *parsed) find(ref Ref) (*item, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if it, ok := v.items[ref]; ok {
		return it, nil
	}
	for i := range v.entries {
		if v.entries[i].ref == ref {
			return v.decode(&v.entries[i])
		}
	}
	return nil, nil
}

// list returns every entitlement. Of two entries for the same one the first
// counts, as it does for find. head names the keys that every reading of the
// value begins with, the value's own first.
func (v *parsed) list(head []string) ([]*item, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all != nil {
		return v.all, nil
	}
	all := make([]*item, 0, len(v.entries))
	seen := make(map[Ref]struct{}, len(v.entries))
	for i := range v.entries {
		e := &v.entries[i]
		if _, twice := seen[e.ref]; twice {
			continue
		}
		seen[e.ref] = struct{}{}
		it, ok := v.items[e.ref]
		if !ok {
			var err error
			if it, err = v.decode(e); err != nil {
				return nil, err
			}
		}
		all = append(all, it)
	}
	v.all = all
	v.names = append(make([]string, 0, len(head)+2*len(all)), head...)
	for _, it := range all {
		if it.trackable {
			ref := RefOf(&it.definition)
			name := head[0] + usageInfix(ref) + ref.ID
			v.names = append(v.names, name, TimestampKey(name))
		}
	}
	return all, nil
}

// stateKeys names the keys that a reading of every entitlement needs: those
// that it begins with, then the usages of all entitlements that have one, and
// the usages' timestamps, in the order of list. Until that has been called it
// names those of the value before, if any. The names are shared and never
// changed.
func (v *parsed) stateKeys() []string {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.names
}

// decode decodes an entry and keeps it; the caller holds mu.
func (v *parsed) decode(e *entry) (*item, error) {
	it, err := decodeItem(v.raw[e.from:e.to])
	if err != nil {
		return nil, err
	}
	if v.items == nil {
		v.items = make(map[Ref]*item)
	}
	v.items[e.ref] = it
	return it, nil
}

// memo keeps the values that were parsed last, so that a value that has not
// changed since is not parsed again: comparing its bytes costs a fraction of
// decoding them. It is bounded by the size of what it keeps.
type memo struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[Key, *parsed]
	bytes int
}

// memoBytes bounds the memory of a memo, counted by the text and the index of
// each value. That is near to what is used if few entitlements of a value are
// asked for; if every one has been decoded, it is about a third of it.
const memoBytes = 32 << 20

func newMemo() *memo {
	m := &memo{}
	// The number of entries is bounded through their size; the limit only has
	// to be positive, and evictions are done here to keep the count of bytes.
	m.lru, _ = simplelru.NewLRU(1<<20, func(k Key, v *parsed) { m.bytes -= v.size(k) })
	return m
}

func (v *parsed) size(k Key) int {
	const perEntry, fixed = 48, 256
	return len(v.raw) + perEntry*len(v.entries) + fixed + len(k.CustomerID) + len(k.ResourceID)
}

// get returns the value that was kept for k, whatever its age.
func (m *memo) get(k Key) *parsed {
	m.mu.Lock()
	v, _ := m.lru.Get(k)
	m.mu.Unlock()
	return v
}

func (m *memo) put(k Key, v *parsed) {
	size := v.size(k)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(k) // what was known before tells nothing any more
	if size > memoBytes/8 {
		return
	}
	m.lru.Add(k, v)
	m.bytes += size
	for m.bytes > memoBytes {
		m.lru.RemoveOldest()
	}
}
