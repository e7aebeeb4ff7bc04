// Package config is the configuration of the persistent-cache-service: the
// environment variables that it reads, their defaults and their checks.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Config is the configuration. Each field's tags name its variable, its
// default and what it means.
type Config struct {
	AWSRegion string `env:"AWS_REGION,required" help:"region of the queue"`
	QueueURL  string `env:"QUEUE_URL,required" help:"URL of the SQS queue to consume"`
	APIKey    Secret `env:"SERVER_API_KEY,required" help:"full access key of the environment"`

	EnvironmentPrefix string `env:"ENVIRONMENT_PREFIX" envDefault:"production" help:"prefix of all keys in Redis; must equal the SDK's (also read from REDIS_ENVIRONMENT_PREFIX)"`
	RedisHost         string `env:"REDIS_HOST" envDefault:"localhost" help:"host of Redis"`
	RedisPort         int    `env:"REDIS_PORT" envDefault:"6379" help:"port of Redis"`
	RedisDB           int    `env:"REDIS_DB" envDefault:"0" help:"number of the database in Redis"`
	RedisUsername     string `env:"REDIS_USERNAME" help:"user of Redis (also read from REDIS_USER)"`
	RedisPassword     Secret `env:"REDIS_PASSWORD" help:"password of Redis"`
	RedisTLS          bool   `env:"REDIS_TLS" envDefault:"0" help:"speak TLS to Redis: 0, 1, true or false; SSL_CERT_FILE names the certificates of a private authority"`

	BatchSize         int    `env:"BATCH_SIZE" envDefault:"1" help:"messages per receive, 1 to 10"`
	KeysTTLSeconds    int64  `env:"KEYS_TTL_IN_SECS" envDefault:"604800" help:"life of the keys in Redis in seconds; negative: no expiry"`
	CacheUpdatePolicy string `env:"CACHE_UPDATE_POLICY" envDefault:"UPDATE_IF_EXISTS" help:"UPSERT, or UPDATE_IF_EXISTS: only customers that are cached already"`
	LockRetryCount    int    `env:"CACHE_LOCK_RETRY_COUNT" envDefault:"20" help:"tries for a customer's lock, about 100 ms apart, before the message is set aside for a moment"`

	EdgeAPIURL    string `env:"EDGE_API_URL" envDefault:"https://edge.api.stigg.io" help:"base of the Edge API, without a path"`
	SentryDSN     Secret `env:"SENTRY_DSN" help:"where to report errors (default: from the remote configuration)"`
	DisableSentry bool   `env:"DISABLE_SENTRY" envDefault:"0" help:"report no errors: 0, 1, true or false"`
	Port          int    `env:"PORT" envDefault:"4000" help:"port of the HTTP server"`

	LogLevel      string `env:"LOG_LEVEL" envDefault:"info" help:"error, warn, info or debug"`
	LogMessageKey string `env:"LOG_MESSAGE_KEY" envDefault:"msg" help:"name of the message in a log line"`
	LogErrorKey   string `env:"LOG_ERROR_KEY" envDefault:"err" help:"name of the error in a log line"`

	Consumers                int    `env:"CONSUMERS" envDefault:"10" help:"receives under way at the same time, 1 to 100"`
	ReceiveWaitSeconds       int    `env:"RECEIVE_WAIT_IN_SECS" envDefault:"10" help:"how long a receive waits for messages, 0 to 20; also how long an idle service takes to stop"`
	VisibilityTimeoutSeconds int    `env:"VISIBILITY_TIMEOUT_IN_SECS" envDefault:"60" help:"how long a received message is hidden from others, 3 to 43200; extended while it is worked on"`
	RefetchesPerMinute       int    `env:"REFETCHES_PER_MINUTE" envDefault:"4800" help:"requests for customers to the Edge API that all instances on one Redis may make in a minute"`
	EnvironmentID            string `env:"ENVIRONMENT_ID" help:"id of the environment; messages that name another are refused (default: from the remote configuration, else not checked)"`
}

// aliases are other names of variables, found in older documentation and in
// the public Helm chart.
var aliases = [...][2]string{
	{"REDIS_ENVIRONMENT_PREFIX", "ENVIRONMENT_PREFIX"},
	{"REDIS_USER", "REDIS_USERNAME"},
}

// The policies of CACHE_UPDATE_POLICY.
const (
	Upsert         = "UPSERT"
	UpdateIfExists = "UPDATE_IF_EXISTS"
)

// Load reads the configuration from environ, which has the form of
// os.Environ. A variable that is set to nothing counts as not set. The error
// names every variable that is wrong, and no secret.
func Load(environ []string) (Config, error) {
	variables := env.ToMap(environ)
	for name, value := range variables {
		if value == "" {
			delete(variables, name)
		}
	}
	var problems []error
	for _, alias := range aliases {
		other, name := alias[0], alias[1]
		value, ok := variables[other]
		if !ok {
			continue
		}
		if given, both := variables[name]; both && given != value {
			problems = append(problems, fmt.Errorf("%s and %s: are set to different values", name, other))
			continue
		}
		variables[name] = value
	}

	var c Config
	err := env.ParseWithOptions(&c, env.Options{Environment: variables})
	wrong := parseErrors(err)
	problems = append(problems, wrong.problems...)
	c.check(func(name, format string, args ...any) {
		if !wrong.names[name] {
			problems = append(problems, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
		}
	})
	if len(problems) > 0 {
		return Config{}, fmt.Errorf("configuration:\n%w", errors.Join(problems...))
	}
	return c, nil
}

type parseProblems struct {
	problems []error
	names    map[string]bool
}

// parseErrors turns the parser's errors, which name fields, into ones that
// name variables.
func parseErrors(err error) parseProblems {
	p := parseProblems{names: map[string]bool{}}
	if err == nil {
		return p
	}
	add := func(name, problem string) {
		p.names[name] = true
		p.problems = append(p.problems, fmt.Errorf("%s: %s", name, problem))
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		all.Errors = []error{err}
	}
	for _, e := range all.Errors {
		var missing env.VarIsNotSetError
		var unparsed env.ParseError
		switch {
		case errors.As(e, &missing):
			add(missing.Key, "is required")
		case errors.As(e, &unparsed):
			add(variableOf(unparsed.Name), "is not a "+kindName(unparsed.Type))
		default:
			p.problems = append(p.problems, e)
		}
	}
	return p
}

func variableOf(field string) string {
	f, ok := reflect.TypeFor[Config]().FieldByName(field)
	if !ok {
		return field
	}
	name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
	return name
}

func kindName(t reflect.Type) string {
	if t.Kind() == reflect.Bool {
		return "boolean (0, 1, true or false)"
	}
	return "whole number"
}

func (c *Config) check(wrong func(name, format string, args ...any)) {
	between := func(name string, value, low, high int) {
		if value < low || value > high {
			wrong(name, "%d is not between %d and %d", value, low, high)
		}
	}
	between("REDIS_PORT", c.RedisPort, 1, 65535)
	between("PORT", c.Port, 1, 65535)
	between("BATCH_SIZE", c.BatchSize, 1, 10)
	between("CONSUMERS", c.Consumers, 1, 100)
	between("RECEIVE_WAIT_IN_SECS", c.ReceiveWaitSeconds, 0, 20)
	between("VISIBILITY_TIMEOUT_IN_SECS", c.VisibilityTimeoutSeconds, 3, 43200)
	between("REFETCHES_PER_MINUTE", c.RefetchesPerMinute, 1, 1_000_000)
	between("CACHE_LOCK_RETRY_COUNT", c.LockRetryCount, 1, 10_000)
	if c.RedisHost != "" && !isHost(c.RedisHost) {
		wrong("REDIS_HOST", "must be a host name or an address, without scheme, login and port")
	}
	if c.RedisDB < 0 {
		wrong("REDIS_DB", "must not be negative")
	}
	if c.KeysTTLSeconds == 0 || c.KeysTTLSeconds > maxTTLSeconds {
		wrong("KEYS_TTL_IN_SECS", "must be negative (no expiry) or between 1 and %d", maxTTLSeconds)
	}
	if c.CacheUpdatePolicy != Upsert && c.CacheUpdatePolicy != UpdateIfExists {
		wrong("CACHE_UPDATE_POLICY", "must be %s or %s", Upsert, UpdateIfExists)
	}
	if _, ok := levels[c.LogLevel]; !ok {
		wrong("LOG_LEVEL", "must be error, warn, info or debug")
	}
	switch {
	case takenLogKeys[c.LogErrorKey]:
		wrong("LOG_ERROR_KEY", "must be neither time nor level")
	case c.LogMessageKey == c.LogErrorKey:
		wrong("LOG_ERROR_KEY", "must differ from LOG_MESSAGE_KEY")
	}
	if takenLogKeys[c.LogMessageKey] {
		wrong("LOG_MESSAGE_KEY", "must be neither time nor level")
	}
	if strings.ContainsFunc(string(c.APIKey), func(r rune) bool { return r <= ' ' || r > '~' }) {
		wrong("SERVER_API_KEY", "contains a character that no key has")
	}
	if c.QueueURL != "" {
		u, err := url.Parse(c.QueueURL)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") == "":
			wrong("QUEUE_URL", "must be the URL of a queue, such as https://sqs.us-east-1.amazonaws.com/123456789012/name")
		case u.User != nil:
			wrong("QUEUE_URL", "must not contain a login")
		}
	}
	u, err := url.Parse(c.EdgeAPIURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		wrong("EDGE_API_URL", "must be a base such as https://edge.api.stigg.io")
	case u.User != nil:
		wrong("EDGE_API_URL", "must not contain a login")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		wrong("EDGE_API_URL", "must be a base without a path")
	}
	if c.SentryDSN != "" && !c.DisableSentry {
		if u, err := url.Parse(string(c.SentryDSN)); err != nil || u.Host == "" || u.User == nil {
			wrong("SENTRY_DSN", "is not a DSN")
		}
	}
}

// isHost tells a host from a URL, which can hold a password, and from a host
// with a port.
func isHost(s string) bool {
	if strings.Contains(s, ":") {
		_, err := netip.ParseAddr(s)
		return err == nil
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune("/@?#", r) })
}

// maxTTLSeconds is a hundred years: far beyond it Redis refuses an expiry.
const maxTTLSeconds = 100 * 365 * 24 * 3600

var levels = map[string]slog.Level{
	"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug,
}

// takenLogKeys are the names that every log line has for something else.
var takenLogKeys = map[string]bool{slog.TimeKey: true, slog.LevelKey: true}

// Level is the log level that LOG_LEVEL names.
func (c *Config) Level() slog.Level { return levels[c.LogLevel] }

// KeysTTL is the life of keys in Redis; negative: no expiry.
func (c *Config) KeysTTL() time.Duration {
	if c.KeysTTLSeconds < 0 {
		return -1
	}
	return time.Duration(c.KeysTTLSeconds) * time.Second
}

// ReceiveWait is how long a receive waits for messages.
func (c *Config) ReceiveWait() time.Duration {
	return time.Duration(c.ReceiveWaitSeconds) * time.Second
}

// VisibilityTimeout is how long a received message is hidden from others.
func (c *Config) VisibilityTimeout() time.Duration {
	return time.Duration(c.VisibilityTimeoutSeconds) * time.Second
}

// Port reads only the port of the HTTP server.
func Port(environ []string) (int, error) {
	text := env.ToMap(environ)["PORT"]
	if text == "" {
		return defaultPort, nil
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return 0, errors.New("PORT: is not a port")
	}
	return port, nil
}

const defaultPort = 4000
