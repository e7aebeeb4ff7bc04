package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
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
		value, err := json.Marshal(usageValue(u.Usage))
		if err != nil {
			return WriteResult{ValueTime: NoTimestamp}, err
		}
		p := pair{key: UsageKey(s.prefix, k, u.Ref), value: string(value), at: stamp(u.At)}
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
	_, err := pipe.Exec(ctx)
	return err
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
	_, err := pipe.Exec(ctx)
	return err
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

// The wire form of the values, in the field order of the programs that share
// the cache.
type (
	entryValue struct {
		Calculated any              `json:"calculatedEntitlement"`
		UsageData  *usageDataObject `json:"usageData,omitempty"`
	}
	featureValue struct {
		Type                     string          `json:"type"`
		Feature                  featureObject   `json:"feature"`
		UsageLimit               *float64        `json:"usageLimit"`
		HasUnlimitedUsage        bool            `json:"hasUnlimitedUsage"`
		HasSoftLimit             bool            `json:"hasSoftLimit"`
		AccessDeniedReason       string          `json:"accessDeniedReason,omitempty"`
		EnumValues               []string        `json:"enumValues"`
		ValidUntil               *int64          `json:"validUntil,omitempty"`
		CreditRate               *rateObject     `json:"creditRate,omitempty"`
		UsagePeriodAnchor        *int64          `json:"usagePeriodAnchor,omitempty"`
		ResetPeriod              string          `json:"resetPeriod,omitempty"`
		ResetPeriodConfiguration json.RawMessage `json:"resetPeriodConfiguration,omitempty"`
	}
	creditValue struct {
		Type               string          `json:"type"`
		Currency           json.RawMessage `json:"currency"`
		UsageLimit         *float64        `json:"usageLimit"`
		HasSoftLimit       bool            `json:"hasSoftLimit"`
		AccessDeniedReason string          `json:"accessDeniedReason,omitempty"`
		ValidUntil         *int64          `json:"validUntil,omitempty"`
	}
	featureObject struct {
		ID                 string          `json:"id"`
		DisplayName        string          `json:"displayName"`
		Description        string          `json:"description,omitempty"`
		FeatureType        string          `json:"featureType"`
		MeterType          string          `json:"meterType,omitempty"`
		Units              string          `json:"units"`
		UnitsPlural        string          `json:"unitsPlural"`
		UnitTransformation json.RawMessage `json:"unitTransformation,omitempty"`
	}
	currencyObject struct {
		ID           string         `json:"currencyId"`
		DisplayName  string         `json:"displayName"`
		Description  *string        `json:"description"`
		UnitSingular *string        `json:"unitSingular"`
		UnitPlural   *string        `json:"unitPlural"`
		Metadata     map[string]any `json:"additionalMetaData"`
	}
	rateObject struct {
		Amount     float64 `json:"amount"`
		CurrencyID string  `json:"currencyId"`
	}
	usageObject struct {
		CurrentUsage     float64 `json:"currentUsage"`
		UsagePeriodStart *int64  `json:"usagePeriodStart"`
		UsagePeriodEnd   *int64  `json:"usagePeriodEnd"`
	}
	usageDataObject struct {
		usageObject
		UsageUpdatedAt *int64 `json:"usageUpdatedAt"`
	}
	metadataObject struct {
		AccessDeniedReason *string `json:"accessDeniedReason"`
	}
)

// encodeState gives the keys of a state, the customer value first.
func encodeState(prefix string, k Key, state entitlements.State, fetchBegan time.Time) ([]pair, error) {
	at := stateTime(state, fetchBegan)
	value := ValueKey(prefix, k)
	pairs := []pair{{key: value, at: at}, {key: MetadataKey(prefix, k), at: at}}

	var object bytes.Buffer
	encoder := json.NewEncoder(&object)
	encoder.SetEscapeHTML(false) // no other writer escapes for HTML
	object.WriteByte('{')
	written := make(map[Ref]bool, len(state.Records))
	names := make(map[string]bool, len(state.Records))
	for i := range state.Records {
		r := &state.Records[i]
		ref := RefOf(&r.Definition)
		if written[ref] {
			continue // the first counts, for readers too
		}
		written[ref] = true
		if object.Len() > 1 {
			object.WriteByte(',')
		}
		if err := appendEntry(&object, encoder, entryName(ref, names), r); err != nil {
			return nil, err
		}
		if !r.HasUsage || !r.Definition.UsageTrackable() {
			continue
		}
		usage, err := json.Marshal(usageValue(r.Usage))
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{key: UsageKey(prefix, k, ref), value: string(usage), at: usageTime(r, at)})
	}
	object.WriteByte('}')
	pairs[0].value = object.String()

	metadata, err := json.Marshal(metadataObject{AccessDeniedReason: optional(string(state.AccessDeniedReason))})
	if err != nil {
		return nil, err
	}
	pairs[1].value = string(metadata)
	return pairs, nil
}

// RefOf names the entitlement that d defines.
func RefOf(d *entitlements.Definition) Ref {
	if d.IsCredit {
		return Ref{IsCredit: true, ID: d.Currency.ID}
	}
	return Ref{ID: d.Feature.ID}
}

// entryName names an entry: a feature's by the bare id, as older readers
// expect, a credit's so that it cannot hide a feature of the same name.
func entryName(ref Ref, taken map[string]bool) string {
	name := ref.ID
	if ref.IsCredit {
		name = "credit_" + name
	}
	for taken[name] {
		name += "_"
	}
	taken[name] = true
	return name
}

func appendEntry(b *bytes.Buffer, encoder *json.Encoder, name string, r *entitlements.Record) error {
	d := &r.Definition
	var v entryValue
	if d.IsCredit {
		currency := d.RawCurrency
		if currency == nil {
			var err error
			if currency, err = json.Marshal(currencyOf(d.Currency)); err != nil {
				return err
			}
		}
		v.Calculated = creditValue{
			Type: "CREDIT", Currency: currency, UsageLimit: d.UsageLimit, HasSoftLimit: d.HasSoftLimit,
			AccessDeniedReason: string(d.AccessDeniedReason), ValidUntil: millis(d.ValidUntil),
		}
	} else {
		f := featureValue{
			Type: "FEATURE",
			Feature: featureObject{
				ID: d.Feature.ID, DisplayName: d.Feature.DisplayName, Description: d.Feature.Description,
				FeatureType: string(d.Feature.Type), MeterType: string(d.Feature.MeterType),
				Units: d.Feature.Units, UnitsPlural: d.Feature.UnitsPlural, UnitTransformation: d.RawUnitTransformation,
			},
			UsageLimit: d.UsageLimit, HasUnlimitedUsage: d.HasUnlimitedUsage, HasSoftLimit: d.HasSoftLimit,
			AccessDeniedReason: string(d.AccessDeniedReason), EnumValues: d.EnumValues, ValidUntil: millis(d.ValidUntil),
			UsagePeriodAnchor: millis(d.UsagePeriodAnchor), ResetPeriod: string(d.ResetPeriod),
			ResetPeriodConfiguration: d.RawResetPeriodConfiguration,
		}
		if f.EnumValues == nil {
			f.EnumValues = []string{}
		}
		if d.CreditRate != nil {
			f.CreditRate = &rateObject{Amount: d.CreditRate.Amount, CurrencyID: d.CreditRate.CurrencyID}
		}
		v.Calculated = f
	}
	if r.HasUsage {
		v.UsageData = &usageDataObject{usageObject: usageValue(r.Usage), UsageUpdatedAt: millis(r.Usage.UpdatedAt)}
	}
	if err := encoder.Encode(name); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the newline that ends each value
	b.WriteByte(':')
	if err := encoder.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1)
	return nil
}

func currencyOf(c credits.Currency) currencyObject {
	return currencyObject{
		ID: c.ID, DisplayName: c.DisplayName, Description: optional(c.Description),
		UnitSingular: optional(c.UnitSingular), UnitPlural: optional(c.UnitPlural), Metadata: c.Metadata,
	}
}

func usageValue(u entitlements.Usage) usageObject {
	return usageObject{CurrentUsage: u.Current, UsagePeriodStart: millis(u.PeriodStart), UsagePeriodEnd: millis(u.PeriodEnd)}
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

func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
