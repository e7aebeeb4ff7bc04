// Package edge is the client of Stigg's Edge API: the answers about one
// customer, and what servers need to start.
package edge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/apistate"
	"github.com/stiggio/server-sdk-go/internal/httpx"
)

// DefaultMaxRetries is how often a request is sent again when the Config does
// not say.
const DefaultMaxRetries = 3

// Config configures a [Client].
type Config struct {
	// BaseURL is the Edge API's URL without a path, such as
	// "https://edge.api.stigg.io". Required.
	BaseURL string
	// APIKey is the server API key. Required.
	APIKey string
	// UserAgent names the program to the API.
	UserAgent string
	// HTTPClient sends the requests; redirects are not followed whatever it
	// says. Nil: a client of its own, which keeps idle connections.
	HTTPClient *http.Client
	// MaxRetries is how often a request is sent again after a network error, a
	// timeout, 429 or 5xx. 0: [DefaultMaxRetries]. Negative: never.
	MaxRetries int
}

// Client is a client of the Edge API. It is safe for concurrent use. Its
// errors are always [*apierr.Error].
type Client struct {
	base string
	http *httpx.Client
}

// New makes a client. It sends nothing; an unusable BaseURL shows as
// [apierr.ErrInvalidConfig] in the first request.
func New(cfg Config) *Client {
	retries := cfg.MaxRetries
	if retries == 0 {
		retries = DefaultMaxRetries
	}
	return &Client{
		base: strings.TrimRight(cfg.BaseURL, "/"),
		http: httpx.New(httpx.Config{
			Source:     entitlements.SourceEdge,
			APIKey:     cfg.APIKey,
			UserAgent:  cfg.UserAgent,
			HTTPClient: cfg.HTTPClient,
			MaxRetries: retries,
		}),
	}
}

// CloseIdle closes the idle connections, unless they belong to the caller's
// own HTTPClient. The client stays usable.
func (c *Client) CloseIdle() { c.http.CloseIdle() }

// EntitlementsState fetches everything about a customer, or about one resource
// of the customer if resourceID is not empty.
func (c *Client) EntitlementsState(ctx context.Context, customerID, resourceID string) (entitlements.State, error) {
	const op = "GetEntitlementsState"
	if customerID == "" {
		return entitlements.State{}, c.http.Fail(op, apierr.ErrInvalidArgument, errors.New("customer id is empty"))
	}
	query := url.Values{}
	if resourceID != "" {
		query.Set("resourceId", resourceID)
	}
	answer, err := c.get(ctx, op, "/v1/c/"+segment(customerID)+"/entitlements-state.json", query)
	if err != nil {
		return entitlements.State{}, err
	}
	var data struct {
		EntitlementsState json.RawMessage `json:"entitlementsState"`
	}
	if json.Unmarshal(answer.Data, &data) != nil {
		return entitlements.State{}, c.http.Fail(op, apierr.ErrMalformedResponse, errors.New("answer has no data"))
	}
	state, err := apistate.Decode(data.EntitlementsState)
	if err != nil {
		return entitlements.State{}, c.http.Fail(op, apierr.ErrMalformedResponse, err)
	}
	return state, nil
}

// CheckAPIKey asks whether the API accepts the API key. It fails with
// [apierr.ErrUnauthenticated] when not.
func (c *Client) CheckAPIKey(ctx context.Context) error {
	_, err := c.get(ctx, "CheckAPIKey", "/v1/config/server-sdk-configuration.json", nil)
	return err
}

// get sends a GET request, which may be sent again.
func (c *Client) get(ctx context.Context, op, path string, query url.Values) (httpx.Answer, error) {
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return c.http.Do(ctx, httpx.Request{
		Op:     op,
		Method: http.MethodGet,
		URL:    address,
		Header: http.Header{"X-Api-Version": {"1"}},
		Repeat: httpx.RepeatSafe,
	})
}

// segment escapes an id so that it is one segment of a path. The two names
// that mean a place in a path rather than a segment have their dots escaped.
func segment(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}
