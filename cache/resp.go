package cache

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// This is as much of RESP3 as a connection needs that listens to pushes and
// sends a handful of commands.

// respPush is a message that the server sends unasked.
type respPush []any

// respError is an error that the server replies with.
type respError string

func (e respError) Error() string { return string(e) }

var errProtocol = errors.New("unexpected data from redis")

// What is larger ends the connection, after which everything is revalidated:
// that is cheaper than hearing of that many changes.
const (
	maxRespText  = 1 << 20 // bytes of a text, 1 MiB: names of keys and errors
	maxRespItems = 1 << 16 // elements of an aggregate
	maxRespDepth = 8
)

// readResp reads one reply or push. A null is nil; numbers, booleans and the
// like, which nobody here asks for, come as their text.
func readResp(r *bufio.Reader) (any, error) { return readRespAt(r, 0) }

// readReply reads one reply, passing over pushes.
func readReply(r *bufio.Reader) (any, error) {
	for {
		message, err := readResp(r)
		if _, push := message.(respPush); !push {
			return message, err
		}
	}
}

func readRespAt(r *bufio.Reader, depth int) (any, error) {
	if depth > maxRespDepth {
		return nil, errProtocol
	}
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	kind, text := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+', ':', ',', '#', '(':
		return text, nil
	case '-':
		return respError(text), nil
	case '_':
		return nil, nil
	case '$', '=', '!':
		return readRespText(r, kind, text)
	case '*', '~', '>':
		return readRespList(r, kind, text, 1, depth)
	case '%', '|':
		return readRespList(r, kind, text, 2, depth)
	}
	return nil, errProtocol
}

func readRespText(r *bufio.Reader, kind byte, size string) (any, error) {
	n, err := strconv.Atoi(size)
	if err != nil || n > maxRespText {
		return nil, errProtocol
	}
	if n < 0 {
		return nil, nil
	}
	text := make([]byte, n+2)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	if text[n] != '\r' || text[n+1] != '\n' {
		return nil, errProtocol
	}
	if kind == '!' {
		return respError(text[:n]), nil
	}
	return string(text[:n]), nil
}

func readRespList(r *bufio.Reader, kind byte, size string, each, depth int) (any, error) {
	n, err := strconv.Atoi(size)
	if err != nil || n > maxRespItems {
		return nil, errProtocol
	}
	if n < 0 {
		return nil, nil
	}
	items := make([]any, 0, min(n*each, 64))
	for range n * each {
		item, err := readRespAt(r, depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	switch kind {
	case '>':
		return respPush(items), nil
	case '|': // attributes of the reply that follows
		return readRespAt(r, depth+1)
	}
	return items, nil
}

// appendCommand appends a command to b.
func appendCommand(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}
