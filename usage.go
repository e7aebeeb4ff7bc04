package stigg

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/graphql"
)

const (
	maxReportsPerCall      = 100     // contract of reportUsageBulk
	maxEventsPerCall       = 1000    // contract of reportEvent
	maxConsumptionsPerCall = 1000    // contract of consumeCreditsAsync
	maxEventBytes          = 1 << 20 // contract of reportEvent, an event
	maxCallBytes           = 8 << 20 // ours: so that a thousand large events are not one request
)

// UpdateBehavior says what a reported value does to the usage.
type UpdateBehavior string

// The update behaviors.
const (
	UpdateDelta UpdateBehavior = "DELTA" // adds to the usage; the default
	UpdateSet   UpdateBehavior = "SET"   // becomes the usage
)

// UsageReport reports the usage of a metered feature.
type UsageReport struct {
	CustomerID     string         // required, at most 255 characters
	ResourceID     string         // optional
	FeatureID      string         // required, at most 255 characters
	Value          float64        // units; may be negative
	UpdateBehavior UpdateBehavior // default UpdateDelta
	CreatedAt      time.Time      // when it was used; zero: now, by the API's clock
	Dimensions     map[string]any // optional, for metering by dimension
	// IdempotencyKey makes a repeated report count once. Default: a new key,
	// which the answer tells.
	IdempotencyKey string
}

// UsageMeasurement is what the API says of a report.
type UsageMeasurement struct {
	ID               string
	CustomerID       string
	ResourceID       string
	FeatureID        string
	CurrentUsage     *float64 // units after the report; nil if the API did not say
	UsagePeriodStart time.Time
	UsagePeriodEnd   time.Time // the next reset; zero: none
	Timestamp        time.Time // of the usage after the report
	Credit           *CreditEffect
	IdempotencyKey   string // the key that the report was sent with
}

// CreditEffect is what a report did to the wallet that the feature draws on.
type CreditEffect struct {
	CurrencyID     string
	Consumed       float64 // credits that the report cost
	CurrentUsage   float64 // credits consumed in total after it
	UsagePeriodEnd time.Time
	Timestamp      time.Time
}

// ReportUsage reports usage and writes the usage that the API answers with to
// Redis, so that the next check in any process sees it. It is sent again after
// a failure, which its idempotency key makes harmless.
//
// Errors: ErrInvalidArgument, ErrClosed and ErrOffline, and nothing was sent;
// else the API's. But for ErrInvalidArgument, it is safe to report again with
// the same IdempotencyKey, which the answer tells even then. A failure to write
// to Redis is not an error: it is counted.
func (c *Client) ReportUsage(ctx context.Context, report UsageReport) (UsageMeasurement, error) {
	if err := report.check(); err != nil {
		c.counters.invalidCalls.Add(1)
		return UsageMeasurement{}, err
	}
	withKey(&report.IdempotencyKey)
	if err := c.usable(); err != nil {
		return UsageMeasurement{IdempotencyKey: report.IdempotencyKey}, err
	}
	in := report.input()
	callCtx, cancel := c.callContext(ctx)
	defer cancel()
	answer, err := graphql.ReportUsage(graphql.Idempotent(callCtx), c.graphql, graphql.ReportUsageInput{
		CustomerId: in.CustomerId, ResourceId: in.ResourceId, FeatureId: in.FeatureId, Value: in.Value,
		UpdateBehavior: in.UpdateBehavior, CreatedAt: in.CreatedAt, Dimensions: in.Dimensions, IdempotencyKey: in.IdempotencyKey,
	})
	if err != nil {
		return UsageMeasurement{IdempotencyKey: report.IdempotencyKey}, err
	}
	m := measurement(&answer.ReportUsage, report.IdempotencyKey)
	c.writeUsages(ctx, m.usages())
	return m, nil
}

// ReportUsageBulk reports many usages, in calls of at most 100. The reports of
// one call are accepted or refused together. It ends at the first call that
// fails: the result says exactly which reports went through, and tells the
// idempotency key of each, with which the rest can be reported again. Errors
// are as for ReportUsage.
func (c *Client) ReportUsageBulk(ctx context.Context, reports []UsageReport) (UsageBulkResult, error) {
	result := UsageBulkResult{}
	for i := range reports {
		if err := reports[i].check(); err != nil {
			c.counters.invalidCalls.Add(1)
			return result, fmt.Errorf("report %d: %w", i, err)
		}
	}
	inputs := make([]graphql.ReportUsageBaseInput, len(reports))
	result.IdempotencyKeys = make([]string, len(reports))
	for i, report := range reports {
		withKey(&report.IdempotencyKey)
		result.IdempotencyKeys[i], inputs[i] = report.IdempotencyKey, report.input()
	}
	if err := c.usable(); err != nil {
		return result, err
	}
	var err error
	result.Parts, err = inParts(len(reports), maxReportsPerCall, nil, func(from, to int) error {
		callCtx, cancel := c.callContext(ctx)
		defer cancel()
		answer, err := graphql.ReportUsageBulk(graphql.Idempotent(callCtx), c.graphql, graphql.ReportUsageBulkInput{Usages: inputs[from:to]})
		if err != nil {
			return err
		}
		var usages []usageWrite
		for i := range answer.ReportUsageBulk {
			var key string
			if from+i < to {
				key = result.IdempotencyKeys[from+i]
			}
			m := measurement(&answer.ReportUsageBulk[i], key)
			result.Measurements = append(result.Measurements, m)
			usages = append(usages, m.usages()...)
		}
		c.writeUsages(ctx, usages)
		return nil
	})
	return result, err
}

// UsageEvent is a raw event, of which Stigg computes usage.
type UsageEvent struct {
	CustomerID     string         // required, at most 255 characters
	ResourceID     string         // optional
	EventName      string         // required
	Dimensions     map[string]any // optional; what the features filter and aggregate by
	Timestamp      time.Time      // when it happened; zero: now, by the API's clock
	IdempotencyKey string         // default: a new key, which the answer tells
}

// ReportEvents reports raw events, in calls of at most 1,000 events. The API
// takes them in and computes the usage later: it is not in Redis when this
// returns. An event over 1 MB is an ErrInvalidArgument. Otherwise it is as
// ReportUsageBulk.
func (c *Client) ReportEvents(ctx context.Context, events []UsageEvent) (BulkResult, error) {
	inputs := make([]graphql.UsageEventReportInput, len(events))
	sizes := make([]int, len(events))
	result := BulkResult{IdempotencyKeys: make([]string, len(events))}
	for i := range events {
		input, size, err := events[i].input()
		if err != nil {
			c.counters.invalidCalls.Add(1)
			return BulkResult{}, fmt.Errorf("event %d: %w", i, err)
		}
		inputs[i], sizes[i], result.IdempotencyKeys[i] = input, size, input.IdempotencyKey
	}
	if err := c.usable(); err != nil {
		return result, err
	}
	var err error
	result.Parts, err = inParts(len(events), maxEventsPerCall, sizes, func(from, to int) error {
		callCtx, cancel := c.callContext(ctx)
		defer cancel()
		_, err := graphql.ReportEvent(graphql.Idempotent(callCtx), c.graphql, graphql.UsageEventsReportInput{UsageEvents: inputs[from:to]})
		return err
	})
	return result, err
}

func (e *UsageEvent) input() (graphql.UsageEventReportInput, int, error) {
	if err := checkQuery(e.CustomerID, e.ResourceID, "EventName", e.EventName, 0); err != nil {
		return graphql.UsageEventReportInput{}, 0, err
	}
	key := e.IdempotencyKey
	withKey(&key)
	input := graphql.UsageEventReportInput{
		CustomerId: e.CustomerID, ResourceId: orNil(e.ResourceID), EventName: e.EventName,
		Dimensions: e.Dimensions, Timestamp: graphql.OptionalTime(e.Timestamp), IdempotencyKey: key,
	}
	encoded, err := json.Marshal(input)
	switch {
	case err != nil:
		return input, 0, invalidArgument("Dimensions cannot be encoded: %w", err)
	case len(encoded) > maxEventBytes:
		return input, 0, invalidArgument("is larger than 1 MB")
	}
	return input, len(encoded), nil
}

func (r *UsageReport) check() error {
	if err := checkQuery(r.CustomerID, r.ResourceID, "FeatureID", r.FeatureID, 0); err != nil {
		return err
	}
	if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		return invalidArgument("Value must be a finite number")
	}
	switch r.UpdateBehavior {
	case "", UpdateDelta, UpdateSet:
	default:
		return invalidArgument("UpdateBehavior %q is not known", r.UpdateBehavior)
	}
	return checkDimensions(r.Dimensions)
}

func checkDimensions(dimensions map[string]any) error {
	if len(dimensions) == 0 {
		return nil
	}
	if _, err := json.Marshal(dimensions); err != nil {
		return invalidArgument("Dimensions cannot be encoded: %w", err)
	}
	return nil
}

func (r *UsageReport) input() graphql.ReportUsageBaseInput {
	input := graphql.ReportUsageBaseInput{
		CustomerId: r.CustomerID, ResourceId: orNil(r.ResourceID), FeatureId: r.FeatureID, Value: r.Value,
		CreatedAt: graphql.OptionalTime(r.CreatedAt), Dimensions: r.Dimensions, IdempotencyKey: orNil(r.IdempotencyKey),
	}
	if r.UpdateBehavior != "" {
		behavior := graphql.UsageUpdateBehavior(r.UpdateBehavior)
		input.UpdateBehavior = &behavior
	}
	return input
}

func measurement(a *graphql.UsageMeasurement, key string) UsageMeasurement {
	m := UsageMeasurement{
		ID: a.Id, CustomerID: a.CustomerId, ResourceID: orEmpty(a.ResourceId), FeatureID: a.FeatureId,
		CurrentUsage: a.CurrentUsage, UsagePeriodStart: a.UsagePeriodStart.OrZero(), UsagePeriodEnd: a.UsagePeriodEnd.OrZero(),
		Timestamp: a.Timestamp.Time, IdempotencyKey: key,
	}
	if m.UsagePeriodEnd.IsZero() {
		m.UsagePeriodEnd = a.NextResetDate.OrZero()
	}
	if a.Credit != nil {
		m.Credit = &CreditEffect{
			CurrencyID: a.Credit.CurrencyId, Consumed: a.Credit.Consumed, CurrentUsage: a.Credit.CurrentUsage,
			UsagePeriodEnd: a.Credit.UsagePeriodEnd.OrZero(), Timestamp: a.Credit.Timestamp.Time,
		}
	}
	return m
}

// usages are what a measurement says for Redis.
func (m *UsageMeasurement) usages() []usageWrite {
	k := key(m.CustomerID, m.ResourceID)
	var usages []usageWrite
	if m.CurrentUsage != nil {
		usages = append(usages, usageWrite{k, cache.UsageUpdate{
			Ref: cache.Ref{ID: m.FeatureID}, At: m.Timestamp,
			Usage: entitlements.Usage{Current: *m.CurrentUsage, PeriodStart: m.UsagePeriodStart, PeriodEnd: m.UsagePeriodEnd},
		}})
	}
	if m.Credit != nil {
		usages = append(usages, usageWrite{k, cache.UsageUpdate{
			Ref: cache.Ref{IsCredit: true, ID: m.Credit.CurrencyID}, At: m.Credit.Timestamp,
			Usage: entitlements.Usage{Current: m.Credit.CurrentUsage, PeriodEnd: m.Credit.UsagePeriodEnd},
		}})
	}
	return usages
}

// usageWrite is a usage that the API told, for Redis.
type usageWrite struct {
	key    cache.Key
	update cache.UsageUpdate
}

// writesAtOnce is how many customers' usages are written to Redis at a time:
// enough for those of a whole call to get there within RedisConfig.Timeout
// where Redis is milliseconds away, and fewer than a pool has connections.
const writesAtOnce = 16

// writeUsages writes what the API told to Redis, before the caller is answered,
// so that the next check sees it. However many customers there are, it waits no
// longer than one check would, and not because ctx has ended: the usage has
// been reported.
func (c *Client) writeUsages(ctx context.Context, usages []usageWrite) {
	if len(usages) == 0 {
		return
	}
	byKey := make(map[cache.Key][]cache.UsageUpdate)
	for _, u := range usages {
		if !u.update.At.IsZero() {
			byKey[u.key] = append(byKey[u.key], u.update)
		}
	}
	eachCustomer(byKey, len(byKey), func(k cache.Key, updates []cache.UsageUpdate) {
		c.changed(ctx, k, updates)
		c.forgetUsages(k, updates)
	})
	maps.DeleteFunc(byKey, func(k cache.Key, _ []cache.UsageUpdate) bool { return k.Ambiguous() })
	if c.store == nil || len(byKey) == 0 {
		return
	}
	if !c.redisUp() {
		c.wrote(cache.WriteResult{}, errRedisAway)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.config.Redis.Timeout)
	defer cancel()
	var failed atomic.Bool
	eachCustomer(byKey, writesAtOnce, func(k cache.Key, updates []cache.UsageUpdate) {
		if failed.Load() {
			return // what failed for one fails for all, and the caller waits
		}
		result, err := c.store.UpdateUsages(ctx, k, updates)
		c.wrote(result, err)
		c.forgetUsages(k, updates)
		c.observe(Event{Type: EventWritten, CustomerID: k.CustomerID, ResourceID: k.ResourceID, Applied: result.Applied, Skipped: result.Skipped, Err: err})
		if err != nil && !errors.Is(err, cache.ErrLocked) { // a lock is one customer's
			failed.Store(true)
		}
	})
}

// eachCustomer does something for every customer, for no more than atOnce of
// them at a time, and waits for all.
func eachCustomer(byKey map[cache.Key][]cache.UsageUpdate, atOnce int, do func(cache.Key, []cache.UsageUpdate)) {
	if len(byKey) == 1 {
		for k, updates := range byKey {
			do(k, updates)
		}
		return
	}
	places := make(chan struct{}, atOnce)
	var doing sync.WaitGroup
	for k, updates := range byKey {
		places <- struct{}{}
		doing.Go(func() {
			defer func() { <-places }()
			do(k, updates)
		})
	}
	doing.Wait()
}

// changed lets go of what this process knows of k from before a change, and
// waits no longer than one check would for what it was about to write.
func (c *Client) changed(ctx context.Context, k cache.Key, updates []cache.UsageUpdate) {
	var wait time.Duration // without Redis nothing is about to be written
	if c.store != nil {
		wait = c.config.Redis.Timeout
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	c.refetch.Changed(ctx, k, updates)
}

// callContext bounds one call to the API.
func (c *Client) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.config.Timeout)
}

// withKey makes an idempotency key if there is none.
func withKey(key *string) {
	if *key == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		*key = hex.EncodeToString(b[:])
	}
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
