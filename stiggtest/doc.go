// Package stiggtest is a fake Stigg API for tests and demonstrations: the Edge
// API and the GraphQL API, over real HTTP on a local port.
//
// Start one, say what the customers may use, and point the client at it:
//
//	func TestExport(t *testing.T) {
//		api := stiggtest.New(t) // closed when the test ends
//		api.SetEntitlements("acme",
//			stiggtest.Boolean("sso"),
//			stiggtest.Metered("exports", 100, 99),
//			stiggtest.Credit("tokens", 5000, 4200),
//			stiggtest.CreditBacked("ai-calls", 2.5, "tokens"),
//		)
//
//		client, err := stigg.Initialize(stigg.Config{
//			APIKey:  "any",     // any key is accepted until SetAPIKey
//			APIURL:  api.URL(), // one server answers for both;
//			EdgeURL: api.URL(), // set both, or no Edge request arrives here
//		})
//		// … serve a request with the handler under test, then:
//
//		require.Equal(t, 1, api.Count(stiggtest.Edge, stiggtest.Customer("acme")))
//	}
//
// Entitlements are values with modifiers, so that a test names only what it is
// about:
//
//	stiggtest.Metered("exports", 100, 120).SoftLimit()
//	stiggtest.Boolean("beta").Denied(entitlements.Revoked)
//	stiggtest.Credit("tokens", 500, 0).RenewsAt(end)
//
// A change advances the entitlement's timestamps as Stigg does, and what a
// client reports and consumes changes what is served next: [Server.SetUsage],
// [Server.SetBalance], and the ReportUsage and ConsumeCredits operations.
//
// # Faults
//
// What the network and the API can do to a program is a [Fault]. Faults apply
// to requests that arrive after they were added, in the order in which they
// were added:
//
//	remove := api.Fault(stiggtest.Status(503).On(stiggtest.Edge))
//	api.Fault(stiggtest.Errors("Unauthenticated", "trace-1").On(stiggtest.GraphQL).Times(1))
//	api.Fault(stiggtest.Latency(50 * time.Millisecond))
//	remove()          // these faults only
//	api.ClearFaults() // all
//
// # What was asked
//
// [Server.Requests], [Server.Count] and [Server.WaitForRequests] tell what
// arrived, requests that a fault swallowed included.
//
// # Differences from Stigg
//
// The fake accepts only the operations that the SDK uses, is stricter than
// needed with their variables (an unknown or an empty optional field is
// refused, so that mistakes show), never rejects a consumption for lack of
// credits, and keeps everything in memory.
package stiggtest
