package stiggtest_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// exportHandler stands for a handler of yours: it asks before it works.
func exportHandler(client *stigg.Client) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		exports, err := client.GetMeteredEntitlement(r.Context(), stigg.MeteredQuery{
			CustomerID: r.Header.Get("X-Customer-ID"), FeatureID: "exports", RequestedUsage: 1,
		})
		switch {
		case exports.HasAccess:
			fmt.Fprintln(w, "exported")
		case err != nil:
			http.Error(w, "try again later", http.StatusServiceUnavailable)
		default:
			http.Error(w, string(exports.AccessDeniedReason), http.StatusPaymentRequired)
		}
	})
}

// A test of a handler needs no Redis: the client asks the fake API.
func TestExportHandler(t *testing.T) {
	api := stiggtest.New(t) // closed when the test ends
	api.SetEntitlements("acme", stiggtest.Metered("exports", 100, 99))
	api.SetEntitlements("bolt", stiggtest.Metered("exports", 100, 100))

	client, err := stigg.Initialize(stigg.Config{APIKey: "any", APIURL: api.URL(), EdgeURL: api.URL()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })

	export := func(customerID string) int {
		request := httptest.NewRequest(http.MethodPost, "/export", nil)
		request.Header.Set("X-Customer-ID", customerID)
		response := httptest.NewRecorder()
		exportHandler(client).ServeHTTP(response, request)
		return response.Code
	}
	require.Equal(t, http.StatusOK, export("acme"))
	require.Equal(t, http.StatusPaymentRequired, export("bolt"))

	api.Fault(stiggtest.Status(http.StatusServiceUnavailable)) // on both APIs, from now on
	require.Equal(t, http.StatusServiceUnavailable, export("core"))
}

// A handler is served one request for a customer that may, one for a customer
// that may not, and one while the API is away.
func Example_handler() {
	api, err := stiggtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	api.SetEntitlements("acme", stiggtest.Metered("exports", 100, 99))
	api.SetEntitlements("bolt", stiggtest.Metered("exports", 100, 100))

	client, err := stigg.Initialize(stigg.Config{
		APIKey: "any", APIURL: api.URL(), EdgeURL: api.URL(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	export := func(customerID string) {
		request := httptest.NewRequest(http.MethodPost, "/export", nil)
		request.Header.Set("X-Customer-ID", customerID)
		response := httptest.NewRecorder()
		exportHandler(client).ServeHTTP(response, request)
		fmt.Print(response.Code, " ", response.Body)
	}
	export("acme")
	export("bolt")
	api.Fault(stiggtest.Status(http.StatusServiceUnavailable))
	export("core")

	// Output:
	// 200 exported
	// 402 RequestedUsageExceedingLimit
	// 503 try again later
}
