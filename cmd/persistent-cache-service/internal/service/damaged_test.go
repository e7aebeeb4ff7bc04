package service_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A message that was damaged on its way, or that came without a receipt, does
// not keep its neighbours from being carried out: it is counted, said once, and
// left to the queue.
func TestOneDamagedMessage(t *testing.T) {
	const body = `{"type":"foo"}`
	checksum := md5.Sum([]byte(body))
	answer := fmt.Sprintf(`{"Messages":[{"MessageId":"no-receipt","Body":"x"},{"MessageId":"bad","ReceiptHandle":"receipt-of-bad","MD5OfBody":"00","Body":"x"},`+
		`{"MessageId":"good","ReceiptHandle":"receipt-of-good","MD5OfBody":%q,"Body":%q}]}`, hex.EncodeToString(checksum[:]), body)
	var mu sync.Mutex
	var named strings.Builder // what deletes and visibility changes named
	receives := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
		case "ReceiveMessage":
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			receives++
			first := receives <= 3
			mu.Unlock()
			if first {
				_, _ = io.WriteString(w, answer)
				return
			}
		case "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
			mu.Lock()
			named.Write(request)
			mu.Unlock()
		}
		_, _ = io.WriteString(w, `{"Successful":[],"Failed":[]}`)
	}))
	t.Cleanup(server.Close)
	w := newWorld(t, "QUEUE_URL="+server.URL+"/1/q", "CONSUMERS=1")
	t.Setenv("AWS_ENDPOINT_URL_SQS", server.URL)
	r := w.start()
	r.awaitReady(200, within)
	require.Eventually(t, func() bool { return r.count("other", "ignored") == 3 }, within, step)
	require.Equal(t, 6, r.count("unreadable", "damaged"))
	require.EqualValues(t, 6, r.metric(`persistent_cache_messages_total{outcome="damaged",type="unreadable"}`))
	require.Zero(t, r.metric(`persistent_cache_queue_errors_total{operation="receive"}`))
	code, _ := r.get("/readyz")
	require.Equal(t, 200, code)
	r.stop()
	require.Equal(t, 2, strings.Count(r.log.String(), "message is left in the queue"), "each is said once")
	require.Contains(t, named.String(), "receipt-of-good")
	require.NotContains(t, named.String(), "receipt-of-bad")
	require.NotContains(t, named.String(), `"ReceiptHandle":""`)
}
