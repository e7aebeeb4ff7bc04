package stigg_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

const prefix = "lab"

// quiet drops what the client logs.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newClient makes a client of api and redis, either of which may be nil, and
// closes it with the test. It gives Redis time, for a machine that is busy.
func newClient(t testing.TB, api *stiggtest.Server, redis *redistest.Server, change ...func(*stigg.Config)) *stigg.Client {
	t.Helper()
	config := stigg.Config{APIKey: "server-key", Logger: quiet, APIURL: "http://127.0.0.1:1", EdgeURL: "http://127.0.0.1:1"}
	if api != nil {
		config.APIURL, config.EdgeURL = api.URL(), api.URL()
	}
	if redis != nil {
		config.Redis = &stigg.RedisConfig{Host: redis.Host(), Port: redis.Port(), EnvironmentPrefix: prefix, Timeout: 2 * time.Second}
	}
	for _, c := range change {
		c(&config)
	}
	client, err := stigg.Initialize(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// defaultTimeout waits for Redis as long as is waited by default.
func defaultTimeout(c *stigg.Config) { c.Redis.Timeout = 0 }

// fixture reads a file of testdata.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

// edgeFixture gives the API's answers by customer id, or by customer id and
// resource id.
func edgeFixture(t testing.TB) map[[2]string]json.RawMessage {
	t.Helper()
	var byName map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(fixture(t, "edge-entitlements-state.json"), &byName))
	answers := make(map[[2]string]json.RawMessage)
	for name, answer := range byName {
		customer, resource, _ := strings.Cut(name, "/")
		answers[[2]string{customer, resource}] = answer
	}
	require.Len(t, answers, 14)
	return answers
}

// fixtureAPI is a fake API that serves the fixture's customers.
func fixtureAPI(t testing.TB) *stiggtest.Server {
	t.Helper()
	api := stiggtest.New(t)
	for who, answer := range edgeFixture(t) {
		api.SetRaw(who[0], who[1], string(answer))
	}
	return api
}

// isFetch selects the requests for entitlements.
func isFetch(r stiggtest.Request) bool { return r.CustomerID != "" }

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 2*time.Millisecond, what)
}

// countJoins counts the checks of a client that join a fetch under way.
func countJoins(joined *atomic.Int32) func(*stigg.Config) {
	return func(c *stigg.Config) {
		c.Observer = func(e stigg.Event) {
			if e.Type == stigg.EventRefetchJoined {
				joined.Add(1)
			}
		}
	}
}

func background() context.Context { return context.Background() }

// callsOfChecks are the commands that were sent, without the reading of the
// heartbeat, which goes on whoever calls.
func callsOfChecks(recorder *redistest.Recorder) []redistest.Command {
	return slices.DeleteFunc(recorder.Calls(), func(c redistest.Command) bool {
		return strings.Contains(c.String(), "heartbeat")
	})
}
