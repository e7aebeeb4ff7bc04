package message

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// Whatever encoding/json takes for an object is taken apart in the same way.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":"x\"}","b":[{"c":"]"},2],"d":{"e":{}}}`, " {\n\"a\" :\t1 , \"b\":null}\r\n", `{"a\\":"\\"}`, `{"a":1,"a":2}`,
		`{"\u0061":true,"":false}`, `{"a":1,}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":1e+}`, `{"a":-0.5E-7}`, `{"a":"\ud83d\uDe42\ux"}`, `{"a":tru}`, `{"a":[1,]}`, `{"a":[}`, `{"a":1}x`, "{\"a\":\"\n\"}", `{"a`, `{"a":"\`, `[1]`, `"x"`, `null`, "{\"\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want map[string]any
		err := json.Unmarshal(raw, &want)
		got, ok := parseObject(string(raw))
		require.True(t, json.Valid(raw) || !ok)
		if err != nil || want == nil {
			// Not an object, or with a number that is too large.
			require.True(t, err != nil || !ok)
			return
		}
		require.True(t, ok)
		decoded := map[string]any{}
		for name, value := range got {
			var v any
			require.NoError(t, json.Unmarshal([]byte(value), &v), "%q", value)
			// A name that is not valid UTF-8 stays as it is.
			var clean string
			quoted, err := json.Marshal(name)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(quoted, &clean))
			decoded[clean] = v
		}
		require.Equal(t, want, decoded)
	})
}

// Single values are read as encoding/json and the SDK read them.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{
		`"x"`, `"\"\u00e9\ud83d\ude42\\"`, "\"\xff\xfe\"", `""`, `"x`, `1`, `-0.5e3`, `1e999`, `1e21`, `null`, `true`, `[ "a" , "b\t"]`, `[]`, `["a",null]`, `[1]`,
		`"2026-06-01T10:00:00.123Z"`, `"2026-06-01T10:00:00+02:00"`, `"9999-12-31T23:59:59-23:00"`, `"0000-01-01T00:00:00Z"`, `1780000000000`, `"1780000000000"`, `"2026-06-01"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if len(raw) == 0 || raw[0] <= ' ' || raw[len(raw)-1] <= ' ' || raw == "null" {
			return // values come without space around them
		}
		var wantText string
		wantErr := json.Unmarshal([]byte(raw), &wantText)
		gotText, err := readText(raw)
		require.Equal(t, wantErr == nil, err == nil)
		require.Equal(t, wantText, gotText)

		var wantNumber float64
		wantErr = json.Unmarshal([]byte(raw), &wantNumber)
		gotNumber, err := readNumber(raw)
		require.Equal(t, wantErr == nil && plausible(wantNumber), err == nil)
		if err == nil {
			require.Equal(t, wantNumber, gotNumber)
		}

		wantTime, wantErr := apistate.ParseTime(json.RawMessage(raw))
		gotTime, err := readTime(raw)
		require.Equal(t, wantErr, err)
		require.Equal(t, wantTime, gotTime)

		var wantTexts []*string
		wantErr = json.Unmarshal([]byte(raw), &wantTexts)
		for _, text := range wantTexts {
			if text == nil {
				return // null is no text, which encoding/json cannot say
			}
		}
		r := reader{s: raw}
		gotTexts := r.texts()
		require.Equal(t, wantErr == nil, r.end())
		if wantErr == nil {
			require.Len(t, gotTexts, len(wantTexts))
			for i, text := range wantTexts {
				require.Equal(t, *text, gotTexts[i])
			}
		}
	})
}
