package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// large customers take few to fill what the SDK remembers.
const large = 200

// A comparison is fair only if both sides ask Redis for the same.
func TestFloorsSendWhatTheSDKSends(t *testing.T) {
	b, err := newBed(t.Context(), []int{large})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.close()) }()
	c := b.customers[large]
	recorder := redistest.Monitor(t, b.redis.addr())

	compared := 0
	for _, g := range table() {
		for _, w := range g.ways {
			t.Run(g.name+"/"+w.name, func(t *testing.T) {
				sent := make([][]string, 2)
				for i, side := range []way{g.floor, w} {
					read, err := side.open(b, c)
					require.NoError(t, err)
					// What is then known of the first customer is what is known
					// of it while measuring.
					for i := range c.many {
						require.NoError(t, read(t.Context(), i))
					}
					recorder.Reset()
					require.NoError(t, read(t.Context(), 0))
					for _, command := range recorder.Calls() {
						sent[i] = append(sent[i], strings.Join(command.Args, " "))
					}
				}
				require.Equal(t, g.inMemory, len(sent[0]) == 0)
				require.Equal(t, upper(sent[0]), inOne(upper(sent[1])))
				compared++
			})
		}
	}
	require.Greater(t, compared, 5)
}

// upper makes the commands' names alike: libraries differ in how they write them.
func upper(commands []string) []string {
	for i, c := range commands {
		name, args, _ := strings.Cut(c, " ")
		commands[i] = strings.ToUpper(name) + " " + args
	}
	return commands
}

// inOne is a large value's reading as the one MGET that it stands for: the
// other keys, the value by itself, and its timestamp once more; then, if the
// value is not the one that is known, the MGET after all.
func inOne(commands []string) []string {
	if len(commands) < 3 || !strings.HasPrefix(commands[1], "GET ") {
		return commands
	}
	value := strings.TrimPrefix(commands[1], "GET ")
	others, mget := strings.CutPrefix(commands[0], "MGET ")
	one := "MGET " + value + " " + others
	again := len(commands) == 3 || len(commands) == 4 && commands[3] == one
	if !mget || !again || commands[2] != "GET "+value+"#timestamp" {
		return commands
	}
	return []string{one}
}

// The groups that are about decoding would measure nothing if the SDK
// remembered the values after all.
func TestDecodingGroupsDecode(t *testing.T) {
	b, err := newBed(t.Context(), []int{large})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.close()) }()
	c := b.customers[large]

	bytes := make(map[string]float64)
	for _, g := range table() {
		for _, w := range g.ways {
			if w.name != sdkName {
				continue
			}
			read, err := w.open(b, c)
			require.NoError(t, err)
			for i := range c.many {
				require.NoError(t, read(t.Context(), i))
			}
			_, bytes[g.name], err = countAllocations(t.Context(), read, 50)
			require.NoError(t, err)
		}
	}
	const decoded = 1000 // bytes that an entry and the index take at least
	require.Greater(t, bytes["metered check, changed value"], bytes["metered check"]+decoded)
	require.Greater(t, bytes["metered check, many customers"], bytes["metered check"]+decoded)
	require.Greater(t, bytes["credit-backed check, many customers"], bytes["credit-backed check"]+decoded)
}

func TestMixtureHasEverything(t *testing.T) {
	for _, n := range []int{10, 50, 200} {
		require.Len(t, mixture(n), n)
	}
}
