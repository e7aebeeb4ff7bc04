package stiggtest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/stiggio/server-sdk-go/stiggtest"
)

// A program sets what a customer may use, lets the Edge API fail once, and
// counts what arrived. In a test, stiggtest.New(t) does the starting and
// closing.
func Example() {
	api, err := stiggtest.Start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer api.Close()

	api.SetEntitlements("acme", stiggtest.Boolean("sso"), stiggtest.Credit("tokens", 5000, 4200))
	api.Fault(stiggtest.Status(http.StatusServiceUnavailable).On(stiggtest.Edge).Times(1))

	for range 2 {
		request, err := http.NewRequest(http.MethodGet, api.URL()+"/v1/c/acme/entitlements-state.json", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		request.Header.Set("X-API-KEY", "any")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(response.StatusCode, strings.Contains(string(body), "tokens"))
	}
	fmt.Println(api.Count(stiggtest.Edge, stiggtest.Customer("acme")), "requests")

	// Output:
	// 503 false
	// 200 true
	// 2 requests
}
