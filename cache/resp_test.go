package cache

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func respReader(text string) *bufio.Reader {
	return bufio.NewReaderSize(strings.NewReader(text), 16<<10)
}

func TestReadResp(t *testing.T) {
	for text, want := range map[string]any{
		"+OK\r\n":                      "OK",
		"+\r\n":                        "",
		":-12\r\n":                     "-12",
		",1.5\r\n":                     "1.5",
		"#t\r\n":                       "t",
		"(123456789012345678901\r\n":   "123456789012345678901",
		"_\r\n":                        nil,
		"$-1\r\n":                      nil,
		"*-1\r\n":                      nil,
		"$0\r\n\r\n":                   "",
		"$4\r\na\r\nb\r\n":             "a\r\nb",
		"=6\r\ntxt:ab\r\n":             "txt:ab",
		"-ERR no\r\n":                  respError("ERR no"),
		"!6\r\nERR no\r\n":             respError("ERR no"),
		"*0\r\n":                       []any{},
		"*2\r\n+a\r\n*1\r\n_\r\n":      []any{"a", []any{nil}},
		"~1\r\n:1\r\n":                 []any{"1"},
		"%1\r\n+role\r\n+master\r\n":   []any{"role", "master"},
		"|1\r\n+ttl\r\n:1\r\n+OK\r\n":  "OK",
		">1\r\n+a\r\n":                 respPush{"a"},
		">2\r\n+invalidate\r\n_\r\n":   respPush{"invalidate", nil},
		"*1\r\n-ERR in a list\r\n":     []any{respError("ERR in a list")},
		"*1\r\n>1\r\n+never seen\r\n":  []any{respPush{"never seen"}},
		"$3\r\na b\r\n+the next one\n": "a b",
	} {
		got, err := readResp(respReader(text))
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, got, "%q", text)
	}
}

// What a server does not send ends the connection: nothing is guessed, nothing
// is waited for, and no memory is taken for what is only announced.
func TestReadRespRefuses(t *testing.T) {
	for _, text := range []string{
		"\r\n", "OK\r\n", "+OK\n", "$x\r\n", "$\r\n", "*x\r\n", "%1.5\r\n", "$2\r\nabc\r\n", "$2\r\nab\n\r",
		"$" + strconv.Itoa(maxRespText+1) + "\r\n", "$9223372036854775807\r\n", "$99999999999999999999\r\n",
		"*" + strconv.Itoa(maxRespItems+1) + "\r\n", "%9223372036854775807\r\n", ">99999999999999999999\r\n",
		strings.Repeat("*1\r\n", maxRespDepth+2) + "+a\r\n", strings.Repeat("|0\r\n", maxRespDepth+2) + "+a\r\n",
	} {
		_, err := readResp(respReader(text))
		require.ErrorIs(t, err, errProtocol, "%q", text)
	}
	for _, text := range []string{"", "+OK", "$4\r\nab", "*2\r\n+a\r\n", ">1\r\n", "|1\r\n+a\r\n+b\r\n"} {
		_, err := readResp(respReader(text))
		require.Truef(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%q: %v", text, err)
	}
	_, err := readResp(respReader("+" + strings.Repeat("a", 17<<10) + "\r\n"))
	require.ErrorIs(t, err, bufio.ErrBufferFull)
	announced := strings.Repeat("*"+strconv.Itoa(maxRespItems)+"\r\n", maxRespDepth)
	require.Less(t, testing.AllocsPerRun(10, func() { _, _ = readResp(respReader(announced)) }), 100.0)
}

func TestReadReplyPassesOverPushes(t *testing.T) {
	r := respReader(">1\r\n+a\r\n>1\r\n+b\r\n-ERR no\r\n+next\r\n")
	reply, err := readReply(r)
	require.NoError(t, err)
	require.Equal(t, respError("ERR no"), reply)
	reply, err = readReply(r)
	require.NoError(t, err)
	require.Equal(t, "next", reply)
	_, err = readReply(r)
	require.ErrorIs(t, err, io.EOF)
}

// What a server sends, whatever it is, is read to its end or refused; and what
// was read as commands is what was written.
func FuzzReadResp(f *testing.F) {
	for _, seed := range []string{
		">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\nlab:c_a\r\n", ">2\r\n+invalidate\r\n_\r\n", "%1\r\n+role\r\n+master\r\n",
		"|1\r\n+a\r\n+b\r\n+OK\r\n", "*3\r\n$-1\r\n~1\r\n#t\r\n!3\r\nERR\r\n", "=7\r\ntxt:abc\r\n,1\r\n", "*65536\r\n*65536\r\n", "$1048576\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		for {
			if _, err := readResp(r); err != nil {
				break
			}
		}
		text := string(data)
		got, err := readResp(bufio.NewReader(bytes.NewReader(appendCommand(nil, text, "", text))))
		require.NoError(t, err)
		require.Equal(t, []any{text, "", text}, got)
	})
}
