package queue

import (
	"bytes"
	"crypto/md5" //nolint:gosec // it is what the queue sends
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/bits"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// checkBody takes a message's body away when its sum is not the checksum that
// came with it: what it says is not what was sent.
func checkBody(m *types.Message, sum [md5.Size]byte) {
	if m.MD5OfBody != nil && *m.MD5OfBody != hex.EncodeToString(sum[:]) {
		m.Body = nil
	}
}

// envelope reads the answer to ReceiveMessage: JSON of which most is the
// bodies, which are JSON themselves, so that every few bytes there is an
// escape. Each body is copied once. Only the fields that the service asks for
// are kept: the attributes that senders give are skipped.
//
// The first thing that is not as it should be makes bad true, and nothing is
// read after it.
type envelope struct {
	data    []byte
	at      int
	bad     bool
	scratch []byte // what the last text means
}

// maxDepth is how deep values may be nested; encoding/json allows as much.
const maxDepth = 10000

// read returns the messages, those whose body was damaged without it. It reports
// false if the answer cannot be read.
func (e *envelope) read() (messages []types.Message, ok bool) {
	for more := e.enter('{', '}'); more; more = e.next('}') {
		if string(e.name()) != "Messages" {
			e.skip(1)
			continue
		}
		messages = nil
		if e.null() {
			continue
		}
		messages = []types.Message{}
		for more := e.enter('[', ']'); more; more = e.next(']') {
			messages = append(messages, e.message())
		}
	}
	if e.peek() != 0 || e.at != len(e.data) || e.bad {
		return nil, false
	}
	return messages, true
}

func (e *envelope) message() (m types.Message) {
	if e.null() {
		return m
	}
	var sum [md5.Size]byte
	for more := e.enter('{', '}'); more; more = e.next('}') {
		switch string(e.name()) {
		case "MessageId":
			m.MessageId = e.optional()
		case "ReceiptHandle":
			m.ReceiptHandle = e.optional()
		case "MD5OfBody":
			m.MD5OfBody = e.optional()
		case "Body":
			m.Body = e.optional()
			sum = md5.Sum(e.scratch) //nolint:gosec // guards against damage, not against malice
		case "Attributes":
			m.Attributes = e.attributes()
		default:
			e.skip(1)
		}
	}
	if m.Body != nil {
		checkBody(&m, sum)
	}
	return m
}

func (e *envelope) attributes() map[string]string {
	if e.null() {
		return nil
	}
	attributes := map[string]string{}
	for more := e.enter('{', '}'); more; more = e.next('}') {
		name := string(e.name())
		attributes[name] = e.string()
	}
	return attributes
}

// optional reads a string; nil for null.
func (e *envelope) optional() *string {
	if e.null() {
		return nil
	}
	text := e.string()
	return &text
}

func (e *envelope) string() string { return string(e.text()) }

// name reads the name of a field. It is good until the next text is read.
func (e *envelope) name() []byte {
	name := e.text()
	e.take(':')
	return name
}

// peek skips space and returns the byte after it; 0 at the end.
func (e *envelope) peek() byte {
	for ; e.at < len(e.data); e.at++ {
		switch c := e.data[e.at]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

func (e *envelope) fail() {
	e.bad = true
	e.at = len(e.data)
}

// take skips a byte that has to come.
func (e *envelope) take(c byte) {
	if e.peek() != c {
		e.fail()
		return
	}
	e.at++
}

// enter begins an object or a list, and reports whether there is anything in
// it.
func (e *envelope) enter(opening, closing byte) bool {
	e.take(opening)
	if e.peek() == closing {
		e.at++
		return false
	}
	return !e.bad
}

// next goes on to the next field or element, and reports whether there is one.
func (e *envelope) next(closing byte) bool {
	switch e.peek() {
	case ',':
		e.at++
		return true
	case closing:
		e.at++
	default:
		e.fail()
	}
	return false
}

// null skips null if it comes.
func (e *envelope) null() bool {
	if e.peek() != 'n' || !bytes.HasPrefix(e.data[e.at:], []byte("null")) {
		return false
	}
	e.at += len("null")
	return true
}

// skip skips a value.
func (e *envelope) skip(depth int) {
	switch c := e.peek(); c {
	case '"':
		e.text()
	case '{', '[':
		if depth > maxDepth {
			e.fail()
			return
		}
		closing := c + 2 // in ASCII
		for more := e.enter(c, closing); more; more = e.next(closing) {
			if c == '{' {
				e.name()
			}
			e.skip(depth + 1)
		}
	default:
		from := e.at
		for e.at < len(e.data) && bytes.IndexByte([]byte(",]} \n\t\r"), e.data[e.at]) < 0 {
			e.at++
		}
		if !json.Valid(e.data[from:e.at]) {
			e.fail()
		}
	}
}

// text reads a string and returns what it means. It is good until the next
// text is read. Bytes that are not UTF-8 stay as they are, so that a body is
// compared with its checksum as it was sent.
func (e *envelope) text() []byte {
	e.take('"')
	e.scratch = e.scratch[:0]
	if e.bad {
		return nil
	}
	const excess = 8
	from, to := e.data[e.at:], e.scratch
	i := 0
	for {
		if len(to)+excess+utf8.UTFMax > cap(to) {
			to = append(make([]byte, 0, 2*cap(to)+4<<10), to...)
		}
		// Eight bytes at a time are copied; as many of them count as are plain.
		if len(from)-i >= excess {
			word := binary.LittleEndian.Uint64(from[i:])
			n := len(to)
			binary.LittleEndian.PutUint64(to[n:n+excess], word)
			plain := bits.TrailingZeros64(special(word)) / 8
			to = to[:n+plain]
			i += plain
			if plain == excess {
				continue
			}
		} else if i == len(from) {
			e.fail()
			return nil
		}
		c := from[i]
		switch {
		case c == '"':
			e.at += i + 1
			e.scratch = to
			return to
		case c == '\\' && i+1 < len(from) && plainEscapes[from[i+1]] != 0:
			to = append(to, plainEscapes[from[i+1]])
			i += len(`\"`)
		case c == '\\':
			var n int
			if to, n = unescape(to, from[i:]); n == 0 {
				e.fail()
				return nil
			}
			i += n
		case c < ' ':
			e.fail()
			return nil
		default:
			to = append(to, c)
			i++
		}
	}
}

// special marks, by its highest bit, each byte of a word that is not an
// ordinary character of a string. A byte above one that is marked may be
// marked without being special.
func special(word uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, escape := word^ones*'"', word^ones*'\\'
	return ((word-ones*' ')&^word | (quote-ones)&^quote | (escape-ones)&^escape) & highs
}

// plainEscapes are what the escapes of one character mean.
var plainEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape appends what the escape \uXXXX, or two of them, at the beginning of
// s mean, and returns their length; 0 if there is none.
func unescape(to, s []byte) ([]byte, int) {
	first, ok := unit(s)
	if !ok {
		return to, 0
	}
	const half = 6 // the length of \uXXXX
	switch {
	case first < surrogates || first > lastSurrogate:
		return utf8.AppendRune(to, first), half
	case first < lowSurrogates:
		if second, ok := unit(s[half:]); ok && second >= lowSurrogates && second <= lastSurrogate {
			return utf8.AppendRune(to, 0x10000+(first-surrogates)<<10+(second-lowSurrogates)), 2 * half
		}
	}
	return utf8.AppendRune(to, utf8.RuneError), half // half of a pair
}

const (
	surrogates    = 0xd800
	lowSurrogates = 0xdc00
	lastSurrogate = 0xdfff
)

// unit reads the escape \uXXXX.
func unit(s []byte) (rune, bool) {
	var two [2]byte
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	if _, err := hex.Decode(two[:], s[2:6]); err != nil {
		return 0, false
	}
	return rune(binary.BigEndian.Uint16(two[:])), true
}
