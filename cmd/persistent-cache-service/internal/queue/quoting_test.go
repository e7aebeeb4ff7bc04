package queue_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
)

// A queue that refuses a signature quotes the request as it should have been
// signed. The session token in it is in no error, and so in no log.
func TestErrorsDoNotQuoteTheSessionToken(t *testing.T) {
	const token = "hush-token"
	quoted := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Security-Token") == token {
			quoted++
		}
		message, err := json.Marshal(fmt.Sprintf("The request signature we calculated does not match the signature you provided.\n\n"+
			"The Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:%s\n'", r.Header.Get("X-Amz-Security-Token")))
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"__type":"com.amazon.coral.service#SignatureDoesNotMatch","message":%s}`, message)
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SQS": server.URL, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": token,
	} {
		t.Setenv(name, value)
	}
	q, err := queue.NewSQS(t.Context(), queue.Options{Region: "us-east-1", QueueURL: server.URL + "/1/q"})
	require.NoError(t, err)
	t.Cleanup(q.Close)
	_, receive := q.Receive(t.Context(), 1, 0, time.Minute)
	_, drop := q.Delete(t.Context(), []string{"r"})
	_, hide := q.SetVisibility(t.Context(), []string{"r"}, time.Minute)
	_, depth := q.Depth(t.Context())
	for _, err := range []error{receive, drop, hide, depth} {
		require.ErrorContains(t, err, "SignatureDoesNotMatch")
		require.NotContains(t, err.Error(), token)
	}
	require.GreaterOrEqual(t, quoted, 4)
}
