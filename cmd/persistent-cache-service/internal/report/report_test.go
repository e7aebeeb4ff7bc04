package report_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A panic and a loss arrive, with their place and without what a panic quotes.
func TestReports(t *testing.T) {
	var mu sync.Mutex
	var got strings.Builder
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got.Write(body)
	}))
	defer server.Close()
	var r report.Reporter
	r.Panic("nobody listens yet", "", "")
	require.NoError(t, r.Start(strings.Replace(server.URL, "://", "://key@", 1)+"/1", "1.2.3", "production"))
	for _, do := range []func(){
		func() { panic("quotes hush") },
		func() { panic(errors.New("hush")) },
		func() { var list []int; _ = list[len(t.Name())] },
	} {
		func() {
			defer func() { r.Panic(recover(), "customer.updated", "message-1") }()
			do()
		}()
	}
	r.Lost("redis", errors.New("connection refused"))
	r.Close(5 * time.Second)
	r.Lost("redis", errors.New("after the end"))

	mu.Lock()
	defer mu.Unlock()
	text := got.String()
	for _, part := range []string{"panic string", "index out of range", "TestReports", "message-1", "customer.updated", "redis is away: connection refused", "persistent-cache-service@1.2.3"} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, "hush")
	require.NotContains(t, text, "after the end")
}

func TestWrongDSN(t *testing.T) {
	var r report.Reporter
	err := r.Start("not a dsn with hush", "1", "p")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hush")
}
