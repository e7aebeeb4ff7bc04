package queue

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
)

func sum(body string) string {
	s := md5.Sum([]byte(body))
	return hex.EncodeToString(s[:])
}

// expected reads an envelope with encoding/json. It reports false if anything
// that is kept has another type.
func expected(data []byte) (messages []types.Message, ok bool) {
	var envelope map[string]any
	if json.Unmarshal(data, &envelope) != nil || envelope == nil {
		return nil, false
	}
	if envelope["Messages"] == nil {
		return nil, true
	}
	list, ok := envelope["Messages"].([]any)
	if !ok {
		return nil, false
	}
	messages = []types.Message{}
	for _, element := range list {
		fields, object := element.(map[string]any)
		if !object && element != nil {
			return nil, false
		}
		text := func(name string) *string {
			s, is := fields[name].(string)
			if fields[name] == nil {
				return nil
			}
			ok = ok && is
			return &s
		}
		m := types.Message{MessageId: text("MessageId"), ReceiptHandle: text("ReceiptHandle"), Body: text("Body"), MD5OfBody: text("MD5OfBody")}
		attributes, object := fields["Attributes"].(map[string]any)
		ok = ok && (object || fields["Attributes"] == nil)
		if object {
			m.Attributes = map[string]string{}
		}
		for name, value := range attributes {
			s, is := value.(string)
			ok = ok && is
			m.Attributes[name] = s
		}
		if m.Body != nil && m.MD5OfBody != nil && *m.MD5OfBody != sum(*m.Body) {
			m.Body = nil
		}
		messages = append(messages, m)
	}
	return messages, ok
}

// What is read is what encoding/json reads, and what encoding/json writes is
// read.
func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "Messages" : [ ] } `, `{"Messages":null}`, `{"Messages":[null,{}]}`, `{"Messages":{}}`, `{"Messages":[1]}`, `[]`, `null`, ``, `{"Messages":[]}x`,
		`{"Messages":[{"MessageId":"m","ReceiptHandle":"r","MD5OfBody":"d41d8cd98f00b204e9800998ecf8427e","Body":"","Attributes":{"SentTimestamp":"1"}}]}`,
		`{"Messages":[{"Body":"{\"a\":\"\\u00e9\\n\"}","MD5OfBody":null,"MessageAttributes":{"n":{"StringValue":"x","n":-1.5e3}},"x":[true,false,null,{}]}]}`,
		`{"Messages":[{"Body":"\u00e9\ud83d\ude42\ud83dx\ude42\ud83d\u0041\/\b\f\r\t"}],"Next":1}`, `{"Messages":[{"Body":"é🙂 "}]}`,
		`{"Messages":[{"Body":1}]}`, `{"Messages":[{"Attributes":{"a":null}}]}`, `{"Messages":[{"Attributes":[]}]}`, `{"Messages":[{"Body":"\u12g4"}]}`, `{"Messages":[{"Body":"\x"}]}`, `{"Messages":[{"Body":"` + "\x1f" + `"}]}`,
		`{"Messages":[{"Body":"0123456\"`, `{"Messages":[{"Body":"0123456\`, `{"Messages":[{"Body":"0123456\u00`, `{"a":[1,]}`, `{"a":01}`, `{"a":tru}`, `{"a":"b" "c":1}`, `{"a":}`, `{"Messages":[{"Body":"x","Body":"y"}]}`,
	} {
		f.Add([]byte(seed))
	}
	read := func(data []byte) ([]types.Message, bool) {
		e := envelope{data: data}
		return e.read()
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			return // encoding/json would mend it
		}
		want, fits := expected(data)
		got, ok := read(data)
		if ok {
			require.True(t, json.Valid(data))
			// encoding/json does not say what stands in a field that comes again.
			if fits {
				require.Equal(t, want, got)
			}
		}
		var envelope map[string]any
		if !fits || json.Unmarshal(data, &envelope) != nil {
			return
		}
		written, err := json.Marshal(envelope)
		require.NoError(t, err)
		got, ok = read(written)
		require.True(t, ok, "%s", written)
		require.Equal(t, want, got)
	})
}

// The text of a string is right wherever in a word its special bytes are.
func TestEnvelopeTexts(t *testing.T) {
	for _, piece := range []string{`"`, `\`, "\n", "\x00", "é", "€", "🙂", "\u2028", "\x7f", "\x80\xff", "<"} {
		for before := range 17 {
			for after := range 17 {
				text := strings.Repeat("a", before) + piece + strings.Repeat("b", after) + piece
				quoted := strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`, "\x00", `\u0000`).Replace(text)
				e := envelope{data: fmt.Appendf(nil, `{"Messages":[{"Body":"%s","MD5OfBody":%q}]}`, quoted, sum(text))}
				messages, ok := e.read()
				require.True(t, ok)
				require.NotNil(t, messages[0].Body)
				require.Equal(t, text, *messages[0].Body)
			}
		}
	}
}

// Damage is found whichever of the body and its checksum comes first, and is not
// that of the messages beside.
func TestEnvelopeChecksum(t *testing.T) {
	for _, format := range []string{`{"Messages":[{"MessageId":"m","MD5OfBody":%q,"Body":%q},{"Body":"y"}]}`, `{"Messages":[{"MessageId":"m","Body":%[2]q,"MD5OfBody":%[1]q},{"Body":"y"}]}`} {
		e := envelope{data: fmt.Appendf(nil, format, sum("x"), "x")}
		messages, ok := e.read()
		require.True(t, ok)
		require.Len(t, messages, 2)
		require.Equal(t, "x", *messages[0].Body)
		e = envelope{data: fmt.Appendf(nil, format, sum("x"), "z")}
		messages, ok = e.read()
		require.True(t, ok)
		require.Equal(t, "m", *messages[0].MessageId)
		require.Nil(t, messages[0].Body)
		require.Equal(t, "y", *messages[1].Body)
	}
}

// What is kept of an answer does not keep the answer.
func TestEnvelopeAllocations(t *testing.T) {
	body := strings.Repeat(`{"a":"b"},`, 2000)
	data, err := json.Marshal(map[string]any{"Messages": []any{map[string]string{"Body": body, "MD5OfBody": sum(body), "MessageId": "m", "ReceiptHandle": "r"}}})
	require.NoError(t, err)
	scratch := make([]byte, 0, len(data)+64)
	const most = 10 // four texts, a pointer to each, the list, and the checksum's text
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		e := envelope{data: data, scratch: scratch}
		if messages, ok := e.read(); !ok || messages[0].Body == nil {
			t.Fatal("not read")
		}
	}), float64(most))
}
