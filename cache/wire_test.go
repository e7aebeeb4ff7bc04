package cache_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apistate"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// The captures in testdata are what a Redis carried out for another program
// that shares the cache. What it carries out for the store has to have the same
// effects on the same keys in the same order; how they are sent may differ.

func TestWireWriteState(t *testing.T) {
	credit, basic := cache.Key{CustomerID: "cust-credit"}, cache.Key{CustomerID: "cust-basic"}
	for _, c := range []struct {
		capture string
		key     cache.Key
		ttl     time.Duration
		cached  bool // the same state has been written before
		older   bool // the entitlements, not the usage, are from before
	}{
		{capture: "set-customer", key: credit},
		{capture: "set-customer-again", key: credit, cached: true},
		{capture: "set-customer-older", key: credit, cached: true, older: true},
		{capture: "set-customer-no-ttl", key: basic, ttl: -1},
	} {
		t.Run(c.capture, func(t *testing.T) {
			w := newWire(t, c.ttl)
			state := edgeState(t, c.key)
			if c.cached {
				w.writeState(c.key, state)
			}
			if c.older {
				for i := range state.Records {
					state.Records[i].Definition.UpdatedAt = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
				}
			}
			commands := w.record(func() { w.writeState(c.key, state) })
			w.requireEffects(c.capture, c.key, commands)

			for _, cmd := range commands {
				if cmd.Name() == "SET" && !strings.EqualFold(cmd.Args[len(cmd.Args)-1], "nx") {
					require.True(t, cmd.Lua, "values and timestamps in one atomic step: %v", cmd)
				}
			}
		})
	}
}

// While another program holds the write lock nothing happens but new attempts.
func TestWireLockTaken(t *testing.T) {
	basic := cache.Key{CustomerID: "cust-basic"}
	lock := cache.WriteLockKey("lab", basic)
	w := newWire(t, 0)
	var attempts []redistest.Command
	commands := w.record(func() {
		require.NoError(t, w.client.Set(t.Context(), lock, "other-client", 700*time.Millisecond).Err())
		w.writeState(basic, edgeState(t, basic))
	})
	for _, cmd := range commands {
		if cmd.Name() == "SET" && cmd.Args[1] == lock {
			attempts = append(attempts, cmd)
		}
	}
	require.Greater(t, len(attempts), 3, "one SET by the other program, some that were refused, one that was not")
	require.Less(t, len(attempts), 20, "attempts have pauses between them")
	require.GreaterOrEqual(t, attempts[len(attempts)-1].At.Sub(attempts[0].At), 690*time.Millisecond)
	w.requireEffects("lock-taken", basic, commands)
}

func TestWireUpdateUsage(t *testing.T) {
	credit, metered := cache.Key{CustomerID: "cust-credit"}, cache.Key{CustomerID: "cust-metered"}
	plenty := cache.Ref{IsCredit: true, ID: "cred-plenty"}
	for capture, c := range map[string]struct {
		key cache.Key
		ref cache.Ref
		at  int64
	}{
		"update-usage":            {credit, plenty, 1780444800000},
		"update-usage-older":      {credit, plenty, 1780300000000},
		"update-usage-not-cached": {metered, cache.Ref{ID: "met-month"}, 1780444800000},
	} {
		t.Run(capture, func(t *testing.T) {
			w := newWire(t, 0)
			w.writeState(credit, edgeState(t, credit))
			commands := w.record(func() {
				_, err := w.store.UpdateUsage(t.Context(), c.key, c.ref, entitlements.Usage{Current: 111}, time.UnixMilli(c.at))
				require.NoError(t, err)
			})
			w.requireEffects(capture, c.key, commands)
		})
	}
}

func TestWirePurge(t *testing.T) {
	credit := cache.Key{CustomerID: "cust-credit"}
	w := newWire(t, 0)
	w.writeState(credit, edgeState(t, credit))
	commands := w.record(func() { require.NoError(t, w.store.Purge(t.Context(), credit)) })
	w.requireEffects("purge", credit, commands)
}

// wire is a store and a recorder of what its server carries out.
type wire struct {
	*testing.T
	client   *redis.Client
	store    *cache.Store
	recorder *redistest.Recorder
}

func newWire(t *testing.T, ttl time.Duration) *wire {
	t.Helper()
	server := redistest.Start(t)
	client := server.Client()
	return &wire{T: t, client: client, store: cache.NewStore(cache.Options{Client: client, Prefix: "lab", TTL: ttl}), recorder: server.Monitor()}
}

func (w *wire) writeState(k cache.Key, state entitlements.State) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	_, err := w.store.WriteState(ctx, k, state, cache.WriteOptions{})
	require.NoError(w, err)
}

func (w *wire) record(do func()) []redistest.Command {
	w.Helper()
	w.recorder.Reset()
	do()
	return w.recorder.Commands()
}

func (w *wire) requireEffects(capture string, k cache.Key, got []redistest.Command) {
	w.Helper()
	want := effects(w.T, k, readCapture(w.T, capture))
	require.NotEmpty(w, want)
	require.Equal(w, want, effects(w.T, k, got))
}

// effect is what one command does to the keys of the layout.
type effect struct {
	what  string
	keys  []string
	value any
	ttl   time.Duration
}

// effects reduces commands to what they do: a lock that is asked for until it
// is got, timestamps that are looked at, keys that are set and deleted.
func effects(t *testing.T, k cache.Key, commands []redistest.Command) []effect {
	t.Helper()
	lock := cache.WriteLockKey("lab", k)
	var all []effect
	for _, c := range commands {
		e := effect{what: c.Name(), keys: c.Args[1:]}
		switch e.what {
		case "SET":
			e.keys, e.value, e.ttl = c.Args[1:2], content(t, c.Args[1], c.Args[2]), ttlOf(t, c.Args[3:])
			if c.Args[1] == lock {
				if c.Args[2] == "other-client" {
					continue
				}
				e.what, e.value = "LOCK", nil // a token is different every time
				if len(all) > 0 && all[len(all)-1].what == "LOCK" {
					continue // the attempt before was refused
				}
			}
		case "GET":
			if len(all) == 0 {
				continue // the other program lets go of what it did not get
			}
		case "DEL", "MGET":
		case "EXISTS":
			if c.Args[1] == lock {
				continue // how the other program asks for a lock
			}
		default: // how commands are sent: scripts and transactions, handshakes
			continue
		}
		all = append(all, e)
	}
	return all
}

func ttlOf(t *testing.T, options []string) time.Duration {
	t.Helper()
	for i, option := range options {
		unit := map[string]time.Duration{"EX": time.Second, "PX": time.Millisecond}[strings.ToUpper(option)]
		if unit > 0 {
			n, err := strconv.Atoi(options[i+1])
			require.NoError(t, err)
			return time.Duration(n) * unit
		}
	}
	return 0
}

// content is what a value says: of a customer value the entries, whose names
// are not part of the layout, in their order.
func content(t *testing.T, key, value string) any {
	t.Helper()
	if _, ok := customerOf(key); !ok || !strings.HasPrefix(value, "{") {
		return value
	}
	var entries map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(value), &entries))
	texts := make([]string, 0, len(entries))
	for _, e := range entries {
		texts = append(texts, string(e))
	}
	slices.SortFunc(texts, func(a, b string) int { return strings.Index(value, a) - strings.Index(value, b) })
	return texts
}

// readCapture reads the commands of a capture: a time, a client or "lua", and
// the command with its arguments in quotes.
func readCapture(t *testing.T, name string) []redistest.Command {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "monitor-129-"+name+".txt"))
	require.NoError(t, err)
	var commands []redistest.Command
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(strings.Join(strings.Fields(line)[:3], " "), " ", 3)
		command := redistest.Command{Client: fields[1], Lua: fields[1] == "lua", Args: fields[2:3]}
		_, rest, _ := strings.Cut(line, fields[2])
		for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
			quoted, err := strconv.QuotedPrefix(rest)
			require.NoError(t, err, line)
			arg, err := strconv.Unquote(quoted)
			require.NoError(t, err, line)
			command.Args = append(command.Args, arg)
			rest = rest[len(quoted):]
		}
		commands = append(commands, command)
	}
	return commands
}

// edgeState is a customer as the API described it when the captures were made.
func edgeState(t *testing.T, k cache.Key) entitlements.State {
	t.Helper()
	text, err := os.ReadFile("../testdata/edge-entitlements-state.json")
	require.NoError(t, err)
	var answers map[string]struct {
		Data struct {
			EntitlementsState json.RawMessage `json:"entitlementsState"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal(text, &answers))
	require.Contains(t, answers, k.CustomerID)
	state, err := apistate.Decode(answers[k.CustomerID].Data.EntitlementsState)
	require.NoError(t, err)
	return state
}
