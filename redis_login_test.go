package stigg_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// A Redis that refuses the login of new connections, because the password was
// changed under a running program, is one that does not answer: nothing is
// taken for what it did not say.
func TestPasswordChangedWhileRunning(t *testing.T) {
	for name, change := range map[string]func(*stigg.Config){
		"without memory": func(*stigg.Config) {}, "revalidated": withRevalidation,
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			writer := server.Client()
			redistest.LoadDump(t, writer, "testdata/redis-cache-store-1.29.json")
			require.NoError(t, writer.ConfigSet(t.Context(), "requirepass", "old").Err())
			client := newClient(t, fixtureAPI(t), server, func(c *stigg.Config) { c.Redis.Password = "old" }, change)
			check := func(want ...stigg.Source) {
				a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"})
				require.NoError(t, err)
				require.Contains(t, want, a.Source)
				state, err := client.GetEntitlements(background(), "cust-basic", "")
				require.NoError(t, err)
				require.NotEmpty(t, state.Entitlements)
			}
			check(stigg.SourceRedis)
			require.NoError(t, writer.ConfigSet(t.Context(), "requirepass", "new").Err())
			require.NoError(t, writer.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
			for range 5 {
				check(stigg.SourceEdge, stigg.SourceMemory)
			}
			require.NoError(t, writer.ConfigSet(t.Context(), "requirepass", "old").Err())
		})
	}
}
