package apply_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// What waits for a refetch is bounded, however few customers it is about.
func TestTooManyWaitForFewCustomers(t *testing.T) {
	f := newFixture(t, nil)
	f.api.Fault(stiggtest.Status(503))
	const customers = 20
	messages := make([]message.Message, customers)
	for i := range messages {
		customer := fmt.Sprint("c", i)
		f.cached(customer, t0)
		m, err := message.Decode(changed(customer))
		require.NoError(t, err)
		messages[i] = m
	}
	most := 0
	for i := range 200_000 {
		f.engine.Submit(apply.Job{Message: messages[i%customers], At: t0, Done: func(apply.Result) {}})
		if i%100 == 0 {
			most = max(most, f.engine.Waiting())
		}
	}
	require.Eventually(t, func() bool {
		most = max(most, f.engine.Waiting())
		return most >= apply.MaxWaiting
	}, 5*time.Second, time.Millisecond)
	require.LessOrEqual(t, most, apply.MaxWaitingShared)
}

// The API says that there is no such customer: what is cached of it goes, so
// that no reader is told of what it once had.
func TestNotFoundIsPurged(t *testing.T) {
	for name, body := range map[string]string{
		"customer": changed("c"),
		"resource": `{"type":"subscription.canceled","customer":{"id":"c"},"resource":{"id":"r"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.cached("c", t0)
			f.cached("c:r_r", t0)
			f.cached("other", t0)
			f.api.Fault(stiggtest.Status(404).On(stiggtest.Customer("c")))
			r := f.do(body)
			require.Equal(t, apply.Purged, r.Outcome)
			require.Equal(t, apply.Delete, r.Fate)
			require.Empty(t, f.get("p:c_c"))
			require.Empty(t, f.get("p:c_c#timestamp"))
			if name == "resource" {
				require.Empty(t, f.get("p:c_c:r_r"))
			}
			require.NotEmpty(t, f.get("p:c_other"))
		})
	}
}

// A customer that the API does not know yet is asked for again.
func TestNotFoundYet(t *testing.T) {
	f := newFixture(t, nil)
	f.cached("c", t0)
	f.api.SetEntitlements("c", stiggtest.Boolean("x"))
	f.api.Fault(stiggtest.Status(404).On(stiggtest.Customer("c")).Times(1))
	require.Equal(t, apply.Refetched, f.do(changed("c")).Outcome)
	require.Contains(t, f.get("p:c_c"), `"x"`)
}
