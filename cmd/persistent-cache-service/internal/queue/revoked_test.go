package queue_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/internal/edge"
)

// issuer hands out credentials that say they are good for an hour.
type issuer struct{ issued atomic.Int32 }

func (i *issuer) EventQueueCredentials(context.Context, string, time.Duration) (edge.Credentials, error) {
	n := i.issued.Add(1)
	return edge.Credentials{
		AccessKeyID: fmt.Sprint("key-", n), SecretAccessKey: "secret", SessionToken: "token",
		Expiration: time.Now().Add(time.Hour),
	}, nil
}

// Credentials that the queue takes no more, though by this machine's clock they
// are still good, are renewed; and not with every call.
func TestCredentialsThatAreRefusedAreRenewed(t *testing.T) {
	var good atomic.Value
	good.Store("key-1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Authorization"), "Credential="+good.Load().(string)+"/") {
			_, _ = io.WriteString(w, `{}`)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"The security token included in the request is expired"}`)
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SQS": server.URL, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	api := &issuer{}
	q, err := queue.NewSQS(t.Context(), queue.Options{Region: "us-east-1", QueueURL: server.URL + "/1/q", Edge: api})
	require.NoError(t, err)
	t.Cleanup(q.Close)
	receive := func() error {
		_, err := q.Receive(t.Context(), 1, 0, time.Minute)
		return err
	}
	require.NoError(t, receive())

	good.Store("key-2") // the clocks differ, or Stigg revoked the first
	require.Error(t, receive())
	require.NoError(t, receive())

	good.Store("key-99") // there are no good ones
	for range 20 {
		require.Error(t, receive())
	}
	require.EqualValues(t, 2, api.issued.Load(), "the api's rate limit is not spent on it")
}
