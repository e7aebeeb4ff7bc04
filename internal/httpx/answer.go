package httpx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/stiggio/server-sdk-go/internal/apierr"
)

// Answer is an API's answer without errors.
type Answer struct {
	Data json.RawMessage // the member "data"; nil when absent or null
	Body json.RawMessage // the whole answer, a JSON object
}

// envelope is what the APIs wrap their answers in.
type envelope struct {
	Data   json.RawMessage   `json:"data"`
	Errors []json.RawMessage `json:"errors"`
}

// apiError is what is wanted of one error of an API: code and traceId.
type apiError struct {
	Extensions map[string]any `json:"extensions"`
}

// extension is the extension of that name, or nothing if it is not a token.
func (e apiError) extension(name string) string {
	s, _ := e.Extensions[name].(string)
	return token(s)
}

// accept reads the answer to a request that succeeded as far as HTTP goes.
func (c *Client) accept(op string, status int, body []byte, err error) (Answer, *failure) {
	malformed := func(err error) (Answer, *failure) {
		e := c.Fail(op, apierr.ErrMalformedResponse, err)
		e.Status = status
		return Answer{}, &failure{err: e}
	}
	if err != nil {
		return malformed(err)
	}
	body = bytes.TrimSpace(body)
	var e envelope
	if len(body) == 0 || body[0] != '{' || json.Unmarshal(body, &e) != nil {
		return malformed(errors.New("answer is not the json object that was expected"))
	}
	if len(e.Errors) > 0 {
		return Answer{}, &failure{err: c.describe(op, status, e.Errors, apierr.ErrRejected)}
	}
	if string(e.Data) == "null" {
		e.Data = nil
	}
	return Answer{Data: e.Data, Body: body}, nil
}

// refused reads the answer to a request that failed as far as HTTP goes. Its
// body may be anything; a code and a trace id in it are kept.
func (c *Client) refused(op string, resp *http.Response, body []byte) *failure {
	var e envelope
	if len(body) <= maxErrorBody {
		_ = json.Unmarshal(body, &e)
	}
	status := resp.StatusCode
	f := &failure{err: c.describe(op, status, e.Errors, kindOfStatus(status))}
	if status == http.StatusTooManyRequests || status >= 500 {
		f.temporary = true
		f.err.RetryAfter = retryAfter(resp.Header)
	}
	return f
}

// describe makes the error of an answer with a status and a list of errors.
func (c *Client) describe(op string, status int, list []json.RawMessage, kind error) *apierr.Error {
	err := c.Fail(op, kind, nil)
	err.Status = status
	for _, raw := range list {
		var e apiError
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		if err.Code == "" {
			err.Code = e.extension("code")
		}
		if err.TraceID == "" {
			err.TraceID = e.extension("traceId")
		}
	}
	if errors.Is(kind, apierr.ErrRejected) {
		err.Kind = kindOfCode(err.Code)
	}
	return err
}

func kindOfStatus(status int) error {
	switch {
	case status == http.StatusUnauthorized:
		return apierr.ErrUnauthenticated
	case status == http.StatusForbidden:
		return apierr.ErrForbidden
	case status == http.StatusNotFound:
		return apierr.ErrNotFound
	case status == http.StatusTooManyRequests:
		return apierr.ErrRateLimited
	case status >= 500:
		return apierr.ErrUnavailable
	case status >= 400:
		return apierr.ErrRejected
	}
	return apierr.ErrMalformedResponse
}

// kindOfCode is the kind of an error that the API put into its answer. Beside
// Stigg's "Unauthenticated" it knows the codes that GraphQL servers give on
// their own.
func kindOfCode(code string) error {
	switch strings.ToUpper(code) {
	case "UNAUTHENTICATED":
		return apierr.ErrUnauthenticated
	case "FORBIDDEN":
		return apierr.ErrForbidden
	case "INTERNAL_SERVER_ERROR":
		return apierr.ErrUnavailable
	}
	return apierr.ErrRejected
}

// token lets through what looks like a code or an id. Anything else is text,
// and the texts of the API do not belong into errors.
func token(s string) string {
	const maxToken = 128
	if len(s) > maxToken {
		return ""
	}
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', strings.ContainsRune("_-.:/=+", r):
		default:
			return ""
		}
	}
	return s
}

// cause makes the error of a request that got no answer fit to be shown: the
// URL with its ids is cut off, and so is what the server sent instead of HTTP.
// The error of a context is kept only if it is the caller's own; the bound of
// one attempt is nothing that the caller has set.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text, _, quotes := strings.Cut(err.Error(), `"`)
	var n net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return errors.New("timed out: " + strings.TrimSpace(text))
	case errors.Is(err, context.Canceled):
		// The transport gave up the connection on its own.
		return errors.New("request was cut off")
	case quotes:
		return errors.New(strings.TrimSpace(text))
	}
	return err
}

// isDial reports whether err says that no connection could be made.
func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
