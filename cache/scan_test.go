package cache

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSkipAgreesWithJSON(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `1.5e10`, `-1E-7`, `"a\"b\\\u00e9"`, ` { "a" : [ 1 , {"b":null} ] } `,
		`{`, `}`, `[`, `[1,]`, `{"a":1,}`, `{"a"}`, `{a:1}`, `01`, `1.`, `.5`, `+1`, `1e`, `"a`, `"\x"`, `"\u12g4"`, "\"a\nb\"",
		`nul`, `tru`, `falsey`, `{"a":1}{"b":2}`, `[1 2]`, `[}`, `{]`, ``, ` `, `--1`, `"\ud800"`, "\xff", `{"a":[{"b":[[]]}]}`,
	} {
		p := scanner{s: text}
		ok := p.skip() == nil && p.end()
		require.Equal(t, json.Valid([]byte(text)), ok, "%q", text)
	}
}

func TestSkipBoundsNesting(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	p := scanner{s: deep(maxDepth)}
	require.NoError(t, p.skip())
	p = scanner{s: deep(maxDepth + 2)}
	require.ErrorIs(t, p.skip(), errMalformed)
	p = scanner{s: strings.Repeat(`{"a":`, 1_000_000)}
	require.ErrorIs(t, p.skip(), errMalformed)
}

func TestTextMatchesJSON(t *testing.T) {
	for _, text := range []string{`"plain"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\u4e2d"`, `"\ud83d\ude42"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"клиент-ñ-客户-🙂"`} {
		var want string
		require.NoError(t, json.Unmarshal([]byte(text), &want))
		p := scanner{s: text}
		got, err := p.text()
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
}

func TestFloat(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "42": 42, "-2": -2, "7.25": 7.25, "1e3": 1000, "123456789012345678": 123456789012345678, "999999999999999": 999999999999999, "0.1": 0.1} {
		p := scanner{s: text}
		v, ok, err := p.float()
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, v)
	}
	for _, text := range []string{`1e999`, `-1e999`, `"1"`, `true`, `{}`, `NaN`} {
		p := scanner{s: text}
		_, _, err := p.float()
		require.ErrorIs(t, err, errMalformed, text)
	}
}

func TestParseTimestamp(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1780308000000": 1780308000000, "8640000000000000": 8640000000000000} {
		got, ok := parseTimestamp(text)
		require.True(t, ok, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "-1", "1.5", "1e3", " 1", "0x10", "8640000000000001", "99999999999999999", "NaN", "null"} {
		_, ok := parseTimestamp(text)
		require.False(t, ok, text)
	}
}

func FuzzSkip(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2,{"b":"c\u00e9"}],"d":null}`, `[true,false,-1.5e-3]`, `"`, `{"":`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := scanner{s: text}
		ok := p.skip() == nil && p.end()
		if ok != json.Valid([]byte(text)) && strings.Count(text, "[")+strings.Count(text, "{") <= maxDepth {
			t.Fatalf("scanner says %v, encoding/json says %v: %q", ok, !ok, text)
		}
	})
}

func FuzzIndexAndDecode(f *testing.F) {
	f.Add(`{"x":{"calculatedEntitlement":{"type":"FEATURE","feature":{"id":"x","featureType":"NUMBER","meterType":"Incremental"},"usageLimit":100,"creditRate":{"amount":2.5,"currencyId":"c"}},"usageData":{"currentUsage":40,"usagePeriodEnd":1}}}`)
	f.Add(`{"y":{"calculatedEntitlement":{"type":"CREDIT","currency":{"currencyId":"y","additionalMetaData":{"a":[1]}}}},"z":{}}`)
	f.Add(`{"old":{"calculatedEntitlement":{"feature":{"id":"old"}},"featureUsage":{"resetPeriod":"MONTH","nextResetDate":5}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parse(text, 4)
		if err != nil {
			return
		}
		if !json.Valid([]byte(text)) {
			t.Fatalf("accepted what is not JSON: %q", text)
		}
		for _, e := range v.entries {
			it, err := v.find(e.ref)
			if err == nil && it == nil {
				t.Fatalf("indexed but not found: %v", e.ref)
			}
		}
		_, _ = v.list([]string{"value"})
	})
}

func FuzzDecodeUsage(f *testing.F) {
	f.Add(`{"currentUsage":40,"usagePeriodStart":null,"usagePeriodEnd":1709193600000}`)
	f.Add(`{"currentUsage":1e308,"nextResetDate":-1}`)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := decodeUsage(text); err == nil && !json.Valid([]byte(text)) {
			t.Fatalf("accepted what is not JSON: %q", text)
		}
		if _, err := decodeMetadata(text); err == nil && !json.Valid([]byte(text)) {
			t.Fatalf("accepted what is not JSON: %q", text)
		}
	})
}
