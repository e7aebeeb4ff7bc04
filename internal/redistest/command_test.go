package redistest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseCommand(t *testing.T) {
	tests := map[string]struct {
		line string
		want Command
	}{
		"plain": {
			line: `1700000000.000007 [2 127.0.0.1:50000] "get" "a b"`,
			want: Command{At: time.UnixMicro(1700000000000007), DB: 2, Client: "127.0.0.1:50000", Args: []string{"get", "a b"}},
		},
		"lua": {
			line: `1700000000.123456 [0 lua] "SET" "k" ""`,
			want: Command{At: time.UnixMicro(1700000000123456), Lua: true, Args: []string{"SET", "k", ""}},
		},
		"escapes": {
			line: `1700000000.123456 [0 [::1]:50000] "set" "\"\\\a\b\r\n\t\x00\xff" "] \"x"`,
			want: Command{At: time.UnixMicro(1700000000123456), Client: "[::1]:50000", Args: []string{"set", "\"\\\a\b\r\n\t\x00\xff", "] \"x"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseCommand(tt.line)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseCommandRefusesWhatIsNone(t *testing.T) {
	for _, line := range []string{
		"",
		"OK",
		`x.1 [0 lua] "get"`,
		`1 [0 lua] "get"`,
		`1.1 [0 lua`,
		`1.1 [x lua] "get"`,
		`1.1 [0lua] "get"`,
		`1.1 [0 lua] `,
		`1.1 [0 lua] "get`,
		`1.1 [0 lua] get`,
	} {
		_, err := parseCommand(line)
		require.Error(t, err, line)
	}
}
