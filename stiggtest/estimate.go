package stiggtest

import "errors"

// eventCost is what one event uses of a feature.
type eventCost struct {
	featureID string
	units     float64
}

// SetEventCost makes the cost estimation of an event count it as units of
// usage of a feature. An event without a cost is estimated as one of a feature
// that is not found.
func (s *Server) SetEventCost(eventName, featureID string, units float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventCost[eventName] = eventCost{featureID, units}
}

type estimateUsageInput struct {
	target
	FeatureID      string         `json:"featureId"`
	Value          *float64       `json:"value"`
	UpdateBehavior *string        `json:"updateBehavior"`
	Dimensions     map[string]any `json:"dimensions"`
}

func (in estimateUsageInput) check() error {
	err := errors.Join(in.target.check(), checkUpdateBehavior(in.UpdateBehavior))
	if in.FeatureID == "" || in.Value == nil {
		err = errors.Join(err, badInput("featureId and value are required"))
	}
	return err
}

type estimateEventInput struct {
	target
	EventName  string         `json:"eventName"`
	Dimensions map[string]any `json:"dimensions"`
}

func (in estimateEventInput) check() error {
	err := in.target.check()
	if in.EventName == "" {
		err = errors.Join(err, badInput("eventName is required"))
	}
	return err
}

// estimation answers an estimate of cost.
type estimation struct {
	Estimates []currencyEstimate `json:"estimates"`
	Warnings  []string           `json:"warnings"`
}

type currencyEstimate struct {
	CurrencyID           string        `json:"currencyId"`
	EstimatedCost        float64       `json:"estimatedCost"`
	CurrentBalance       float64       `json:"currentBalance"`
	BalanceAfterEstimate float64       `json:"balanceAfterEstimate"`
	WouldOverdraft       bool          `json:"wouldOverdraft"`
	Breakdown            []featureCost `json:"breakdown"`
}

type featureCost struct {
	FeatureID   string  `json:"featureId"`
	Cost        float64 `json:"cost"`
	WarningCode *string `json:"warningCode"`
}

func (s *Server) estimateUsageCost(in estimateUsageInput) (estimation, error) {
	return s.estimate(measurement{
		target: in.target, FeatureID: in.FeatureID, Value: in.Value, UpdateBehavior: in.UpdateBehavior,
	})
}

func (s *Server) estimateEventCost(in estimateEventInput) (estimation, error) {
	cost := s.eventCost[in.EventName] // an unknown event is of no feature
	return s.estimate(measurement{target: in.target, FeatureID: cost.featureID, Value: &cost.units})
}

// estimate says what a measurement would cost, and changes nothing.
func (s *Server) estimate(m measurement) (estimation, error) {
	answer := estimation{Estimates: []currencyEstimate{}, Warnings: []string{}}
	if _, err := s.knownCustomer(m.CustomerID); err != nil {
		return answer, err
	}
	a := s.account(m.CustomerID, m.resource())
	e := a.find(false, m.FeatureID)
	switch {
	case e == nil:
		answer.Warnings = append(answer.Warnings, "FEATURE_NOT_FOUND")
		return answer, nil
	case e.rate == nil:
		answer.Warnings = append(answer.Warnings, "FEATURE_NOT_CREDIT_BASED")
		return answer, nil
	}
	var balance float64
	if wallet := a.wallet(e); wallet != nil {
		balance = value(wallet.limit) - value(wallet.used)
	}
	cost := e.rate.Cost(m.increase(e))
	answer.Estimates = append(answer.Estimates, currencyEstimate{
		CurrencyID:           e.rate.CurrencyID,
		EstimatedCost:        cost,
		CurrentBalance:       balance,
		BalanceAfterEstimate: balance - cost,
		WouldOverdraft:       balance < cost,
		Breakdown:            []featureCost{{FeatureID: e.id, Cost: cost}},
	})
	return answer, nil
}
