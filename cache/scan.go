package cache

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// errMalformed says that a text is not JSON, or not of the shape that the
// layout has. It carries no position: the text may be anybody's data.
var errMalformed = errors.New("malformed value")

// maxDepth is the deepest nesting that a value may have. The layout needs six.
const maxDepth = 255

// scanner walks over JSON text without building anything. It checks the whole
// grammar of what it passes, so that a value that was cut off or corrupted
// anywhere is noticed even if the part that is asked for is intact.
type scanner struct {
	s string
	i int
}

func (p *scanner) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\n', '\r', '\t':
			p.i++
		default:
			return
		}
	}
}

// peek returns the next byte that is not white space, 0 at the end.
func (p *scanner) peek() byte {
	p.space()
	if p.i >= len(p.s) {
		return 0
	}
	return p.s[p.i]
}

func (p *scanner) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.i++
	return true
}

// end reports whether nothing but white space is left.
func (p *scanner) end() bool {
	p.space()
	return p.i == len(p.s)
}

// stringStop marks the bytes that end a run of plain bytes within a string.
var stringStop = func() (t [256]bool) {
	for i := range 0x20 {
		t[i] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

// str passes over a string and returns what stands between the quotes;
// escaped says that it contains escapes and needs unescape.
func (p *scanner) str() (raw string, escaped bool, err error) {
	if !p.take('"') {
		return "", false, errMalformed
	}
	start := p.i
	for {
		for p.i < len(p.s) && !stringStop[p.s[p.i]] {
			p.i++
		}
		if p.i >= len(p.s) {
			return "", false, errMalformed
		}
		switch p.s[p.i] {
		case '"':
			raw = p.s[start:p.i]
			p.i++
			return raw, escaped, nil
		case '\\':
			escaped = true
			if err := p.escape(); err != nil {
				return "", false, err
			}
		default: // a control character
			return "", false, errMalformed
		}
	}
}

func (p *scanner) escape() error {
	if p.i+1 >= len(p.s) {
		return errMalformed
	}
	switch p.s[p.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.i += 2
		return nil
	case 'u':
		if p.i+6 > len(p.s) {
			return errMalformed
		}
		for _, c := range []byte(p.s[p.i+2 : p.i+6]) {
			if !isHex(c) {
				return errMalformed
			}
		}
		p.i += 6
		return nil
	}
	return errMalformed
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// number passes over a number and returns its text.
func (p *scanner) number() (string, error) {
	p.space()
	start := p.i
	digits := func() bool {
		from := p.i
		for p.i < len(p.s) && isDigit(p.s[p.i]) {
			p.i++
		}
		return p.i > from
	}
	if p.i < len(p.s) && p.s[p.i] == '-' {
		p.i++
	}
	if p.i < len(p.s) && p.s[p.i] == '0' {
		p.i++
	} else if !digits() {
		return "", errMalformed
	}
	if p.i < len(p.s) && p.s[p.i] == '.' {
		p.i++
		if !digits() {
			return "", errMalformed
		}
	}
	if p.i < len(p.s) && (p.s[p.i] == 'e' || p.s[p.i] == 'E') {
		p.i++
		if p.i < len(p.s) && (p.s[p.i] == '+' || p.s[p.i] == '-') {
			p.i++
		}
		if !digits() {
			return "", errMalformed
		}
	}
	return p.s[start:p.i], nil
}

func (p *scanner) literal(word string) error {
	if !strings.HasPrefix(p.s[p.i:], word) {
		return errMalformed
	}
	p.i += len(word)
	return nil
}

// skip passes over one value of any kind. It does not recurse, so that no
// nesting can exhaust the stack.
func (p *scanner) skip() error {
	var objects [maxDepth/64 + 1]uint64 // which of the open containers are objects
	depth := 0
	for {
		opened, err := p.skipStart()
		if err != nil {
			return err
		}
		if opened != 0 {
			if depth++; depth > maxDepth {
				return errMalformed
			}
			bit := uint64(1) << (depth % 64)
			if opened == '{' {
				objects[depth/64] |= bit
				if err := p.skipName(); err != nil {
					return err
				}
			} else {
				objects[depth/64] &^= bit
			}
			continue
		}
		for { // a value has ended: close containers until another value begins
			if depth == 0 {
				return nil
			}
			inObject := objects[depth/64]>>(depth%64)&1 == 1
			if p.take(',') {
				if inObject {
					if err := p.skipName(); err != nil {
						return err
					}
				}
				break
			}
			closing := byte(']')
			if inObject {
				closing = '}'
			}
			if !p.take(closing) {
				return errMalformed
			}
			depth--
		}
	}
}

// skipStart passes over a scalar or an empty container, or over the opening of
// a container that has members, which it returns.
func (p *scanner) skipStart() (opened byte, err error) {
	switch c := p.peek(); c {
	case '"':
		_, _, err = p.str()
	case '{':
		p.i++
		if !p.take('}') {
			return '{', nil
		}
	case '[':
		p.i++
		if !p.take(']') {
			return '[', nil
		}
	case 't':
		err = p.literal("true")
	case 'f':
		err = p.literal("false")
	case 'n':
		err = p.literal("null")
	default:
		if c != '-' && !isDigit(c) {
			return 0, errMalformed
		}
		_, err = p.number()
	}
	return 0, err
}

func (p *scanner) skipName() error {
	if _, _, err := p.str(); err != nil {
		return err
	}
	if !p.take(':') {
		return errMalformed
	}
	return nil
}

// object calls field for every member, with the scanner at the member's value,
// which field must pass over.
func (p *scanner) object(field func(name string, escaped bool) error) error {
	if !p.take('{') {
		return errMalformed
	}
	if p.take('}') {
		return nil
	}
	for {
		name, escaped, err := p.str()
		if err != nil {
			return err
		}
		if !p.take(':') {
			return errMalformed
		}
		if err := field(name, escaped); err != nil {
			return err
		}
		if p.take(',') {
			continue
		}
		if p.take('}') {
			return nil
		}
		return errMalformed
	}
}

// array calls element with the scanner at each element, which element must
// pass over.
func (p *scanner) array(element func() error) error {
	if !p.take('[') {
		return errMalformed
	}
	if p.take(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if p.take(',') {
			continue
		}
		if p.take(']') {
			return nil
		}
		return errMalformed
	}
}

// null passes over a null, if that is what stands here.
func (p *scanner) null() bool {
	if p.peek() != 'n' || p.literal("null") != nil {
		return false
	}
	return true
}

// text reads a string or null ("").
func (p *scanner) text() (string, error) {
	if p.null() {
		return "", nil
	}
	raw, escaped, err := p.str()
	if err != nil || !escaped {
		return raw, err
	}
	return unescape(raw), nil
}

// float reads a finite number; ok is false for null.
func (p *scanner) float() (v float64, ok bool, err error) {
	if p.null() {
		return 0, false, nil
	}
	if c := p.peek(); c != '-' && !isDigit(c) {
		return 0, false, errMalformed
	}
	text, err := p.number()
	if err != nil {
		return 0, false, err
	}
	if len(text) < 16 && isPlainInteger(text) { // the common case, without strconv
		var n int64
		for i := range len(text) {
			n = n*10 + int64(text[i]-'0')
		}
		return float64(n), true, nil
	}
	v, err = strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, false, errMalformed
	}
	return v, true, nil
}

func isPlainInteger(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// boolean reads true or false; null is false.
func (p *scanner) boolean() (bool, error) {
	switch p.peek() {
	case 't':
		return true, p.literal("true")
	case 'f':
		return false, p.literal("false")
	case 'n':
		return false, p.literal("null")
	}
	return false, errMalformed
}

// raw returns the text of one value of any kind; "" for null.
func (p *scanner) raw() (string, error) {
	p.space()
	start := p.i
	if err := p.skip(); err != nil {
		return "", err
	}
	if text := p.s[start:p.i]; text != "null" {
		return text, nil
	}
	return "", nil
}

// unescape resolves the escapes of a string that str has checked.
func unescape(raw string) string {
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b.WriteByte(raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r := hexRune(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if strings.HasPrefix(raw[i+1:], `\u`) {
					if pair := utf16.DecodeRune(r, hexRune(raw[i+3:])); pair != utf8.RuneError {
						r = pair
						i += 6
					} else {
						r = utf8.RuneError
					}
				} else {
					r = utf8.RuneError
				}
			}
			b.WriteRune(r)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func hexRune(s string) rune {
	var r rune
	for _, c := range []byte(s[:4]) {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		case c >= 'a':
			r |= rune(c-'a') + 10
		default:
			r |= rune(c-'A') + 10
		}
	}
	return r
}

// maxMillis is the largest distance from the epoch that counts as a time, the
// bound of JavaScript's Date.
const maxMillis = 8.64e15

// parseTimestamp reads the text of a timestamp key: epoch milliseconds as a
// decimal string, and nothing else.
func parseTimestamp(s string) (int64, bool) {
	if len(s) > 16 || !isPlainInteger(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n <= maxMillis
}
