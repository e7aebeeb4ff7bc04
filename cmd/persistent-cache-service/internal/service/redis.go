package service

import (
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
)

const (
	// redisTimeout bounds one command, and the making of a connection.
	redisTimeout = 3 * time.Second
	// redisPool is how many connections there are at most for single commands,
	// of which most are sent together, and redisPipes how many for pipelines:
	// one for each sending under way, and one for purges and scrapes.
	redisPool  = 32
	redisPipes = togetherUnderWay + 1
	// redisBuffer is the size of a connection's buffers: larger than most
	// commands, and there are two for each connection.
	redisBuffer = 16 << 10
)

// redisOptions are those of a client of the configured Redis. It tries nothing
// again by itself: the service does, and knows what may be.
func redisOptions(c *config.Config) *redis.Options {
	o := &redis.Options{
		Addr: net.JoinHostPort(c.RedisHost, strconv.Itoa(c.RedisPort)), DB: c.RedisDB,
		Username: c.RedisUsername, Password: string(c.RedisPassword),
		DialTimeout: redisTimeout, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout,
		PoolSize: redisPool, PoolTimeout: 2 * redisTimeout, ConnMaxIdleTime: time.Minute,
		PipelinePoolSize: redisPipes,
		ReadBufferSize:   redisBuffer, WriteBufferSize: redisBuffer,
		PipelineReadBufferSize: redisBuffer, PipelineWriteBufferSize: redisBuffer,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if c.RedisTLS {
		o.TLSConfig = &tls.Config{ServerName: c.RedisHost, MinVersion: tls.VersionTLS12}
	}
	return o
}
