package httpx_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/httpx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretKey = "secret-key"

func newClient(t *testing.T, retries int) *httpx.Client {
	c := httpx.New(httpx.Config{Source: "edge", APIKey: secretKey, UserAgent: "agent/1", MaxRetries: retries})
	t.Cleanup(c.CloseIdle)
	return c
}

func get(url string) httpx.Request {
	return httpx.Request{Op: "Op", Method: http.MethodGet, URL: url + "/secret-id", Repeat: httpx.RepeatSafe}
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// serve answers with the handler and counts the requests.
func serve(t *testing.T, h http.HandlerFunc) (string, *atomic.Int32) {
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, &n
}

// serveRaw accepts connections, reads a request from each, and leaves the rest
// to talk, after which the connection is closed.
func serveRaw(t *testing.T, talk func(net.Conn)) (string, *atomic.Int32) {
	var n atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				talk(conn)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String(), &n
}

// fails asserts what every error has: the right kind and no secrets.
func fails(t *testing.T, err, kind error) *apierr.Error {
	t.Helper()
	var e *apierr.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, kind)
	require.Equal(t, "Op", e.Op)
	require.EqualValues(t, "edge", e.Source)
	require.NotContains(t, err.Error(), "secret")
	return e
}

func TestAnswers(t *testing.T) {
	const errorBody = `{"errors":[{"message":"secret","extensions":{"code":5}},{"message":"secret","extensions":{"code":"Oops","traceId":"t-1"}}]}`
	for name, c := range map[string]struct {
		status   int
		body     string
		kind     error // nil: an answer
		code     string
		requests int32
	}{
		"ok":                {200, ` {"data":{"a":1}} `, nil, "", 1},
		"ok, no errors":     {200, `{"data":{"a":1},"errors":[]}`, nil, "", 1},
		"ok, null errors":   {201, `{"data":{"a":1},"errors":null}`, nil, "", 1},
		"bad request":       {400, errorBody, apierr.ErrRejected, "Oops", 1},
		"bad key":           {401, `secret`, apierr.ErrUnauthenticated, "", 1},
		"bad key by code":   {400, `{"errors":[{"extensions":{"code":"Unauthenticated"}}]}`, apierr.ErrUnauthenticated, "Unauthenticated", 1},
		"forbidden":         {403, errorBody, apierr.ErrForbidden, "Oops", 1},
		"not found":         {404, `<html>secret</html>`, apierr.ErrNotFound, "", 1},
		"conflict":          {409, ``, apierr.ErrRejected, "", 1},
		"rate limited":      {429, ``, apierr.ErrRateLimited, "", 3},
		"server error":      {500, errorBody, apierr.ErrUnavailable, "Oops", 3},
		"bad gateway":       {502, `<html>secret</html>`, apierr.ErrUnavailable, "", 3},
		"unavailable":       {503, ``, apierr.ErrUnavailable, "", 3},
		"html":              {200, `<html>secret</html>`, apierr.ErrMalformedResponse, "", 1},
		"empty":             {200, ``, apierr.ErrMalformedResponse, "", 1},
		"no content":        {204, ``, apierr.ErrMalformedResponse, "", 1},
		"null":              {200, `null`, apierr.ErrMalformedResponse, "", 1},
		"list":              {200, `[]`, apierr.ErrMalformedResponse, "", 1},
		"cut json":          {200, `{"data":{"a":"sec`, apierr.ErrMalformedResponse, "", 1},
		"two values":        {200, `{"data":{}}{}`, apierr.ErrMalformedResponse, "", 1},
		"errors no list":    {200, `{"data":{},"errors":"secret"}`, apierr.ErrMalformedResponse, "", 1},
		"errors":            {200, errorBody, apierr.ErrRejected, "Oops", 1},
		"errors and data":   {200, `{"data":{"a":1},"errors":[{"message":"secret"}]}`, apierr.ErrRejected, "", 1},
		"errors of nothing": {200, `{"errors":[null]}`, apierr.ErrRejected, "", 1},
		"errors, bad key":   {200, `{"errors":[{"extensions":{"code":"Unauthenticated"}}]}`, apierr.ErrUnauthenticated, "Unauthenticated", 1},
		"errors, forbidden": {200, `{"errors":[{"extensions":{"code":"FORBIDDEN"}}]}`, apierr.ErrForbidden, "FORBIDDEN", 1},
		"errors, theirs":    {200, `{"errors":[{"extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`, apierr.ErrUnavailable, "INTERNAL_SERVER_ERROR", 1},
		"code is a text":    {200, `{"errors":[{"extensions":{"code":"a secret text"}}]}`, apierr.ErrRejected, "", 1},
		"code is too long":  {200, `{"errors":[{"extensions":{"code":"` + strings.Repeat("x", 200) + `"}}]}`, apierr.ErrRejected, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			answer, err := newClient(t, 2).Do(t.Context(), get(url))
			require.Equal(t, c.requests, n.Load())
			if c.kind == nil {
				require.NoError(t, err)
				require.JSONEq(t, `{"a":1}`, string(answer.Data))
				require.JSONEq(t, c.body, string(answer.Body))
				return
			}
			e := fails(t, err, c.kind)
			require.Equal(t, c.status, e.Status)
			require.Equal(t, c.code, e.Code)
			if c.code == "Oops" {
				require.Equal(t, "t-1", e.TraceID)
			}
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = io.WriteString(w, `{}`)
	})
	req := get(url)
	req.Header = http.Header{"X-Api-Version": {"1"}}
	_, err := newClient(t, 0).Do(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, secretKey, got.Get("X-API-KEY"))
	require.Equal(t, "agent/1", got.Get("User-Agent"))
	require.Equal(t, "application/json", got.Get("Accept"))
	require.Equal(t, "1", got.Get("X-API-VERSION"))
}

func TestRecoversOnRetry(t *testing.T) {
	var calls atomic.Int32
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"data":{}}`)
	})
	_, err := newClient(t, 3).Do(t.Context(), get(url))
	require.NoError(t, err)
	require.EqualValues(t, 3, n.Load())
}

// Every answer is read to its end, those of failures too, or the connection
// could not be used again.
func TestKeepsConnections(t *testing.T) {
	var conns, calls atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, `{"data":"`+strings.Repeat("x", 100_000)+`"}`)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := newClient(t, 0)
	for range 20 {
		_, _ = c.Do(t.Context(), get(s.URL))
	}
	require.EqualValues(t, 20, calls.Load())
	require.EqualValues(t, 1, conns.Load())
}

func TestDoesNotFollowRedirects(t *testing.T) {
	elsewhere, visits := serve(t, func(http.ResponseWriter, *http.Request) {})
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere+"/secret", http.StatusTemporaryRedirect)
	})
	own := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for name, c := range map[string]*httpx.Client{
		"own client":    newClient(t, 3),
		"user's client": httpx.New(httpx.Config{Source: "edge", APIKey: secretKey, HTTPClient: own, MaxRetries: 3}),
	} {
		n.Store(0)
		_, err := c.Do(t.Context(), get(url))
		require.Equal(t, http.StatusTemporaryRedirect, fails(t, err, apierr.ErrMalformedResponse).Status, name)
		require.EqualValues(t, 1, n.Load(), name)
	}
	require.Zero(t, visits.Load())
	require.Nil(t, own.CheckRedirect, "the user's client is not changed")
}

func TestHugeAnswer(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for status, kind := range map[int]error{200: apierr.ErrMalformedResponse, 500: apierr.ErrUnavailable} {
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"data":"`)
			for range 33 {
				if _, err := io.WriteString(w, huge); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, `"}`)
		})
		_, err := newClient(t, 0).Do(t.Context(), get(url))
		fails(t, err, kind)
	}
}

func TestBrokenConnections(t *testing.T) {
	for name, talk := range map[string]func(net.Conn){
		"closed before an answer": func(net.Conn) {},
		"reset mid-body": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":")
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"closed mid-body": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":")
		},
		"closed mid-chunk": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"data\":")
		},
		"not http": func(c net.Conn) { _, _ = io.WriteString(c, "\"secret\" banner\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			url, n := serveRaw(t, talk)
			_, err := newClient(t, 1).Do(t.Context(), get(url))
			require.Zero(t, fails(t, err, apierr.ErrUnavailable).Status)
			require.EqualValues(t, 2, n.Load())
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = newClient(t, 1).Do(t.Context(), get("http://"+l.Addr().String()))
	fails(t, err, apierr.ErrUnavailable)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
}

func TestUnusableURL(t *testing.T) {
	_, err := newClient(t, 1).Do(t.Context(), get("://secret"))
	fails(t, err, apierr.ErrInvalidConfig)
}

// An answer that takes most of the time is waited for, not asked for again.
func TestSlowAnswerIsAskedForOnce(t *testing.T) {
	url, n := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(2 * time.Second)
		_, _ = io.WriteString(w, `{"data":{}}`)
	})
	_, err := newClient(t, 3).Do(deadline(t, 3*time.Second), get(url))
	require.NoError(t, err)
	require.EqualValues(t, 1, n.Load())
}

func TestSlowAnswerInTime(t *testing.T) {
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, part := range []string{`{`, `"data"`, `:{}`, `}`} {
			_, _ = io.WriteString(w, part)
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	})
	_, err := newClient(t, 3).Do(deadline(t, 2*time.Second), get(url))
	require.NoError(t, err)
	require.EqualValues(t, 1, n.Load())
}

func TestHangUntilDeadline(t *testing.T) {
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	start := time.Now()
	_, err := newClient(t, 1).Do(deadline(t, time.Second), get(url))
	fails(t, err, apierr.ErrUnavailable)
	require.Less(t, time.Since(start), 3*time.Second)
	require.GreaterOrEqual(t, n.Load(), int32(1))
	if n.Load() == 2 {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

// The bound of one attempt is not the caller's deadline, and must not look
// like it.
func TestAttemptTimeoutIsNotTheCallers(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := httpx.New(httpx.Config{Source: "edge", HTTPClient: &http.Client{
		Timeout: 50 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true},
	}})
	ctx := deadline(t, 10*time.Second)
	_, err := c.Do(ctx, get(url))
	require.Contains(t, fails(t, err, apierr.ErrUnavailable).Error(), "timed out")
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err())
}

func TestContextEnded(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		url, n := serve(t, func(http.ResponseWriter, *http.Request) {})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newClient(t, 3).Do(ctx, get(url))
		fails(t, err, apierr.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, n.Load())
	})
	t.Run("during an attempt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		_, err := newClient(t, 3).Do(ctx, get(url))
		fails(t, err, apierr.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
		require.EqualValues(t, 1, n.Load())
	})
	t.Run("during a wait", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusTooManyRequests)
			time.AfterFunc(500*time.Millisecond, cancel) // when the answer is there
		})
		start := time.Now()
		_, err := newClient(t, 3).Do(ctx, get(url))
		require.Less(t, time.Since(start), 5*time.Second)
		e := fails(t, err, apierr.ErrRateLimited)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 429, e.Status)
		require.EqualValues(t, 1, n.Load())
	})
}

func TestRetryAfter(t *testing.T) {
	always := func(v string) func(time.Time) string { return func(time.Time) string { return v } }
	in := func(d time.Duration) func(time.Time) string {
		return func(now time.Time) string { return now.Add(d).Format(http.TimeFormat) }
	}
	for name, c := range map[string]struct {
		header func(now time.Time) string
		asked  time.Duration
		repeat bool
	}{
		"seconds":             {always("1"), time.Second, true},
		"date":                {in(time.Second), time.Second, true},
		"past date":           {in(-time.Hour), 0, true},
		"nonsense":            {always("soon"), 0, true},
		"negative":            {always("-5"), 0, true},
		"beyond the deadline": {always("100"), 100 * time.Second, false},
		"date beyond it":      {in(100 * time.Second), 100 * time.Second, false},
		"absurd":              {always("99999999999999999"), 365 * 24 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
				// The server's clock is a day ahead, which must not matter.
				now := time.Now().Add(24 * time.Hour).UTC()
				w.Header().Set("Date", now.Format(http.TimeFormat))
				w.Header().Set("Retry-After", c.header(now))
				if calls.Add(1) == 2 {
					_, _ = io.WriteString(w, `{}`)
					return
				}
				w.WriteHeader(http.StatusTooManyRequests)
			})
			start := time.Now()
			_, err := newClient(t, 1).Do(deadline(t, 10*time.Second), get(url))
			took := time.Since(start)
			if c.repeat {
				require.NoError(t, err)
				require.EqualValues(t, 2, n.Load())
				require.GreaterOrEqual(t, took, c.asked)
				require.Less(t, took, c.asked+5*time.Second)
				return
			}
			require.Less(t, took, 5*time.Second)
			require.EqualValues(t, 1, n.Load())
			require.Equal(t, c.asked, fails(t, err, apierr.ErrRateLimited).RetryAfter)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// Without a deadline, a long wait is not sat out either.
func TestRetryAfterWithoutDeadline(t *testing.T) {
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	_, err := newClient(t, 3).Do(context.Background(), get(url))
	require.Equal(t, time.Hour, fails(t, err, apierr.ErrUnavailable).RetryAfter)
	require.EqualValues(t, 1, n.Load())
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A user's transport may do more than send once, so that a failed dial alone
// does not tell that nothing has arrived.
func TestRepeatUnsent(t *testing.T) {
	post := func(url string) httpx.Request {
		r := get(url)
		r.Method, r.Body, r.Repeat = http.MethodPost, []byte(`{"a":1}`), httpx.RepeatUnsent
		return r
	}
	t.Run("arrived and failed", func(t *testing.T) {
		for _, status := range []int{429, 500} {
			url, n := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
			_, err := newClient(t, 3).Do(t.Context(), post(url))
			require.Error(t, err)
			require.EqualValues(t, 1, n.Load())
		}
	})
	t.Run("arrived and cut off", func(t *testing.T) {
		url, n := serveRaw(t, func(net.Conn) {})
		_, err := newClient(t, 3).Do(t.Context(), post(url))
		fails(t, err, apierr.ErrUnavailable)
		require.EqualValues(t, 1, n.Load())
	})
	t.Run("gets all of the time", func(t *testing.T) {
		url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(1400 * time.Millisecond)
			_, _ = io.WriteString(w, `{}`)
		})
		_, err := newClient(t, 3).Do(deadline(t, 2400*time.Millisecond), post(url))
		require.NoError(t, err)
		require.EqualValues(t, 1, n.Load())
	})
	t.Run("arrived, then a dial failed", func(t *testing.T) {
		url, n := serve(t, func(http.ResponseWriter, *http.Request) {})
		tr := &http.Transport{DisableKeepAlives: true}
		c := httpx.New(httpx.Config{Source: "edge", MaxRetries: 3, HTTPClient: &http.Client{
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := tr.RoundTrip(r)
				require.NoError(t, err)
				_ = resp.Body.Close()
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused on the second try")}
			}),
		}})
		_, err := c.Do(t.Context(), post(url))
		fails(t, err, apierr.ErrUnavailable)
		require.EqualValues(t, 1, n.Load())
	})
	t.Run("never left", func(t *testing.T) {
		url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, `{"data":%s}`, body)
		})
		var dials atomic.Int32
		tr := &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials.Add(1) < 3 {
					return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("refused")}
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
		}
		c := httpx.New(httpx.Config{Source: "edge", HTTPClient: &http.Client{Transport: tr}, MaxRetries: 3})
		answer, err := c.Do(t.Context(), post(url))
		require.NoError(t, err)
		require.JSONEq(t, `{"a":1}`, string(answer.Data))
		require.EqualValues(t, 1, n.Load())
		require.EqualValues(t, 3, dials.Load())
	})
}
