package stiggtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The codes of the errors that the fake gives by itself.
const (
	codeBadInput         = "BadUserInput"
	codeUnknownOperation = "GRAPHQL_VALIDATION_FAILED"
	codeNoCustomer       = "CustomerNotFound"
	codeNoFeature        = "FeatureNotFound"
	codeNoCurrency       = "CustomCurrencyNotFound"
	codeInternal         = "InternalServerError"
)

// apiError is an error that goes to the client.
type apiError struct {
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func badInput(format string, args ...any) error {
	return &apiError{codeBadInput, fmt.Sprintf(format, args...)}
}

// serveGraphQL answers one operation. Errors come with status 200, as GraphQL
// has it, unless the request is not one of GraphQL at all.
func (s *Server) serveGraphQL(w http.ResponseWriter, r *http.Request, request Request) {
	if r.Method != http.MethodPost {
		writeStatus(w, http.StatusMethodNotAllowed)
		return
	}
	var payload struct {
		Query     string                     `json:"query"`
		Variables map[string]json.RawMessage `json:"variables"`
	}
	if err := json.Unmarshal(request.Body, &payload); err != nil || payload.Query == "" {
		writeStatus(w, http.StatusBadRequest)
		return
	}
	body, err := s.execute(request.Operation, payload.Variables)
	if err != nil {
		var known *apiError
		if !errors.As(err, &known) {
			known = &apiError{codeInternal, err.Error()}
		}
		body = s.errorBody(known)
	}
	writeJSON(w, http.StatusOK, body)
}

// execute returns the whole body of an operation's answer. It takes the lock.
func (s *Server) execute(operation string, vars variables) ([]byte, error) {
	switch operation {
	case "GetEntitlementsState":
		var query scopedTarget
		if err := vars.decode("query", &query); err != nil {
			return nil, err
		}
		return s.stateBody(query.CustomerID, query.resource()), nil
	case "GetSdkConfiguration":
		return dataBody("sdkConfiguration", map[string]any{
			"isWidgetWatermarkEnabled": false, "sentryDsn": nil, "showWatermark": false,
		})
	case "ReportUsage":
		return run(s, vars, "input", "reportUsage", s.reportUsage)
	case "ReportUsageBulk":
		return run(s, vars, "input", "reportUsageBulk", s.reportUsageBulk)
	case "ReportEvent":
		return run(s, vars, "events", "reportEvent", s.reportEvents)
	case "ConsumeCredits":
		return run(s, vars, "input", "consumeCredits", s.consumeCredits)
	case "ConsumeCreditsAsync":
		return run(s, vars, "input", "consumeCreditsAsync", s.consumeCreditsAsync)
	case "EstimateUsageCost":
		return run(s, vars, "input", "estimateUsageCost", s.estimateUsageCost)
	case "EstimateEventCost":
		return run(s, vars, "input", "estimateEventCost", s.estimateEventCost)
	case "GetCreditBalance":
		return run(s, vars, "input", "creditBalanceSummary", s.creditBalance)
	case "GetCreditGrants":
		return run(s, vars, "input", "creditGrants", s.creditGrants)
	case "GetCreditLedger":
		return run(s, vars, "input", "creditsLedger", s.creditLedger)
	case "GetCreditUsage":
		return run(s, vars, "input", "creditUsage", s.creditUsage)
	case "GetAutomaticRechargeConfiguration":
		return run(s, vars, "input", "getAutoRechargeSettings", s.autoRecharge)
	default:
		return nil, &apiError{codeUnknownOperation, fmt.Sprintf("stiggtest does not know the operation %q", operation)}
	}
}

// run decodes an operation's argument, carries the operation out under the
// lock, and wraps its result.
func run[In, Out any](s *Server, vars variables, argument, field string, do func(In) (Out, error)) ([]byte, error) {
	var input In
	if err := vars.decode(argument, &input); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result, err := do(input)
	if err != nil {
		return nil, err
	}
	return dataBody(field, result)
}

// variables are the variables of an operation, each still encoded.
type variables map[string]json.RawMessage

// decode reads the operation's one argument as strictly as a schema would:
// unknown variables and fields are refused.
func (v variables) decode(argument string, input any) error {
	for name := range v {
		if name != argument {
			return badInput("unknown variable %q", name)
		}
	}
	encoded, ok := v[argument]
	if !ok || bytes.Equal(encoded, []byte("null")) {
		return badInput("variable %q is required", argument)
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(input); err != nil {
		return badInput("variable %q: %v", argument, err)
	}
	if checked, ok := input.(interface{ check() error }); ok {
		return checked.check()
	}
	return nil
}

// target is the customer and resource that most inputs name.
type target struct {
	CustomerID string  `json:"customerId"`
	ResourceID *string `json:"resourceId"`
}

func (t target) check() error {
	if t.CustomerID == "" {
		return badInput("customerId is required")
	}
	return noneEmpty("resourceId", t.ResourceID)
}

func (t target) resource() string {
	if t.ResourceID == nil {
		return ""
	}
	return *t.ResourceID
}

// scopedTarget is a target in inputs that may name an environment as well.
type scopedTarget struct {
	target
	EnvironmentID *string `json:"environmentId"`
}

func (t scopedTarget) check() error {
	return errors.Join(t.target.check(), noneEmpty("environmentId", t.EnvironmentID))
}

// noneEmpty refuses optional strings that were sent empty in place of being
// left out. It takes names and values in turn.
func noneEmpty(namesAndValues ...any) error {
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		if text, ok := namesAndValues[i+1].(*string); ok && text != nil && *text == "" {
			return badInput("%v is empty: leave it out", namesAndValues[i])
		}
	}
	return nil
}

// checkTime refuses what is not a time, and Go's zero time, which no client
// means to send.
func checkTime(name string, text *string) error {
	if text == nil {
		return nil
	}
	if t, err := time.Parse(time.RFC3339, *text); err != nil || t.IsZero() {
		return badInput("%s is not a time: %q", name, *text)
	}
	return nil
}

func dataBody(field string, result any) ([]byte, error) {
	return json.Marshal(map[string]any{"data": map[string]any{field: result}})
}

// errorBody gives the error a trace id of its own. It takes the lock.
func (s *Server) errorBody(e *apiError) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errorBody(e.code, e.message, "stiggtest-"+s.nextID())
}

func errorBody(code, message, traceID string) []byte {
	extensions := make(map[string]string)
	if code != "" {
		extensions["code"] = code
	}
	if traceID != "" {
		extensions["traceId"] = traceID
	}
	body, _ := json.Marshal(map[string]any{ // strings always marshal
		"data":   nil,
		"errors": []any{map[string]any{"message": message, "extensions": extensions}},
	})
	return body
}

// nextID returns a new id. It needs the lock.
func (s *Server) nextID() string {
	s.lastID++
	return strconv.Itoa(s.lastID)
}
