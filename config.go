package stigg

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Config configures a Client. Only APIKey is required; the zero value of every
// other field is the default that its comment names.
type Config struct {
	// APIKey is the full access (server) key of the environment. Required,
	// unless Offline.
	APIKey string

	// Redis is the persistent cache that is shared with Stigg's other
	// programs. Nil: no Redis; without LRU too, every check asks the API.
	Redis *RedisConfig

	// LRU keeps what was read in this process too. Nil: nothing is kept.
	LRU *LRUConfig

	// APIURL is the base of the GraphQL API, without a path. Default
	// https://api.stigg.io.
	APIURL string
	// EdgeURL is the base of the Edge API, without a path. Default
	// https://edge.api.stigg.io; if just APIURL is set, its host with "edge."
	// in front.
	EdgeURL string
	// DisableEdge sends every read to the GraphQL API.
	DisableEdge bool
	// HTTPClient makes the requests to both APIs. Default: a client of its
	// own that keeps connections alive. Redirects are never followed.
	HTTPClient *http.Client

	// Timeout bounds a call to the API that is not a refetch of entitlements.
	// Default 10 s.
	Timeout time.Duration
	// EntitlementsTimeout bounds a whole refetch of entitlements, with all its
	// tries at the Edge API and at GraphQL. Default 10 s. A caller's context
	// can end its wait earlier.
	EntitlementsTimeout time.Duration

	// EntitlementsFallback are the answers for features, by feature id, when no
	// source can be reached and the call brings no fallback of its own.
	EntitlementsFallback map[string]EntitlementFallback
	// CreditEntitlementsFallback are the same for credits, by currency id.
	CreditEntitlementsFallback map[string]CreditFallback

	// Offline makes no calls at all: every answer is a fallback.
	Offline bool

	// Logger is told of changes: Redis lost and back, the API lost and back, a
	// value that cannot be read. Default slog.Default().
	Logger *slog.Logger

	// Observer is told of everything that happens, for metrics and traces; nil
	// costs nothing. See Event.
	Observer func(Event)
}

// RedisConfig says how to reach the persistent cache.
type RedisConfig struct {
	// Host and Port name one server. Default localhost and 6379.
	Host string
	Port int
	// DB is the number of the database. Default 0.
	DB int
	// Username and Password log in; empty: no login.
	Username string
	Password string
	// TLS turns on TLS. Default: plain TCP.
	TLS *tls.Config

	// Addrs are the nodes of a Redis Cluster, host:port; or, with MasterName,
	// the sentinels. They stand in place of Host and Port.
	Addrs []string
	// MasterName is the name of the primary that the sentinels in Addrs watch.
	MasterName string

	// Client is a client that the program already has. It stands in place of
	// everything above, and Client.Close leaves it open. Set its
	// ContextTimeoutEnabled, and a DialTimeout and PoolTimeout of at most
	// Timeout: else every read needs a goroutine of its own to keep to Timeout,
	// and against a silent Redis those goroutines, and a write that is under way
	// at Close, last as long as the client's own timeouts. With DialerRetries 1
	// the log says why it cannot connect.
	//
	// With LRU, Redis tells of changes on a connection of the SDK's own, with
	// the client's address, TLS and login, but not its OnConnect. Where that
	// cannot log in, what is in memory is revalidated. So it is after the primary
	// has moved to another server behind the same name, until the client's
	// ConnMaxLifetime has passed; without one, for good.
	Client redis.UniversalClient

	// EnvironmentPrefix is what all keys begin with. Required: it must equal
	// the prefix that the other programs use.
	EnvironmentPrefix string
	// TTL is how long a key lives that is not written again. Default 7 days;
	// negative: no expiry.
	TTL time.Duration
	// Timeout bounds the wait for Redis in one check; then the API is asked.
	// Default 100 ms. Up to 150 ms, a context that is canceled during that wait
	// is noticed at its end; its deadline is always heeded.
	Timeout time.Duration
	// OutageTTL is how long a live answer is used again when Redis does not
	// take it, so that an outage of Redis does not become a request to the API
	// for every check. Default 5 s; negative: not at all.
	OutageTTL time.Duration
	// DisableDistributedFetch makes every process fetch for itself. Default:
	// of all processes that share the Redis one fetches a customer, and the
	// others wait for it.
	DisableDistributedFetch bool
}

// LRUConfig says how to keep what was read in this process.
//
// In front of Redis an entry is as good as a read: Redis tells of every change
// (Redis 6 or later, one server or Sentinel), and where it does not, entries
// are revalidated in one small round trip. Without Redis, entries live for TTL
// and are fetched anew beside the calls before they end.
type LRUConfig struct {
	// MaxEntries is how many entitlements are kept. Required, more than 0.
	// Without Redis, a customer that has more than that is kept alone.
	MaxEntries int
	// TTL is the longest that an entry is used. Default: no limit with Redis,
	// 30 s without.
	TTL time.Duration
	// MaxStale is how long an entry is still used, marked as stale, when
	// neither Redis nor the API can be reached; counted from when it was last
	// confirmed. Default 5 min; negative: not at all.
	MaxStale time.Duration
	// Revalidate asks Redis on every check whether the entry has changed, in
	// one round trip whose cost does not grow with the number of entitlements,
	// instead of relying on being told. GetEntitlements reads everything then.
	Revalidate bool
}

const (
	defaultMemoryTTL    = 30 * time.Second
	defaultMaxStale     = 5 * time.Minute
	defaultAPIURL       = "https://api.stigg.io"
	defaultEdgeURL      = "https://edge.api.stigg.io"
	defaultTimeout      = 10 * time.Second
	defaultRedisTimeout = 100 * time.Millisecond
	defaultOutageTTL    = 5 * time.Second
	maxIDLength         = 255
)

// withDefaults returns the configuration with every default filled in, or an
// error that names every field that is wrong.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.APIKey == "" && !c.Offline {
		wrong("APIKey", "is required")
	}
	if strings.ContainsFunc(c.APIKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		wrong("APIKey", "contains a character that no key has")
	}
	ownEdgeURL := c.EdgeURL != ""
	c.APIURL, c.EdgeURL = defaultURLs(c.APIURL, c.EdgeURL)
	checkBaseURL("APIURL", c.APIURL, wrong)
	if ownEdgeURL { // else it is made of APIURL, with whatever is wrong there
		checkBaseURL("EdgeURL", c.EdgeURL, wrong)
	}
	defaultDuration(&c.Timeout, defaultTimeout, "Timeout", wrong)
	defaultDuration(&c.EntitlementsTimeout, defaultTimeout, "EntitlementsTimeout", wrong)
	for id, fb := range c.EntitlementsFallback {
		if problem := idProblem(id); problem != "" {
			wrong("EntitlementsFallback", "feature id %q %s", id, problem)
		}
		if !finite(fb.UsageLimit) || !finite(fb.Value) {
			wrong("EntitlementsFallback", "%q has a number that is not finite", id)
		}
	}
	for id, fb := range c.CreditEntitlementsFallback {
		if problem := idProblem(id); problem != "" {
			wrong("CreditEntitlementsFallback", "currency id %q %s", id, problem)
		}
		if !finite(&fb.UsageLimit) || !finite(&fb.CurrentUsage) {
			wrong("CreditEntitlementsFallback", "%q has a number that is not finite", id)
		}
	}
	// The maps stay the caller's, who may change them.
	c.EntitlementsFallback = maps.Clone(c.EntitlementsFallback)
	c.CreditEntitlementsFallback = maps.Clone(c.CreditEntitlementsFallback)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Redis != nil {
		r := c.Redis.withDefaults(wrong)
		c.Redis = &r
	}
	if c.LRU != nil {
		l := c.LRU.withDefaults(c.Redis != nil, wrong)
		c.LRU = &l
	}
	if len(errs) > 0 {
		return c, fmt.Errorf("stigg: %w:\n%w", ErrInvalidConfig, errors.Join(errs...))
	}
	return c, nil
}

func (r RedisConfig) withDefaults(wrong func(field, format string, args ...any)) RedisConfig {
	if r.EnvironmentPrefix == "" {
		wrong("Redis.EnvironmentPrefix", "is required; it must equal the prefix of the other programs that share the cache")
	}
	if r.Client != nil {
		if client := reflect.ValueOf(r.Client); client.Kind() == reflect.Pointer && client.IsNil() {
			wrong("Redis.Client", "is a nil pointer")
		}
		if r.Host != "" || r.Port != 0 || r.DB != 0 || r.Username != "" || r.Password != "" || r.TLS != nil || len(r.Addrs) > 0 || r.MasterName != "" {
			wrong("Redis.Client", "stands in place of Host, Port, DB, Username, Password, TLS, Addrs and MasterName; set one or the other")
		}
	} else {
		r.checkAddress(wrong)
	}
	if r.DB < 0 {
		wrong("Redis.DB", "must not be negative")
	}
	defaultDuration(&r.Timeout, defaultRedisTimeout, "Redis.Timeout", wrong)
	if r.OutageTTL == 0 {
		r.OutageTTL = defaultOutageTTL
	}
	return r
}

func (l LRUConfig) withDefaults(redis bool, wrong func(field, format string, args ...any)) LRUConfig {
	if l.MaxEntries <= 0 {
		wrong("LRU.MaxEntries", "must be more than 0")
	}
	if l.TTL < 0 {
		wrong("LRU.TTL", "must not be negative")
	}
	if l.TTL == 0 && !redis {
		l.TTL = defaultMemoryTTL
	}
	if l.Revalidate && !redis {
		wrong("LRU.Revalidate", "needs Redis")
	}
	switch {
	case l.MaxStale == 0:
		l.MaxStale = defaultMaxStale
	case l.MaxStale < 0:
		l.MaxStale = 0
	}
	return l
}

func (r *RedisConfig) checkAddress(wrong func(field, format string, args ...any)) {
	switch {
	case len(r.Addrs) > 0 && (r.Host != "" || r.Port != 0):
		wrong("Redis.Addrs", "stands in place of Host and Port; set one or the other")
	case r.MasterName != "" && len(r.Addrs) == 0:
		wrong("Redis.Addrs", "must name the sentinels that watch MasterName")
	case len(r.Addrs) > 0 && r.MasterName == "" && r.DB != 0:
		wrong("Redis.DB", "must be 0 on a Redis Cluster")
	}
	for i, addr := range r.Addrs { // addresses are not repeated: a URL has the password in it
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			wrong("Redis.Addrs", "number %d is not host:port", i+1)
		}
	}
	if _, err := netip.ParseAddr(r.Host); err != nil && strings.ContainsAny(r.Host, ":/[]@ ") {
		wrong("Redis.Host", "must be a name or an address alone, without a scheme or a port")
	}
	if r.Port < 0 || r.Port > 65535 {
		wrong("Redis.Port", "%d is not a port", r.Port)
	}
	if r.Host == "" {
		r.Host = "localhost"
	}
	if r.Port == 0 {
		r.Port = 6379
	}
}

func defaultDuration(d *time.Duration, byDefault time.Duration, field string, wrong func(field, format string, args ...any)) {
	if *d < 0 {
		wrong(field, "must not be negative")
	}
	if *d == 0 {
		*d = byDefault
	}
}

// defaultURLs fills in the bases of the two APIs.
func defaultURLs(api, edge string) (string, string) {
	switch {
	case api == "" && edge == "":
		return defaultAPIURL, defaultEdgeURL
	case api == "":
		return defaultAPIURL, edge
	case edge == "":
		if u, err := url.Parse(api); err == nil && u.Host != "" {
			u.Host = "edge." + u.Host
			edge = u.String()
		}
	}
	return api, edge
}

func checkBaseURL(field, base string, wrong func(field, format string, args ...any)) {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		wrong(field, "must be a base such as %s", defaultAPIURL)
	case u.Path != "" && u.Path != "/" || strings.ContainsAny(base, "?#"):
		wrong(field, "must be a base without a path")
	case u.User != nil:
		wrong(field, "must not contain a login")
	}
}

func finite(v *float64) bool {
	return v == nil || !math.IsNaN(*v) && !math.IsInf(*v, 0)
}
