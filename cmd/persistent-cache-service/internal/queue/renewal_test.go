package queue_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/internal/edge"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// While the Edge API does not answer, credentials that are due for renewal and
// still good are used: the queue is not kept waiting for it.
func TestRenewalThatIsNotAnswered(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SQS": server.URL, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	const life = 14 * time.Second // half of it, the wait for an answer, and some seconds for a busy machine
	api := stiggtest.New(t)
	api.SetEdgeDocument("credentials/event-queue.json", fmt.Sprintf(
		`{"accessKeyId":"id","secretAccessKey":"secret","sessionToken":"token","expiration":%q}`, time.Now().Add(life).UTC().Format(time.RFC3339Nano)))
	client := edge.New(edge.Config{BaseURL: api.URL(), APIKey: "key", MaxRetries: -1})
	t.Cleanup(client.CloseIdle)
	q, err := queue.NewSQS(t.Context(), queue.Options{Region: "us-east-1", QueueURL: server.URL + "/1/q", Edge: client})
	require.NoError(t, err)
	t.Cleanup(q.Close)
	_, err = q.Receive(t.Context(), 1, 0, time.Minute)
	require.NoError(t, err)

	api.Fault(stiggtest.Hang().On(stiggtest.Edge))
	time.Sleep(life / 2) // then they are due
	began := time.Now()
	_, err = q.Receive(t.Context(), 1, 0, time.Minute)
	require.NoError(t, err)
	require.Less(t, time.Since(began), life/2)
}
