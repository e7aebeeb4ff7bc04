package graphql

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	genqlient "github.com/Khan/genqlient/graphql"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/apistate"
	"github.com/stiggio/server-sdk-go/internal/httpx"
)

// maxRetries is how often an operation that may be repeated is sent again.
const maxRetries = 2

// Config configures a [Client].
type Config struct {
	// Endpoint is the URL of the API, such as "https://api.stigg.io/graphql".
	// Required.
	Endpoint string
	// APIKey is the server API key. Required.
	APIKey string
	// UserAgent names the program to the API.
	UserAgent string
	// HTTPClient sends the requests; redirects are not followed whatever it
	// says. Nil: a client of its own, which keeps idle connections.
	HTTPClient *http.Client
}

// Client sends the operations of this package. It is safe for concurrent use.
// Its errors are always the SDK's *Error, with the API's code and trace id.
//
// A query is sent again after a network error, a timeout, 429 or 5xx, as far
// as its context's deadline allows. A mutation is not, unless its context is
// [Idempotent] or no connection could be made.
type Client struct {
	endpoint string
	http     *httpx.Client
}

var _ genqlient.Client = (*Client)(nil)

// New makes a client. It sends nothing; an unusable Endpoint shows in the
// first request.
func New(cfg Config) *Client {
	return &Client{
		endpoint: cfg.Endpoint,
		http: httpx.New(httpx.Config{
			Source:     entitlements.SourceGraphQL,
			APIKey:     cfg.APIKey,
			UserAgent:  cfg.UserAgent,
			HTTPClient: cfg.HTTPClient,
			MaxRetries: maxRetries,
		}),
	}
}

// CloseIdle closes the idle connections, unless they belong to the caller's
// own HTTPClient. The client stays usable.
func (c *Client) CloseIdle() { c.http.CloseIdle() }

type idempotentKey struct{}

// Idempotent marks the mutations sent with the returned context as harmless
// when they arrive twice, because they carry idempotency keys. They are then
// sent again like queries.
func Idempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotentKey{}, true)
}

// MakeRequest sends one operation and reads its data into resp.Data. Data that
// comes with errors is not read: the operation has failed. It implements the
// client of the generated functions.
func (c *Client) MakeRequest(ctx context.Context, req *genqlient.Request, resp *genqlient.Response) error {
	body, err := json.Marshal(req)
	if err != nil {
		return c.http.Fail(req.OpName, apierr.ErrInvalidArgument, err)
	}
	answer, err := c.http.Do(ctx, httpx.Request{
		Op:     req.OpName,
		Method: http.MethodPost,
		URL:    c.endpoint,
		Header: http.Header{
			"Content-Type":             {"application/json"},
			"X-Graphql-Operation-Name": {req.OpName},
		},
		Body:   body,
		Repeat: repeat(ctx, req.Query),
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Data, resp.Data); err != nil {
		return c.http.Fail(req.OpName, apierr.ErrMalformedResponse, misfit(err))
	}
	return nil
}

// repeat says when an operation may be sent again.
func repeat(ctx context.Context, document string) httpx.Repeat {
	if idempotent, _ := ctx.Value(idempotentKey{}).(bool); idempotent {
		return httpx.RepeatSafe
	}
	if strings.HasPrefix(strings.TrimSpace(document), "query") {
		return httpx.RepeatSafe
	}
	return httpx.RepeatUnsent
}

// misfit names the place of data that is missing or does not fit, without its
// value.
func misfit(err error) error {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) && t.Field != "" {
		return errors.New(t.Field + " is of another type")
	}
	return errors.New("data is missing or does not fit")
}

// EntitlementsState fetches everything about a customer, or about one resource
// of the customer if resourceID is not empty. It sees every write that was
// confirmed before.
func (c *Client) EntitlementsState(ctx context.Context, customerID, resourceID string) (entitlements.State, error) {
	const op = "GetEntitlementsState"
	if customerID == "" {
		return entitlements.State{}, c.http.Fail(op, apierr.ErrInvalidArgument, errors.New("customer id is empty"))
	}
	query := FetchEntitlementsQuery{CustomerId: customerID}
	if resourceID != "" {
		query.ResourceId = &resourceID
	}
	resp, err := GetEntitlementsState(ctx, c, query)
	if err != nil {
		return entitlements.State{}, err
	}
	state, err := apistate.Decode(resp.EntitlementsState)
	if err != nil {
		return entitlements.State{}, c.http.Fail(op, apierr.ErrMalformedResponse, err)
	}
	return state, nil
}

// CheckAPIKey asks whether the API accepts the API key.
func (c *Client) CheckAPIKey(ctx context.Context) error {
	_, err := GetSdkConfiguration(ctx, c)
	return err
}
