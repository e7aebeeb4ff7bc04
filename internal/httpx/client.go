package httpx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apierr"
)

const (
	// maxBody bounds an answer. The largest customers seen are far below 1 MiB.
	maxBody = 32 << 20
	// maxErrorBody bounds the answer to a failed request, of which only the
	// error's code and trace id are wanted.
	maxErrorBody = 1 << 20
	// maxAttempt bounds one attempt when the caller's context has no deadline.
	maxAttempt = 30 * time.Second
)

// Config configures a [Client].
type Config struct {
	Source    entitlements.Source // named in errors
	APIKey    string
	UserAgent string
	// HTTPClient sends the requests; redirects are not followed whatever it
	// says. Nil: a client of its own, with enough idle connections.
	HTTPClient *http.Client
	// MaxRetries is how often a request is sent again. 0 and less: never.
	MaxRetries int
}

// Client sends requests to one API. It is safe for concurrent use.
type Client struct {
	source     entitlements.Source
	apiKey     string
	userAgent  string
	http       http.Client
	own        bool
	maxRetries int
}

// Repeat says when a request may be sent again.
type Repeat int

// The rules for sending a request again.
const (
	// RepeatUnsent is for requests that change something: only when the
	// connection could not be made, so that the request surely never left.
	RepeatUnsent Repeat = iota
	// RepeatSafe is for requests that may arrive twice.
	RepeatSafe
)

// Request is one request to an API.
type Request struct {
	Op     string // the operation, for errors
	Method string
	URL    string
	Header http.Header // beside the key, the user agent and Accept
	Body   []byte
	Repeat Repeat
}

// New makes a client. It does nothing else; mistakes in the configuration show
// in the first request.
func New(cfg Config) *Client {
	c := &Client{
		source:     cfg.Source,
		apiKey:     cfg.APIKey,
		userAgent:  cfg.UserAgent,
		maxRetries: max(cfg.MaxRetries, 0),
		own:        cfg.HTTPClient == nil,
	}
	if c.own {
		c.http.Transport = NewTransport()
	} else {
		c.http = *cfg.HTTPClient
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// NewTransport keeps more idle connections to one host than the default
// transport, whose two are closed and dialed again under any load, and notices
// a multiplexed connection that has gone dead: nothing else would for as long as
// the system sends its bytes again, and every request would go to it.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// CloseIdle closes the idle connections, if they are the client's own. The
// client stays usable.
func (c *Client) CloseIdle() {
	if c.own {
		c.http.CloseIdleConnections()
	}
}

// Fail makes the error of an operation that found its answer to be of the
// given kind.
func (c *Client) Fail(op string, kind, err error) *apierr.Error {
	return &apierr.Error{Op: op, Source: c.source, Kind: kind, Err: err}
}

// Do sends a request, again if the rules and ctx's deadline allow it, and
// returns the answer of the first attempt that got one. An attempt may take all
// of the time that ctx leaves: a slow answer that is cut off and asked for again
// only makes a slow API slower.
//
// An error is always an [*apierr.Error].
func (c *Client) Do(ctx context.Context, req Request) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, c.Fail(req.Op, apierr.ErrUnavailable, err)
	}
	for n := 0; ; n++ {
		answer, failure := c.attempt(ctx, req)
		if failure == nil {
			return answer, nil
		}
		if !failure.temporary {
			return Answer{}, failure.err
		}
		again := n < c.maxRetries && failure.mayRepeat(req.Repeat)
		if !again || !wait(ctx, n, failure.err.RetryAfter) {
			return Answer{}, blame(ctx, failure.err)
		}
	}
}

// failure is a failed attempt.
type failure struct {
	err       *apierr.Error
	temporary bool // another attempt can fare better
	unsent    bool // the request surely never left
}

func (f *failure) mayRepeat(r Repeat) bool {
	return r == RepeatSafe || f.unsent
}

// attempt sends the request once.
func (c *Client) attempt(ctx context.Context, req Request) (Answer, *failure) {
	limited, cancel := limit(ctx)
	defer cancel()

	var connected atomic.Bool
	hreq, err := http.NewRequestWithContext(
		httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
		}),
		req.Method, req.URL, bytes.NewReader(req.Body))
	if err != nil {
		return Answer{}, &failure{err: c.Fail(req.Op, apierr.ErrInvalidConfig, errors.New("unusable url"))}
	}
	for name, values := range req.Header {
		hreq.Header[name] = values
	}
	hreq.Header.Set("Accept", "application/json")
	hreq.Header.Set("X-API-KEY", c.apiKey)
	hreq.Header.Set("User-Agent", c.userAgent)

	resp, err := c.http.Do(hreq)
	if err != nil {
		return Answer{}, &failure{
			err:       c.Fail(req.Op, apierr.ErrUnavailable, cause(ctx, err)),
			temporary: true,
			unsent:    !connected.Load() && isDial(err),
		}
	}
	defer func() { _ = resp.Body.Close() }()

	bound := int64(maxBody)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		bound = maxErrorBody
	}
	// Reading to the end is what lets the connection be used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, bound+1))
	if bound == maxErrorBody {
		return Answer{}, c.refused(req.Op, resp, body)
	}
	if err != nil {
		return Answer{}, &failure{err: c.Fail(req.Op, apierr.ErrUnavailable, cause(ctx, err)), temporary: true}
	}
	if len(body) > maxBody {
		body = nil
		err = errors.New("answer is too large")
	}
	return c.accept(req.Op, resp.StatusCode, body, err)
}

// limit bounds one attempt where ctx does not.
func limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok {
		return context.WithTimeout(ctx, maxAttempt)
	}
	return context.WithCancel(ctx)
}
