package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

// The Edge API fails for some customers and answers for the others. It is not
// away, and is not said to come and go with every request.
func TestEdgeAPIThatFailsForSome(t *testing.T) {
	w := newWorld(t, "CACHE_UPDATE_POLICY=UPSERT")
	r := w.start()
	r.awaitReady(200, within)
	const failing = 20
	var bodies []string
	for i := range failing {
		customer := fmt.Sprint("failing-", i)
		w.api.Fault(stiggtest.Status(500).On(stiggtest.Customer(customer)))
		bodies = append(bodies, fmt.Sprintf(`{"type":"customer.updated","customer":{"id":%q}}`, customer))
	}
	w.send(bodies...)
	for i := range 100 {
		w.send(fmt.Sprintf(`{"type":"customer.updated","customer":{"id":"good-%d"}}`, i))
		time.Sleep(50 * time.Millisecond)
	}
	require.GreaterOrEqual(t, r.metric(`persistent_cache_refetches_total{result="error"}`), float64(2*failing))
	require.Positive(t, r.metric(`persistent_cache_refetches_total{result="ok"}`))
	require.LessOrEqual(t, strings.Count(r.log.String(), "edge api is away"), 1)
}
