package stiggtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The API's limits on one call.
const (
	maxBulkUsages   = 100
	maxEvents       = 1000
	maxEventBytes   = 1 << 20
	maxConsumptions = 1000
)

// idempotency names a change that must not happen twice.
type idempotency struct {
	change     string // what it changes: usage, event or credit
	customerID string
	key        string
}

// measurement is one report of usage.
type measurement struct {
	target
	FeatureID      string         `json:"featureId"`
	Value          *float64       `json:"value"`
	UpdateBehavior *string        `json:"updateBehavior"`
	IdempotencyKey *string        `json:"idempotencyKey"`
	CreatedAt      *string        `json:"createdAt"`
	Dimensions     map[string]any `json:"dimensions"`
}

func (m measurement) check() error {
	err := errors.Join(m.target.check(), checkUpdateBehavior(m.UpdateBehavior),
		noneEmpty("idempotencyKey", m.IdempotencyKey), checkTime("createdAt", m.CreatedAt))
	if m.FeatureID == "" || m.Value == nil {
		err = errors.Join(err, badInput("featureId and value are required"))
	}
	return err
}

func checkUpdateBehavior(behavior *string) error {
	if behavior != nil && *behavior != "DELTA" && *behavior != "SET" {
		return badInput("unknown updateBehavior %q", *behavior)
	}
	return nil
}

type usageInput struct {
	measurement
	EnvironmentID *string `json:"environmentId"`
}

func (in usageInput) check() error {
	return errors.Join(in.measurement.check(), noneEmpty("environmentId", in.EnvironmentID))
}

type usageBulkInput struct {
	Usages        []measurement `json:"usages"`
	EnvironmentID *string       `json:"environmentId"`
}

func (in usageBulkInput) check() error {
	if len(in.Usages) > maxBulkUsages {
		return badInput("%d usages: at most %d", len(in.Usages), maxBulkUsages)
	}
	for _, m := range in.Usages {
		if err := m.check(); err != nil {
			return err
		}
	}
	return noneEmpty("environmentId", in.EnvironmentID)
}

// measured answers a report of usage.
type measured struct {
	ID               string        `json:"id"`
	FeatureID        string        `json:"featureId"`
	CustomerID       string        `json:"customerId"`
	ResourceID       *string       `json:"resourceId"`
	CurrentUsage     *float64      `json:"currentUsage"`
	Credit           *creditEffect `json:"credit"`
	UsagePeriodStart *string       `json:"usagePeriodStart"`
	UsagePeriodEnd   *string       `json:"usagePeriodEnd"`
	NextResetDate    *string       `json:"nextResetDate"`
	Timestamp        *string       `json:"timestamp"`
}

// creditEffect is what a report of usage did to the wallet.
type creditEffect struct {
	CurrencyID     string  `json:"currencyId"`
	Consumed       float64 `json:"consumed"`
	CurrentUsage   float64 `json:"currentUsage"`
	Timestamp      *string `json:"timestamp"`
	UsagePeriodEnd *string `json:"usagePeriodEnd"`
}

func (s *Server) reportUsage(in usageInput) (measured, error) {
	if _, err := s.meteredFeature(in.measurement); err != nil {
		return measured{}, err
	}
	return s.measure(in.measurement), nil
}

// reportUsageBulk carries out all measurements or none.
func (s *Server) reportUsageBulk(in usageBulkInput) ([]measured, error) {
	for _, m := range in.Usages {
		if _, err := s.meteredFeature(m); err != nil {
			return nil, err
		}
	}
	answers := make([]measured, len(in.Usages))
	for i, m := range in.Usages {
		answers[i] = s.measure(m)
	}
	return answers, nil
}

func (s *Server) meteredFeature(m measurement) (*Entitlement, error) {
	if _, err := s.knownCustomer(m.CustomerID); err != nil {
		return nil, err
	}
	e := s.account(m.CustomerID, m.resource()).find(false, m.FeatureID)
	if e == nil || !e.tracksUsage {
		return nil, &apiError{codeNoFeature, fmt.Sprintf("no metered feature %q", m.FeatureID)}
	}
	return e, nil
}

// measure carries out a measurement whose feature exists.
func (s *Server) measure(m measurement) measured {
	var once *idempotency
	if m.IdempotencyKey != nil {
		once = &idempotency{"usage", m.CustomerID, *m.IdempotencyKey}
		if answer, ok := s.answered[*once].(measured); ok {
			return answer
		}
	}
	a := s.account(m.CustomerID, m.resource())
	e := a.find(false, m.FeatureID)
	used, now := m.increase(e), s.clock.tick()
	e.use(value(e.used)+used, now)
	answer := measured{
		ID:               s.nextID(),
		FeatureID:        m.FeatureID,
		CustomerID:       m.CustomerID,
		ResourceID:       m.ResourceID,
		CurrentUsage:     e.used,
		UsagePeriodStart: wireTime(e.periodStart),
		UsagePeriodEnd:   wireTime(e.periodEnd),
		NextResetDate:    wireTime(e.periodEnd),
		Timestamp:        wireTime(e.usageUpdatedAt),
	}
	if wallet := a.wallet(e); wallet != nil {
		cost := e.rate.Cost(used)
		wallet.use(value(wallet.used)+cost, now)
		answer.Credit = &creditEffect{
			CurrencyID:     wallet.id,
			Consumed:       cost,
			CurrentUsage:   *wallet.used,
			Timestamp:      wireTime(wallet.usageUpdatedAt),
			UsagePeriodEnd: wireTime(wallet.periodEnd),
		}
	}
	if once != nil {
		s.answered[*once] = answer
	}
	return answer
}

// increase is what the measurement adds to the present usage. Setting a lower
// usage takes away, and gives credits back.
func (m measurement) increase(e *Entitlement) float64 {
	if m.UpdateBehavior != nil && *m.UpdateBehavior == "SET" {
		return *m.Value - value(e.used)
	}
	return *m.Value
}

func (s *Server) knownCustomer(customerID string) (*customer, error) {
	c, ok := s.customers[customerID]
	if !ok {
		return nil, &apiError{codeNoCustomer, fmt.Sprintf("no customer %q", customerID)}
	}
	return c, nil
}

// Event is an event that a client reported.
type Event struct {
	CustomerID     string
	ResourceID     string // empty: none
	Name           string
	IdempotencyKey string
	Dimensions     map[string]any // numbers as float64
	Timestamp      time.Time      // zero: none was given
}

// Events returns the reported events in the order in which they were accepted,
// those with the same customer and idempotency key once.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := slices.Clone(s.events)
	for i := range events {
		events[i].Dimensions = maps.Clone(events[i].Dimensions)
	}
	return events
}

type eventInput struct {
	target
	EventName      string         `json:"eventName"`
	IdempotencyKey string         `json:"idempotencyKey"`
	Dimensions     map[string]any `json:"dimensions"`
	Timestamp      *string        `json:"timestamp"`
}

type eventsInput struct {
	UsageEvents   []json.RawMessage `json:"usageEvents"`
	EnvironmentID *string           `json:"environmentId"`
}

func (in eventsInput) check() error {
	if len(in.UsageEvents) > maxEvents {
		return badInput("%d events: at most %d", len(in.UsageEvents), maxEvents)
	}
	return noneEmpty("environmentId", in.EnvironmentID)
}

// reportEvents accepts all events or none. The answer carries nothing.
func (s *Server) reportEvents(in eventsInput) (any, error) {
	events := make([]Event, len(in.UsageEvents))
	for i, encoded := range in.UsageEvents {
		if len(encoded) > maxEventBytes {
			return nil, badInput("event %d has %d bytes: at most %d", i, len(encoded), maxEventBytes)
		}
		var event eventInput
		if err := (variables{"event": encoded}).decode("event", &event); err != nil {
			return nil, err
		}
		if event.EventName == "" || event.IdempotencyKey == "" {
			return nil, badInput("event %d: eventName and idempotencyKey are required", i)
		}
		if err := checkTime("timestamp", event.Timestamp); err != nil {
			return nil, err
		}
		events[i] = Event{
			CustomerID:     event.CustomerID,
			ResourceID:     event.resource(),
			Name:           event.EventName,
			IdempotencyKey: event.IdempotencyKey,
			Dimensions:     event.Dimensions,
			Timestamp:      parseTime(event.Timestamp),
		}
	}
	for _, event := range events {
		once := idempotency{"event", event.CustomerID, event.IdempotencyKey}
		if _, seen := s.answered[once]; !seen {
			s.answered[once] = struct{}{}
			s.events = append(s.events, event)
		}
	}
	return nil, nil
}

// parseTime reads a time that checkTime has passed; nil is the zero time.
func parseTime(text *string) time.Time {
	if text == nil {
		return time.Time{}
	}
	t, _ := time.Parse(time.RFC3339, *text) // checked before
	return t.UTC()
}
