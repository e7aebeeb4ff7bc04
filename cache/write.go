package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redispipe"
)

// Policy says which customers a write may create.
type Policy uint8

// The policies of a write.
const (
	// Upsert writes a customer whether it is cached or not.
	Upsert Policy = iota
	// UpdateIfExists writes only if at least one of the keys to be written has
	// a timestamp already.
	UpdateIfExists
)

// WriteOptions say how a state is to be written.
type WriteOptions struct {
	Policy Policy
	// FetchBegan is when the fetch of the state began; the time of a state
	// whose entitlements carry none.
	FetchBegan time.Time
	// Heal says that the state was fetched because something was missing or
	// unreadable: a key whose value is absent, or still the damaged bytes, is
	// then written whatever its timestamp says.
	Heal    bool
	Damaged []Damaged
}

// WriteResult says what became of a write.
type WriteResult struct {
	Applied int // values written, each with its timestamp
	Skipped int // values not written because Redis holds something newer
	// ValueTime is the timestamp of the customer value after the write;
	// NoTimestamp if there is none.
	ValueTime int64
	// ValueKept reports whether Redis kept a newer customer value instead of
	// the one of the state that was to be written.
	ValueKept bool
}

// pair is a value and the time of the change that it reflects.
type pair struct {
	key, value string
	at         int64
}

// WriteState writes everything that a source knows about k, under the
// customer's write lock: each key by last writer wins. It waits for the lock
// as long as ctx allows; ErrLocked says that it did not get it.
func (s *Store) WriteState(ctx context.Context, k Key, state entitlements.State, o WriteOptions) (WriteResult, error) {
	pairs, err := encodeState(s.prefix, k, state, o.FetchBegan)
	if err != nil {
		return WriteResult{}, err
	}
	var result WriteResult
	err = s.locked(ctx, k, func() error {
		result, err = s.setNewer(ctx, pairs, setOptions{policy: o.Policy, heal: o.Heal, damaged: o.Damaged})
		return err
	})
	result.ValueKept = result.ValueTime > pairs[0].at // the value comes first
	return result, err
}

// locked does something under the customer's write lock.
func (s *Store) locked(ctx context.Context, k Key, do func() error) error {
	lock, err := s.lock(ctx, WriteLockKey(s.prefix, k))
	if err != nil {
		return err
	}
	err = do()
	// The lock ends by itself; its release is not worth failing a write that is done.
	releaseCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = lock.Release(releaseCtx)
	return err
}

// UsageUpdate is the usage of one entitlement after a change.
type UsageUpdate struct {
	Ref   Ref
	Usage entitlements.Usage
	At    time.Time // of the change
}

// UpdateUsage writes the usage of one entitlement of k by last writer wins, if
// k is cached at all. at is the time of the change.
func (s *Store) UpdateUsage(ctx context.Context, k Key, ref Ref, usage entitlements.Usage, at time.Time) (WriteResult, error) {
	return s.UpdateUsages(ctx, k, []UsageUpdate{{Ref: ref, Usage: usage, At: at}})
}

// UpdateUsages writes the usages of several entitlements of k, as UpdateUsage
// does, in one step; on a Cluster, where no step spans several keys, under the
// customer's write lock. Of two for the same entitlement the newer one counts.
func (s *Store) UpdateUsages(ctx context.Context, k Key, updates []UsageUpdate) (WriteResult, error) {
	pairs := make([]pair, 0, len(updates))
	index := make(map[Ref]int, len(updates))
	for _, u := range updates {
		if u.At.IsZero() {
			return WriteResult{ValueTime: NoTimestamp}, errUndated
		}
		value, err := encodeUsage(u.Usage)
		if err != nil {
			return WriteResult{ValueTime: NoTimestamp}, err
		}
		p := pair{key: UsageKey(s.prefix, k, u.Ref), value: value, at: stamp(u.At)}
		if i, twice := index[u.Ref]; twice {
			if pairs[i].at <= p.at {
				pairs[i] = p
			}
			continue
		}
		index[u.Ref] = len(pairs)
		pairs = append(pairs, p)
	}
	if len(pairs) == 0 {
		return WriteResult{ValueTime: NoTimestamp}, nil
	}
	guarded := setOptions{guard: TimestampKey(ValueKey(s.prefix, k))}
	if s.single {
		return s.setNewer(ctx, pairs, guarded) // atomic without a lock
	}
	var result WriteResult
	err := s.locked(ctx, k, func() (err error) {
		result, err = s.setNewer(ctx, pairs, guarded)
		return err
	})
	return result, err
}

// Purge deletes what is cached of the customers and resources, in one command
// each. Usage keys stay, as they do when any other program purges: they are
// read only together with the value.
func (s *Store) Purge(ctx context.Context, keys ...Key) error {
	pipe := s.client.Pipeline()
	for _, k := range keys {
		value, metadata := ValueKey(s.prefix, k), MetadataKey(s.prefix, k)
		names := []string{value, TimestampKey(value), metadata, TimestampKey(metadata)}
		if s.single {
			pipe.Del(ctx, names...)
			continue
		}
		for _, name := range names {
			pipe.Del(ctx, name)
		}
	}
	return redispipe.Send(ctx, pipe)
}

type setOptions struct {
	policy  Policy
	guard   string // write nothing unless this key exists
	heal    bool
	damaged []Damaged
}

func (o setOptions) digest(key string) string {
	for _, d := range o.damaged {
		if d.Key == key {
			return d.Digest
		}
	}
	return ""
}

// setNewerScript compares and sets many (value, timestamp) pairs in one atomic
// step. A timestamp that is not a number counts as absent; the new timestamp 0
// ("far past") always wins, as for every writer of this cache.
var setNewerScript = redis.NewScript(`
local ttl, policy, guarded, heal = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local first = 1
if guarded == '1' then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0, ''} end
  first = 2
end
local n = (#KEYS - first + 1) / 2
local stamps, any = {}, false
for i = 1, n do stamps[i] = KEYS[first + 2*i - 1] end
local stored = {}
for at = 1, n, 1000 do
  local part = redis.call('MGET', unpack(stamps, at, math.min(at + 999, n)))
  for i = 1, #part do stored[at + i - 1] = part[i] end
end
for i = 1, n do any = any or stored[i] end
if policy == 'UPDATE_IF_EXISTS' and not any then return {0, 0, ''} end
local applied, skipped = 0, 0
for i = 1, n do
  local key, stamp = KEYS[first + 2*i - 2], stamps[i]
  local value, at, digest = ARGV[3*i + 2], ARGV[3*i + 3], ARGV[3*i + 4]
  local old = stored[i]
  if old and (#old > 16 or not string.find(old, '^%d+$') or tonumber(old) > 8640000000000000) then old = false end
  local write = not old or at == '0' or tonumber(old) <= tonumber(at)
  if not write and heal == '1' then
    local current = redis.pcall('GET', key)
    write = not current or (type(current) == 'table') or (digest ~= '' and redis.sha1hex(current) == digest)
  end
  if write then
    if ttl == '' then
      redis.call('SET', key, value)
      redis.call('SET', stamp, at)
    else
      redis.call('SET', key, value, 'EX', ttl)
      redis.call('SET', stamp, at, 'EX', ttl)
    end
    applied = applied + 1
    stored[i] = at
  else
    skipped = skipped + 1
  end
end
return {applied, skipped, stored[1] or ''}
`)

// setNewer writes the pairs whose time is not older than what is stored.
func (s *Store) setNewer(ctx context.Context, pairs []pair, o setOptions) (WriteResult, error) {
	if !s.single {
		return s.setNewerApart(ctx, pairs, o)
	}
	keys := make([]string, 0, 2*len(pairs)+1)
	args := make([]any, 0, 3*len(pairs)+4)
	args = append(args, s.ttlArg(), o.policy.String(), flag(o.guard != ""), flag(o.heal))
	if o.guard != "" {
		keys = append(keys, o.guard)
	}
	for _, p := range pairs {
		keys = append(keys, p.key, TimestampKey(p.key))
		args = append(args, p.value, strconv.FormatInt(p.at, 10), o.digest(p.key))
	}
	reply, err := setNewerScript.Run(ctx, s.client, keys, args...).Slice()
	if err != nil {
		return WriteResult{ValueTime: NoTimestamp}, err
	}
	return writeResult(reply), nil
}

func writeResult(reply []any) WriteResult {
	r := WriteResult{ValueTime: NoTimestamp}
	if len(reply) == 3 {
		applied, _ := reply[0].(int64)
		skipped, _ := reply[1].(int64)
		r.Applied, r.Skipped, r.ValueTime = int(applied), int(skipped), timestampReply(reply[2])
	}
	return r
}

// setNewerApart does the same where the keys live in different slots, so that
// nothing can span them: it reads the timestamps, then writes every value
// before its timestamp. A pair that is torn by a crash in between reads as
// older or as a miss, never as newer.
func (s *Store) setNewerApart(ctx context.Context, pairs []pair, o setOptions) (WriteResult, error) {
	result := WriteResult{ValueTime: NoTimestamp}
	keys := make([]string, 0, 2*len(pairs)+1)
	for _, p := range pairs {
		keys = append(keys, TimestampKey(p.key))
	}
	if o.heal {
		for _, p := range pairs {
			keys = append(keys, p.key)
		}
	}
	if o.guard != "" {
		keys = append(keys, o.guard)
	}
	stored, err := s.getNow(ctx, keys)
	if err != nil {
		return result, err
	}
	if o.guard != "" && !textReply(stored[len(stored)-1]).ok {
		return result, nil
	}
	exists := false
	for i := range pairs {
		exists = exists || textReply(stored[i]).ok
	}
	if o.policy == UpdateIfExists && !exists {
		return result, nil
	}
	var chosen []pair
	for i, p := range pairs {
		old := timestampReply(stored[i])
		write := old == NoTimestamp || p.at == 0 || old <= p.at
		if !write && o.heal {
			current := textReply(stored[len(pairs)+i])
			write = !current.ok || damaged(p.key, current.text).Digest == o.digest(p.key)
		}
		if write {
			chosen = append(chosen, p)
			old = p.at
		} else {
			result.Skipped++
		}
		if i == 0 {
			result.ValueTime = old
		}
	}
	if err := s.setEach(ctx, chosen, func(p pair) (string, string) { return p.key, p.value }); err != nil {
		return result, err
	}
	if err := s.setEach(ctx, chosen, func(p pair) (string, string) {
		return TimestampKey(p.key), strconv.FormatInt(p.at, 10)
	}); err != nil {
		return result, err
	}
	result.Applied = len(chosen)
	return result, nil
}

func (s *Store) setEach(ctx context.Context, pairs []pair, keyAndValue func(pair) (string, string)) error {
	if len(pairs) == 0 {
		return nil
	}
	pipe := s.client.Pipeline()
	for _, p := range pairs {
		key, value := keyAndValue(p)
		pipe.Set(ctx, key, value, s.ttl)
	}
	return redispipe.Send(ctx, pipe)
}

func (s *Store) ttlArg() string {
	if s.ttl <= 0 {
		return ""
	}
	// A TTL below a second would not expire the keys but be refused.
	return strconv.FormatInt(max(1, int64(s.ttl/time.Second)), 10)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// String gives the name that the policy has in configurations.
func (p Policy) String() string {
	if p == UpdateIfExists {
		return "UPDATE_IF_EXISTS"
	}
	return "UPSERT"
}

// encodeState gives the keys of a state, the customer value first.
func encodeState(prefix string, k Key, state entitlements.State, fetchBegan time.Time) ([]pair, error) {
	at := stateTime(state, fetchBegan)
	value := ValueKey(prefix, k)
	pairs := []pair{{key: value, at: at}, {key: MetadataKey(prefix, k), at: at}}

	const entrySize = 440 // enough for most
	var e encoder
	e.Grow(entrySize * len(state.Records))
	names := make(map[string]Ref, len(state.Records))
	e.raw("{")
	for i := range state.Records {
		r := &state.Records[i]
		ref := RefOf(&r.Definition)
		name, again := entryName(ref, names)
		if again {
			continue // the first counts, for readers too
		}
		if e.Len() > 1 {
			e.raw(",")
		}
		e.text(name)
		e.raw(":")
		e.entry(r)
		if !r.HasUsage || !r.Definition.UsageTrackable() {
			continue
		}
		usage, err := encodeUsage(r.Usage)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{key: UsageKey(prefix, k, ref), value: usage, at: usageTime(r, at)})
	}
	e.raw("}")
	pairs[0].value = e.String()

	e.Reset()
	e.raw(`{"accessDeniedReason":`)
	e.textOrNull(string(state.AccessDeniedReason))
	e.raw("}")
	pairs[1].value = e.String()
	return pairs, e.err
}

// encodeUsage gives the value of a usage key.
func encodeUsage(u entitlements.Usage) (string, error) {
	var e encoder
	e.Grow(len(`{"currentUsage":1000000,"usagePeriodStart":1780000000000,"usagePeriodEnd":1780000000000}`))
	e.raw("{")
	e.usage(u)
	e.raw("}")
	return e.String(), e.err
}

// RefOf names the entitlement that d defines.
func RefOf(d *entitlements.Definition) Ref {
	if d.IsCredit {
		return Ref{IsCredit: true, ID: d.Currency.ID}
	}
	return Ref{ID: d.Feature.ID}
}

// entryName names an entry: a feature's by the bare id, as older readers
// expect, a credit's so that it cannot hide a feature of the same name. It
// reports true if the names, to which it adds, have the entry already.
func entryName(ref Ref, names map[string]Ref) (name string, again bool) {
	name = ref.ID
	if ref.IsCredit {
		name = "credit_" + name
	}
	for {
		holder, taken := names[name]
		if !taken {
			names[name] = ref
			return name, false
		}
		if holder == ref {
			return name, true
		}
		name += "_"
	}
}

// encoder writes JSON as encoding/json does, without its reflection and without
// escapes for HTML, which no other writer of the cache makes. The values are
// in the form, and the field order, of the programs that share the cache.
type encoder struct {
	strings.Builder
	err error // the first
}

// entry writes an entitlement as an entry of the customer value.
func (e *encoder) entry(r *entitlements.Record) {
	e.raw(`{"calculatedEntitlement":`)
	if r.Definition.IsCredit {
		e.credit(&r.Definition)
	} else {
		e.feature(&r.Definition)
	}
	if r.HasUsage {
		e.raw(`,"usageData":{`)
		e.usage(r.Usage)
		e.raw(`,"usageUpdatedAt":`)
		e.timeOrNull(r.Usage.UpdatedAt)
		e.raw("}")
	}
	e.raw("}")
}

func (e *encoder) feature(d *entitlements.Definition) {
	f := &d.Feature
	e.raw(`{"type":"FEATURE","feature":{"id":`)
	e.text(f.ID)
	e.raw(`,"displayName":`)
	e.text(f.DisplayName)
	e.optionalText(`,"description":`, f.Description)
	e.raw(`,"featureType":`)
	e.text(string(f.Type))
	e.optionalText(`,"meterType":`, string(f.MeterType))
	e.raw(`,"units":`)
	e.text(f.Units)
	e.raw(`,"unitsPlural":`)
	e.text(f.UnitsPlural)
	e.optionalJSON(`,"unitTransformation":`, d.RawUnitTransformation)
	e.raw(`},"usageLimit":`)
	e.numberOrNull(d.UsageLimit)
	e.raw(`,"hasUnlimitedUsage":`)
	e.boolean(d.HasUnlimitedUsage)
	e.raw(`,"hasSoftLimit":`)
	e.boolean(d.HasSoftLimit)
	e.optionalText(`,"accessDeniedReason":`, string(d.AccessDeniedReason))
	e.raw(`,"enumValues":[`)
	for i, value := range d.EnumValues {
		if i > 0 {
			e.raw(",")
		}
		e.text(value)
	}
	e.raw("]")
	e.optionalTime(`,"validUntil":`, d.ValidUntil)
	if d.CreditRate != nil {
		e.raw(`,"creditRate":{"amount":`)
		e.number(d.CreditRate.Amount)
		e.raw(`,"currencyId":`)
		e.text(d.CreditRate.CurrencyID)
		e.raw("}")
	}
	e.optionalTime(`,"usagePeriodAnchor":`, d.UsagePeriodAnchor)
	e.optionalText(`,"resetPeriod":`, string(d.ResetPeriod))
	e.optionalJSON(`,"resetPeriodConfiguration":`, d.RawResetPeriodConfiguration)
	e.raw("}")
}

func (e *encoder) credit(d *entitlements.Definition) {
	e.raw(`{"type":"CREDIT","currency":`)
	if d.RawCurrency != nil {
		e.json(d.RawCurrency)
	} else {
		e.currency(&d.Currency)
	}
	e.raw(`,"usageLimit":`)
	e.numberOrNull(d.UsageLimit)
	e.raw(`,"hasSoftLimit":`)
	e.boolean(d.HasSoftLimit)
	e.optionalText(`,"accessDeniedReason":`, string(d.AccessDeniedReason))
	e.optionalTime(`,"validUntil":`, d.ValidUntil)
	e.raw("}")
}

func (e *encoder) currency(c *credits.Currency) {
	e.raw(`{"currencyId":`)
	e.text(c.ID)
	e.raw(`,"displayName":`)
	e.text(c.DisplayName)
	e.raw(`,"description":`)
	e.textOrNull(c.Description)
	e.raw(`,"unitSingular":`)
	e.textOrNull(c.UnitSingular)
	e.raw(`,"unitPlural":`)
	e.textOrNull(c.UnitPlural)
	e.raw(`,"additionalMetaData":`)
	if c.Metadata == nil {
		e.raw("null")
	} else {
		e.any(c.Metadata)
	}
	e.raw("}")
}

// usage writes the fields of a usage, without the braces around them.
func (e *encoder) usage(u entitlements.Usage) {
	e.raw(`"currentUsage":`)
	e.number(u.Current)
	e.raw(`,"usagePeriodStart":`)
	e.timeOrNull(u.PeriodStart)
	e.raw(`,"usagePeriodEnd":`)
	e.timeOrNull(u.PeriodEnd)
}

// raw writes a piece of JSON as it is.
func (e *encoder) raw(s string) { e.WriteString(s) }

// any writes a value of any type.
func (e *encoder) any(v any) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		e.fail(err)
		return
	}
	e.Write(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}))
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) text(s string) {
	if !needsNoEscape(s) {
		e.any(s)
		return
	}
	e.WriteByte('"')
	e.WriteString(s)
	e.WriteByte('"')
}

// needsNoEscape reports whether a text stands in JSON as it is; false also for
// a few that do.
func needsNoEscape(s string) bool {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c == '"' || c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	// The separators of lines and paragraphs, U+2028 and U+2029, are escaped.
	return ascii || utf8.ValidString(s) && !strings.Contains(s, "\u2028") && !strings.Contains(s, "\u2029")
}

func (e *encoder) textOrNull(s string) {
	if s == "" {
		e.raw("null")
		return
	}
	e.text(s)
}

func (e *encoder) optionalText(name, s string) {
	if s != "" {
		e.raw(name)
		e.text(s)
	}
}

// number writes a number, in the shortest form that reads back as the same.
func (e *encoder) number(n float64) {
	if abs := math.Abs(n); abs != 0 && !(abs >= 1e-6 && abs < 1e21) {
		e.any(n) // with an exponent; not a number and infinite are errors
		return
	}
	var b [32]byte
	e.Write(strconv.AppendFloat(b[:0], n, 'f', -1, 64))
}

func (e *encoder) numberOrNull(n *float64) {
	if n == nil {
		e.raw("null")
		return
	}
	e.number(*n)
}

func (e *encoder) boolean(b bool) { e.raw(strconv.FormatBool(b)) }

// timeOrNull writes epoch milliseconds.
func (e *encoder) timeOrNull(t time.Time) {
	if t.IsZero() {
		e.raw("null")
		return
	}
	var b [20]byte
	e.Write(strconv.AppendInt(b[:0], t.UnixMilli(), 10))
}

func (e *encoder) optionalTime(name string, t time.Time) {
	if !t.IsZero() {
		e.raw(name)
		e.timeOrNull(t)
	}
}

// json writes JSON from elsewhere.
func (e *encoder) json(raw json.RawMessage) {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		e.any(raw) // fails, and says so as encoding/json does
		return
	}
	e.Write(b.Bytes())
}

func (e *encoder) optionalJSON(name string, raw json.RawMessage) {
	if len(raw) > 0 {
		e.raw(name)
		e.json(raw)
	}
}

// stateTime is the time of the change that a state reflects: the first that an
// entitlement carries; of a list without times, when its fetch began; of an
// empty list, which carries no time at all, the far past.
func stateTime(state entitlements.State, fetchBegan time.Time) int64 {
	if len(state.Records) == 0 {
		return 0
	}
	for i := range state.Records {
		if at := state.Records[i].Definition.UpdatedAt; !at.IsZero() {
			return stamp(at)
		}
	}
	if fetchBegan.IsZero() {
		fetchBegan = time.Now()
	}
	return stamp(fetchBegan)
}

func usageTime(r *entitlements.Record, valueTime int64) int64 {
	switch {
	case !r.Usage.UpdatedAt.IsZero():
		return stamp(r.Usage.UpdatedAt)
	case !r.Definition.UpdatedAt.IsZero():
		return stamp(r.Definition.UpdatedAt)
	}
	return valueTime
}

// errUndated says that a usage came without the time of its change, without
// which nobody can tell whether it is newer than another.
var errUndated = errors.New("the usage has no time")

// stamp is the timestamp of a change. 0 stands for the far past, which wins over
// everything, so that no real time may become it.
func stamp(t time.Time) int64 { return min(max(t.UnixMilli(), 1), maxMillis) }
