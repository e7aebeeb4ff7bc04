package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Command is one command as the server carried it out.
type Command struct {
	// At is the server's time of the command, to the microsecond.
	At time.Time
	// DB is the number of the database that the command ran in.
	DB int
	// Client is the "host:port" that the command came from; empty for a
	// command that a Lua script ran.
	Client string
	// Lua tells that a Lua script ran the command.
	Lua bool
	// Args are the command's name and arguments, byte for byte.
	Args []string
}

// Name returns the command's name in upper case.
func (c Command) Name() string {
	if len(c.Args) == 0 {
		return ""
	}
	return strings.ToUpper(c.Args[0])
}

// String returns the command as one line, for messages of failed tests.
func (c Command) String() string {
	quoted := make([]string, len(c.Args))
	for i, a := range c.Args {
		quoted[i] = strconv.Quote(a)
	}
	from := c.Client
	if c.Lua {
		from = "lua"
	}
	return from + " " + strings.Join(quoted, " ")
}

// Handshake tells whether client libraries send the command on their own, to
// set up or check a connection, or to learn about the server.
func (c Command) Handshake() bool {
	switch c.Name() {
	case "HELLO", "AUTH", "CLIENT", "SELECT", "PING", "READONLY", "COMMAND", "CLUSTER":
		return true
	}
	return false
}

// parseCommand reads a line of MONITOR's output, which looks like
//
//	1700000000.123456 [0 127.0.0.1:50000] "get" "key"
//
// where "lua" stands in the place of the address of a script's commands.
func parseCommand(line string) (Command, error) {
	wrong := func(what string) (Command, error) {
		return Command{}, fmt.Errorf("monitor line without %s: %q", what, line)
	}
	stamp, rest, ok := strings.Cut(line, " [")
	if !ok {
		return wrong("source")
	}
	secs, micros, ok := strings.Cut(stamp, ".")
	s, err1 := strconv.ParseInt(secs, 10, 64)
	us, err2 := strconv.ParseInt(micros, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return wrong("time")
	}
	source, rest, ok := strings.Cut(rest, "] ")
	if !ok {
		return wrong("source")
	}
	db, from, ok := strings.Cut(source, " ")
	n, err := strconv.Atoi(db)
	if !ok || err != nil {
		return wrong("database")
	}
	c := Command{At: time.UnixMicro(s*1_000_000 + us), DB: n}
	if from == "lua" {
		c.Lua = true
	} else {
		c.Client = from
	}
	for rest != "" {
		// The server's escapes are a subset of Go's.
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return wrong("well-formed arguments")
		}
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return wrong("well-formed arguments")
		}
		c.Args = append(c.Args, arg)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	if len(c.Args) == 0 {
		return wrong("command")
	}
	return c, nil
}
