package stigg

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// newRedisClient makes the client that r describes. It does not connect. Every
// wait that go-redis knows is cut to r.Timeout and it retries nothing, so that
// one check waits for Redis once.
func newRedisClient(r RedisConfig) redis.UniversalClient {
	dial := quietDialer(r.Timeout, r.TLS)
	if r.MasterName != "" {
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: r.MasterName, SentinelAddrs: r.Addrs,
			DB: r.DB, Username: r.Username, Password: r.Password, TLSConfig: r.TLS,
			DialTimeout: r.Timeout, ReadTimeout: r.Timeout, WriteTimeout: r.Timeout, PoolTimeout: r.Timeout,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, Dialer: dial, Protocol: protocol,
			DisableIdentity: true,
		})
	}
	if len(r.Addrs) > 0 {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs:    r.Addrs,
			Username: r.Username, Password: r.Password, TLSConfig: r.TLS,
			DialTimeout: r.Timeout, ReadTimeout: r.Timeout, WriteTimeout: r.Timeout, PoolTimeout: r.Timeout,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, Dialer: dial, Protocol: protocol,
			DisableIdentity: true, MaintNotificationsConfig: noMaintNotifications(),
		})
	}
	return redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(r.Host, strconv.Itoa(r.Port)),
		DB:   r.DB, Username: r.Username, Password: r.Password, TLSConfig: r.TLS,
		DialTimeout: r.Timeout, ReadTimeout: r.Timeout, WriteTimeout: r.Timeout, PoolTimeout: r.Timeout,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, Dialer: dial, Protocol: protocol,
		DisableIdentity: true, MaintNotificationsConfig: noMaintNotifications(),
		ConnMaxLifetime: connLifetime, ConnMaxLifetimeJitter: connLifetime / 5,
	})
}

// connLifetime is how long a connection to one server is used. Where the
// primary moves to another server behind the same name, that is how long values
// may still be read from the former one.
const connLifetime = 5 * time.Minute

// protocol is RESP2: nothing that is asked here needs RESP3, whose replies
// go-redis searches for push messages.
const protocol = 2

func noMaintNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// quietDialer dials without letting go-redis see a failure of the dial itself,
// which it would write to standard error each time: the connection it returns
// then fails at its first use, with the same error.
func quietDialer(timeout time.Duration, config *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout, KeepAlive: 5 * time.Minute}
	dial := plain.DialContext
	if config != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: config}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return failedConn{err: err}, nil //nolint:nilerr // the connection tells, at its first use
		}
		return conn, nil
	}
}

// failedConn is a connection that could not be made.
type failedConn struct{ err error }

func (c failedConn) Read([]byte) (int, error)         { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)        { return 0, c.err }
func (c failedConn) Close() error                     { return nil }
func (c failedConn) LocalAddr() net.Addr              { return noAddr{} }
func (c failedConn) RemoteAddr() net.Addr             { return noAddr{} }
func (c failedConn) SetDeadline(time.Time) error      { return nil }
func (c failedConn) SetReadDeadline(time.Time) error  { return nil }
func (c failedConn) SetWriteDeadline(time.Time) error { return nil }

type noAddr struct{}

func (noAddr) Network() string { return "tcp" }
func (noAddr) String() string  { return "not connected" }
