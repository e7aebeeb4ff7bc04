package message

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever encoding/json takes for an object is taken apart in the same way.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":"x\"}","b":[{"c":"]"},2],"d":{"e":{}}}`, " {\n\"a\" :\t1 , \"b\":null}\r\n", `{"a\\":"\\"}`, `{"a":1,"a":2}`,
		`{"\u0061":true,"":false}`, `[1]`, `"x"`, `null`, "{\"\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		var want map[string]any
		err := json.Unmarshal(raw, &want)
		got, ok := parseObject(raw)
		if err != nil || want == nil {
			// Not an object, or with a number that is too large.
			require.True(t, err != nil || !ok)
			return
		}
		require.True(t, ok)
		decoded := map[string]any{}
		for name, value := range got {
			var v any
			require.NoError(t, json.Unmarshal(value, &v), "%q", value)
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
