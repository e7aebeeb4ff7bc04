package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

// The functions here take JSON apart that json.Valid has approved of, or parts
// of it. A list of entitlements is most of what the service reads, and taking
// it apart like this costs a fraction of decoding it with reflection.

// space skips the insignificant space at the beginning.
func space(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\n' || s[0] == '\t' || s[0] == '\r') {
		s = s[1:]
	}
	return s
}

// cutValue cuts the value at the beginning off.
func cutValue(s []byte) (value, rest []byte) {
	s = space(s)
	n := valueLen(s)
	return s[:n], space(s[n:])
}

func valueLen(s []byte) int {
	if len(s) == 0 {
		return 0
	}
	switch s[0] {
	case '"':
		return stringLen(s)
	case '{', '[':
		depth := 0
		for i := 0; i < len(s); i++ {
			switch s[i] {
			case '"':
				i += stringLen(s[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(s)
	}
	if i := bytes.IndexAny(s, ",]} \n\t\r"); i >= 0 {
		return i
	}
	return len(s)
}

// stringLen is the length of the string at the beginning, quotes included.
func stringLen(s []byte) int {
	for i := 1; ; {
		n := bytes.IndexByte(s[i:], '"')
		if n < 0 {
			return len(s)
		}
		i += n
		escapes := 0
		for s[i-1-escapes] == '\\' {
			escapes++
		}
		i++
		if escapes%2 == 0 {
			return i
		}
	}
}

// eachField calls do for every field of an object. It reports false if raw is
// no object.
func eachField(raw []byte, do func(name, value []byte) error) (bool, error) {
	raw = space(raw)
	if len(raw) == 0 || raw[0] != '{' {
		return false, nil
	}
	for rest := space(raw[1:]); len(rest) > 0 && rest[0] == '"'; {
		var key, value []byte
		key, rest = cutValue(rest)
		name := key[1 : len(key)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			text, err := readText(key)
			if err != nil {
				return true, err
			}
			name = []byte(text)
		}
		if len(rest) > 0 {
			rest = rest[1:] // the colon
		}
		value, rest = cutValue(rest)
		if err := do(name, value); err != nil {
			return true, err
		}
		if len(rest) > 0 {
			rest = space(rest[1:]) // the comma, or the end
		}
	}
	return true, nil
}

// elements returns the elements of a list. It reports false if raw is none.
func elements(raw []byte) ([]json.RawMessage, bool) {
	raw = space(raw)
	if len(raw) == 0 || raw[0] != '[' {
		return nil, false
	}
	var list []json.RawMessage
	for rest := space(raw[1:]); len(rest) > 0 && rest[0] != ']'; {
		var value []byte
		value, rest = cutValue(rest)
		list = append(list, value)
		if len(rest) == 0 || rest[0] == ']' {
			break
		}
		rest = space(rest[1:])
	}
	return list, true
}

var errType = errors.New("of another type")

// readText reads a string.
func readText(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errType
	}
	if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err
}

// readNumber reads a number.
func readNumber(value []byte) (*float64, error) {
	if len(value) == 0 || value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return nil, errType
	}
	n, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !plausible(n) {
		return nil, errType
	}
	return &n, nil
}

// readBool reads a boolean.
func readBool(value []byte) (bool, error) {
	switch string(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errType
}
