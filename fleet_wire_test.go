package stigg_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// The captures monitor-*.txt in testdata are what a Redis carried out for two
// processes of other programs that refetched a customer at the same time. Ours
// has to have the same effects in the same order; how they are sent may differ.

// effect is what one command did, as far as other programs can see it: a key
// set or deleted, a message published.
type effect struct{ verb, name, detail string }

// effects keeps of commands what changes something. Tokens, values and
// timestamps are left out, times to live are kept.
func effects(commands [][]string) []effect {
	var all []effect
	for _, c := range commands {
		switch verb := strings.ToUpper(c[0]); verb {
		case "SET":
			rest := strings.ToUpper(strings.Join(c[3:], " "))
			all = append(all, effect{verb, c[1], strings.TrimSuffix(rest, " NX")})
		case "DEL":
			all = append(all, effect{verb, c[1], ""})
		case "PUBLISH":
			all = append(all, effect{verb, c[1], c[2]})
		}
	}
	return all
}

// captured reads the commands of a capture: time, connection, command, with
// arguments in quotes.
func captured(t *testing.T, name string) [][]string {
	t.Helper()
	var commands [][]string
	for line := range strings.Lines(string(fixture(t, name))) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		_, rest, _ := strings.Cut(line, " "+fields[2]+" ")
		command := []string{fields[2]}
		for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
			quoted, err := strconv.QuotedPrefix(rest)
			require.NoError(t, err, line)
			argument, err := strconv.Unquote(quoted)
			require.NoError(t, err, line)
			command, rest = append(command, argument), rest[len(quoted):]
		}
		commands = append(commands, command)
	}
	require.NotEmpty(t, commands)
	return commands
}

// coordination are the effects that other processes wait for: the locks and the
// announcement.
func coordination(all []effect) []effect {
	return slices.DeleteFunc(slices.Clone(all), func(e effect) bool { return strings.Contains(e.name, ":c_") })
}

// refetchOnWire checks the captures' customer, which is not cached, and returns
// what Redis carried out.
func refetchOnWire(t *testing.T, api *stiggtest.Server) (commands [][]string, source stigg.Source, err error) {
	t.Helper()
	server := redistest.Start(t)
	client := newClient(t, api, server)
	recorder := server.Monitor()
	answer, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"})
	require.NoError(t, client.Close())
	for _, c := range recorder.Commands() {
		commands = append(commands, c.Args)
	}
	return commands, answer.Source, err
}

func TestFleetWire(t *testing.T) {
	commands, source, err := refetchOnWire(t, fixtureAPI(t))
	require.NoError(t, err)
	require.Equal(t, stigg.SourceEdge, source)

	ours := effects(commands)
	require.Equal(t, effects(captured(t, "monitor-129-exec-once.txt")), ours)
	// The older writer knows no metadata; locks and announcement are the same.
	require.Equal(t, coordination(effects(captured(t, "monitor-395-exec-once.txt"))), coordination(ours))

	var tokens []string
	for _, c := range commands {
		if strings.EqualFold(c[0], "SET") && slices.ContainsFunc(c, func(a string) bool { return strings.EqualFold(a, "NX") }) {
			require.Regexp(t, "^[0-9a-f]{32}$", c[2])
			tokens = append(tokens, c[2])
		}
	}
	require.Len(t, tokens, 2, "the refetch lock's and the write lock's")
	require.NotEqual(t, tokens[0], tokens[1])
}

func TestFleetWireError(t *testing.T) {
	api := fixtureAPI(t)
	api.Fault(stiggtest.Errors("InternalError", "trace-cust-basic").On(isFetch))
	commands, source, err := refetchOnWire(t, api)
	require.ErrorIs(t, err, stigg.ErrRejected)
	require.Equal(t, stigg.SourceFallback, source)

	ours := effects(commands)
	for _, name := range []string{"monitor-129-exec-once-error.txt", "monitor-395-exec-once-error.txt"} {
		theirs := effects(captured(t, name))
		require.Len(t, ours, len(theirs))
		require.Equal(t, theirs[:len(theirs)-1], ours[:len(ours)-1])
		said, heard := theirs[len(theirs)-1], ours[len(ours)-1]
		require.Equal(t, said.name, heard.name)
		for _, message := range []string{said.detail, heard.detail} {
			var form map[string]string
			require.NoError(t, json.Unmarshal([]byte(message), &form))
			require.Len(t, form, 1)
			require.NotEmpty(t, form["error"])
		}
		require.NotContains(t, heard.detail, "cust-basic", "neither ids nor what the API said")
	}
}

// TestFleetForeignOwner: another program fetches, and ours waits for it and
// understands what it says, as long as it says anything.
func TestFleetForeignOwner(t *testing.T) {
	for _, c := range []struct {
		name     string
		writes   bool
		says     string
		requests int
		source   stigg.Source
	}{
		{"it has written the customer", true, "{}", 0, stigg.SourceRedis},
		{"it has not, although it says so", false, "{}", 1, stigg.SourceEdge},
		{"it has failed", false, `{"error":"boom"}`, 1, stigg.SourceEdge},
		{"it has failed, and somebody else has written", true, `{"error":"boom"}`, 0, stigg.SourceRedis},
		{"what it says is not understood", false, `[`, 1, stigg.SourceEdge},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, api := redistest.Start(t), fixtureAPI(t)
			waiting, client := newClient(t, api, server), server.Client()
			lockAsOther(t, client, "cust-basic")
			wait := check(20, waiting, "cust-basic", "feature-bool")
			eventually(t, func() bool { return subscribers(t, client, "cust-basic") == 1 }, "it waits")
			time.Sleep(300 * time.Millisecond) // a poll changes nothing
			require.Zero(t, api.Count(isFetch), "the lock is respected")

			if c.writes {
				redistest.LoadDump(t, client, "testdata/redis-cache-store-1.29.json")
			}
			// The lock stays: only what is announced can end the wait.
			require.EqualValues(t, 1, client.Publish(background(), fleetChannel("cust-basic"), c.says).Val())
			said := time.Now()
			for _, o := range wait() {
				require.NoError(t, o.err)
				require.True(t, o.answer.HasAccess)
				require.Contains(t, []stigg.Source{c.source, stigg.SourceRedis}, o.answer.Source)
				require.Less(t, o.at.Sub(said), 5*time.Second)
			}
			require.Equal(t, c.requests, api.Count(isFetch))
			require.Equal(t, foreignToken, client.Get(background(), fleetLock("cust-basic")).Val())
		})
	}
}
