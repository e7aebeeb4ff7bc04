package message

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// reader reads JSON from its beginning to its end, once. A list of
// entitlements is most of what the service reads, and reading it like this
// costs a fraction of decoding it with reflection. Whatever is read or skipped
// is checked; the first fault makes bad true, and nothing is read after it.
type reader struct {
	s   string
	at  int
	bad bool // not JSON, or a value of another type than was asked for
}

// maxDepth is how deep values may be nested; encoding/json allows as much.
const maxDepth = 10000

// peek skips space and returns the byte after it; 0 at the end.
func (r *reader) peek() byte {
	for ; r.at < len(r.s); r.at++ {
		switch c := r.s[r.at]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

func (r *reader) fail() {
	r.bad = true
	r.at = len(r.s)
}

// take skips a byte that has to come.
func (r *reader) take(c byte) {
	if r.peek() != c {
		r.fail()
		return
	}
	r.at++
}

// enter begins an object or a list, and reports whether there is anything in
// it. All of it is read by:
//
//	for more := r.enter('[', ']'); more; more = r.next(']') { … }
func (r *reader) enter(opening, closing byte) bool {
	r.take(opening)
	if r.peek() == closing {
		r.at++
		return false
	}
	return !r.bad
}

// next goes on to the next field or element, and reports whether there is one.
func (r *reader) next(closing byte) bool {
	switch r.peek() {
	case ',':
		r.at++
		return true
	case closing:
		r.at++
	default:
		r.fail()
	}
	return false
}

// end reports whether all was read, and all of it was well.
func (r *reader) end() bool { return r.peek() == 0 && r.at == len(r.s) && !r.bad }

// name reads the name of a field. One that is not valid UTF-8 stays as it is.
func (r *reader) name() string {
	text, plain := r.quoted()
	if !plain {
		text = r.unescape(text)
	}
	r.take(':')
	return text
}

// quoted reads a string as it stands, quotes included unless it is plain: then
// what is between them is what it means, but for UTF-8 that is not valid.
func (r *reader) quoted() (text string, plain bool) {
	r.take('"')
	from, plain := r.at, true
	s := r.s
	for i := from; i < len(s); i++ {
		c := s[i]
		if c > '\\' || c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		switch c {
		case '"':
			r.at = i + 1
			if plain {
				return s[from:i], true
			}
			return s[from-1 : r.at], false
		case '\\':
			plain = false
			n := escapeLen(s[i:])
			if n == 0 {
				r.fail()
				return "", true
			}
			i += n - 1
		default:
			r.fail()
			return "", true
		}
	}
	r.fail()
	return "", true
}

// escapeLen is the length of the escape at the beginning; 0 if it is none.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(s) < 6 {
			return 0
		}
		for _, c := range []byte(s[2:6]) {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// unescape returns what a string means, given with its quotes.
func (r *reader) unescape(quoted string) string {
	var s string
	if json.Unmarshal([]byte(quoted), &s) != nil {
		r.fail()
	}
	return s
}

// string reads a string that has to be there. It shares the memory of what is
// read.
func (r *reader) string() string {
	text, plain := r.quoted()
	switch {
	case !plain:
		return r.unescape(text)
	case !utf8.ValidString(text):
		return r.unescape(`"` + text + `"`)
	}
	return text
}

// digits skips digits, of which there has to be one.
func (r *reader) digits() {
	from := r.at
	for r.at < len(r.s) && r.s[r.at] >= '0' && r.s[r.at] <= '9' {
		r.at++
	}
	if r.at == from {
		r.fail()
	}
}

// follows skips one of two bytes if it comes at once.
func (r *reader) follows(a, b byte) bool {
	if r.at < len(r.s) && (r.s[r.at] == a || r.s[r.at] == b) {
		r.at++
		return true
	}
	return false
}

// figure reads a number as it stands.
func (r *reader) figure() string {
	r.peek()
	from := r.at
	r.follows('-', '-')
	if !r.follows('0', '0') {
		r.digits()
	}
	if r.follows('.', '.') {
		r.digits()
	}
	if r.follows('e', 'E') {
		r.follows('+', '-')
		r.digits()
	}
	if r.bad {
		return ""
	}
	return r.s[from:r.at]
}

// literal skips a word if it comes.
func (r *reader) literal(word string) bool {
	r.peek()
	if !strings.HasPrefix(r.s[r.at:], word) {
		return false
	}
	r.at += len(word)
	return true
}

// null skips null if it comes.
func (r *reader) null() bool { return r.literal("null") }

// skip skips a value.
func (r *reader) skip() { r.skipValue(1) }

func (r *reader) skipValue(depth int) {
	switch c := r.peek(); c {
	case '"':
		r.quoted()
	case '{', '[':
		if depth > maxDepth {
			r.fail()
			return
		}
		closing := c + 2 // in ASCII
		for more := r.enter(c, closing); more; more = r.next(closing) {
			if c == '{' {
				r.quoted()
				r.take(':')
			}
			r.skipValue(depth + 1)
		}
	case 't', 'f', 'n':
		if !r.literal("true") && !r.literal("false") && !r.null() {
			r.fail()
		}
	default:
		r.figure()
	}
}

// raw reads a value as it stands.
func (r *reader) raw() string {
	r.peek()
	from := r.at
	r.skip()
	if r.bad {
		return ""
	}
	return r.s[from:r.at]
}

// The functions below read null like a field that is absent.

// text reads a string. It shares the memory of what is read.
func (r *reader) text() string {
	if r.null() {
		return ""
	}
	return r.string()
}

func (r *reader) number() *float64 {
	if r.null() {
		return nil
	}
	n, err := strconv.ParseFloat(r.figure(), 64)
	if err != nil || !plausible(n) {
		r.fail()
		return nil
	}
	return &n
}

func (r *reader) boolean() bool {
	if r.literal("true") {
		return true
	}
	if !r.literal("false") && !r.null() {
		r.fail()
	}
	return false
}

func (r *reader) time() time.Time {
	t, err := readTime(r.raw())
	if err != nil {
		r.fail()
	}
	return t
}

func (r *reader) texts() []string {
	if r.null() {
		return nil
	}
	texts := []string{}
	for more := r.enter('[', ']'); more; more = r.next(']') {
		texts = append(texts, r.string())
	}
	return texts
}

// elements returns the elements of a list. It reports false if raw is none.
func elements(raw string) ([]string, bool) {
	r := reader{s: raw}
	var list []string
	for more := r.enter('[', ']'); more; more = r.next(']') {
		list = append(list, r.raw())
	}
	return list, r.end()
}

var errType = errors.New("of another type")

// readText reads a string. It keeps no memory of value.
func readText(value string) (string, error) {
	r := reader{s: value}
	text := strings.Clone(r.string())
	if !r.end() {
		return "", errType
	}
	return text, nil
}

// readNumber reads a number that has to be there.
func readNumber(value string) (float64, error) {
	r := reader{s: value}
	n := r.number()
	if !r.end() || n == nil {
		return 0, errType
	}
	return *n, nil
}

// readTime reads a time as apistate.ParseTime does, sooner if it has the
// common form.
func readTime(value string) (time.Time, error) {
	const year9999 = 253402214400000 // its last day, in epoch milliseconds
	if n := len(value); n > 2 && value[0] == '"' {
		if t, err := time.Parse(time.RFC3339, value[1:n-1]); err == nil {
			if ms := t.UnixMilli(); ms > 0 && ms < year9999 {
				return time.UnixMilli(ms).UTC(), nil
			}
		}
	}
	return apistate.ParseTime(json.RawMessage(value))
}

// plausible tells numbers that can be counts of something from those that
// would be infinite once multiplied.
func plausible(n float64) bool {
	const most = 1e21
	return math.Abs(n) <= most
}
