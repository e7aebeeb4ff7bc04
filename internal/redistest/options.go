package redistest

import "strings"

// Option changes how [Start] runs a server.
type Option func(*settings)

// settings is what the options of one server add up to.
type settings struct {
	conf     []string // lines of redis.conf
	args     []string // appended to the command line
	username string
	password string
	tls      bool
	sentinel bool
}

// RequirePass makes the server ask for a password, as the default user.
// Clients made by [Server.Client] use it.
func RequirePass(password string) Option {
	return func(s *settings) {
		s.password = password
		s.conf = append(s.conf, "requirepass "+quote(password))
	}
}

// User adds an ACL user and switches the default user off, so that a client
// without these credentials is refused. Rules are ACL rules such as "~app:*"
// or "-keys"; none means that the user may do everything. Clients made by
// [Server.Client] log in as this user.
func User(name, password string, rules ...string) Option {
	if len(rules) == 0 {
		rules = []string{"~*", "&*", "+@all"}
	}
	return func(s *settings) {
		s.username, s.password = name, password
		s.conf = append(s.conf,
			"user default off",
			"user "+name+" on "+quote(">"+password)+" "+strings.Join(rules, " "))
	}
}

// TLS makes the server speak only TLS, with a certificate for 127.0.0.1 and
// localhost that a CA of its own has signed. [Server.TLSConfig] trusts it.
func TLS() Option {
	return func(s *settings) { s.tls = true }
}

// AOF makes the server keep its data in an append-only file that is synced on
// every write, so that data outlives [Server.Restart] and [Server.Kill].
func AOF() Option {
	return func(s *settings) {
		s.conf = append(s.conf, "appendonly yes", "appendfsync always")
	}
}

// Args appends arguments to the server's command line, for example
// "--maxmemory", "1mb" or "--replicaof", "127.0.0.1 6379".
func Args(args ...string) Option {
	return func(s *settings) { s.args = append(s.args, args...) }
}

// conf adds lines to the server's redis.conf.
func conf(lines ...string) Option {
	return func(s *settings) { s.conf = append(s.conf, lines...) }
}

// asSentinel runs the server as a Sentinel.
func asSentinel() Option {
	return func(s *settings) { s.sentinel = true }
}

// quote writes a value the way redis.conf wants those with spaces or quotes.
func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}
