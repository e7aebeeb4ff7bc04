package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
)

func required(more ...string) []string {
	return append([]string{
		"AWS_REGION=us-east-1",
		"QUEUE_URL=https://sqs.us-east-1.amazonaws.com/1/q",
		"SERVER_API_KEY=server-secret",
	}, more...)
}

func TestDefaults(t *testing.T) {
	c, err := config.Load(required())
	require.NoError(t, err)
	require.Equal(t, config.Config{
		AWSRegion: "us-east-1", QueueURL: "https://sqs.us-east-1.amazonaws.com/1/q", APIKey: "server-secret",
		EnvironmentPrefix: "production", RedisHost: "localhost", RedisPort: 6379,
		BatchSize: 1, KeysTTLSeconds: 604800, CacheUpdatePolicy: "UPDATE_IF_EXISTS", LockRetryCount: 20,
		EdgeAPIURL: "https://edge.api.stigg.io", Port: 4000,
		LogLevel: "info", LogMessageKey: "msg", LogErrorKey: "err",
		Consumers: 10, ReceiveWaitSeconds: 10, VisibilityTimeoutSeconds: 60, RefetchesPerMinute: 4800,
	}, c)
	require.Equal(t, slog.LevelInfo, c.Level())
	require.Equal(t, 7*24*time.Hour, c.KeysTTL())
	require.Equal(t, time.Minute, c.VisibilityTimeout())
}

func TestEveryVariable(t *testing.T) {
	c, err := config.Load(required(
		"ENVIRONMENT_PREFIX=staging", "REDIS_HOST=r", "REDIS_PORT=1234", "REDIS_DB=5", "REDIS_USERNAME=u",
		"REDIS_PASSWORD=p", "REDIS_TLS=1", "BATCH_SIZE=10", "KEYS_TTL_IN_SECS=-1", "EDGE_API_URL=http://127.0.0.1:1",
		"SENTRY_DSN=https://k@s.example/1", "DISABLE_SENTRY=true", "PORT=4001", "CACHE_UPDATE_POLICY=UPSERT",
		"LOG_LEVEL=debug", "LOG_MESSAGE_KEY=message", "LOG_ERROR_KEY=error", "CACHE_LOCK_RETRY_COUNT=3",
		"CONSUMERS=2", "RECEIVE_WAIT_IN_SECS=20", "VISIBILITY_TIMEOUT_IN_SECS=5", "REFETCHES_PER_MINUTE=60", "ENVIRONMENT_ID=env-1",
	))
	require.NoError(t, err)
	require.Equal(t, config.Config{
		AWSRegion: "us-east-1", QueueURL: "https://sqs.us-east-1.amazonaws.com/1/q", APIKey: "server-secret",
		EnvironmentPrefix: "staging", RedisHost: "r", RedisPort: 1234, RedisDB: 5, RedisUsername: "u", RedisPassword: "p", RedisTLS: true,
		BatchSize: 10, KeysTTLSeconds: -1, CacheUpdatePolicy: "UPSERT", LockRetryCount: 3,
		EdgeAPIURL: "http://127.0.0.1:1", SentryDSN: "https://k@s.example/1", DisableSentry: true, Port: 4001,
		LogLevel: "debug", LogMessageKey: "message", LogErrorKey: "error",
		Consumers: 2, ReceiveWaitSeconds: 20, VisibilityTimeoutSeconds: 5, RefetchesPerMinute: 60, EnvironmentID: "env-1",
	}, c)
	require.Equal(t, slog.LevelDebug, c.Level())
	require.Negative(t, c.KeysTTL())
}

func TestAliases(t *testing.T) {
	c, err := config.Load(required("REDIS_ENVIRONMENT_PREFIX=helm", "REDIS_USER=old"))
	require.NoError(t, err)
	require.Equal(t, "helm", c.EnvironmentPrefix)
	require.Equal(t, "old", c.RedisUsername)

	_, err = config.Load(required("REDIS_ENVIRONMENT_PREFIX=same", "ENVIRONMENT_PREFIX=same"))
	require.NoError(t, err)

	_, err = config.Load(required("REDIS_ENVIRONMENT_PREFIX=a", "ENVIRONMENT_PREFIX=b"))
	require.ErrorContains(t, err, "ENVIRONMENT_PREFIX and REDIS_ENVIRONMENT_PREFIX")
}

func TestSetToNothingIsNotSet(t *testing.T) {
	c, err := config.Load(required("BATCH_SIZE=", "REDIS_TLS=", "REDIS_PASSWORD=", "LOG_LEVEL="))
	require.NoError(t, err)
	require.Equal(t, 1, c.BatchSize)
	require.Empty(t, c.RedisPassword)

	_, err = config.Load([]string{"AWS_REGION=x", "QUEUE_URL=https://h/q", "SERVER_API_KEY="})
	require.ErrorContains(t, err, "SERVER_API_KEY: is required")
}

func TestAllErrorsAtOnceAndNoSecrets(t *testing.T) {
	_, err := config.Load([]string{
		"QUEUE_URL=not a url", "SERVER_API_KEY=hush hush", "REDIS_PASSWORD=hush",
		"REDIS_PORT=sixty", "REDIS_DB=-1", "REDIS_TLS=perhaps", "BATCH_SIZE=11", "KEYS_TTL_IN_SECS=0",
		"EDGE_API_URL=ftp://x", "SENTRY_DSN=hush", "DISABLE_SENTRY=no way", "PORT=70000", "CACHE_UPDATE_POLICY=NEVER",
		"LOG_LEVEL=loud", "LOG_MESSAGE_KEY=same", "LOG_ERROR_KEY=same", "CACHE_LOCK_RETRY_COUNT=0",
		"CONSUMERS=0", "RECEIVE_WAIT_IN_SECS=21", "VISIBILITY_TIMEOUT_IN_SECS=1", "REFETCHES_PER_MINUTE=0",
	})
	require.Error(t, err)
	for _, name := range []string{
		"AWS_REGION: is required", "QUEUE_URL", "SERVER_API_KEY", "REDIS_PORT: is not a whole number", "REDIS_DB",
		"REDIS_TLS: is not a boolean", "BATCH_SIZE: 11 is not between 1 and 10", "KEYS_TTL_IN_SECS", "EDGE_API_URL",
		"DISABLE_SENTRY", "PORT: 70000", "CACHE_UPDATE_POLICY", "LOG_LEVEL", "LOG_ERROR_KEY",
		"CACHE_LOCK_RETRY_COUNT", "CONSUMERS", "RECEIVE_WAIT_IN_SECS", "VISIBILITY_TIMEOUT_IN_SECS", "REFETCHES_PER_MINUTE", "SENTRY_DSN",
	} {
		require.ErrorContains(t, err, name)
		require.Equal(t, 1, strings.Count(err.Error(), name), name)
	}
	require.NotContains(t, err.Error(), "hush")
}

// What would be written to the log, or could not be found again in it, is
// refused.
func TestRefused(t *testing.T) {
	for variable, problem := range map[string]string{
		"QUEUE_URL=https://user:hush@sqs.us-east-1.amazonaws.com/1/q": "QUEUE_URL: must not contain a login",
		"EDGE_API_URL=https://user:hush@edge.example":                 "EDGE_API_URL: must not contain a login",
		"REDIS_HOST=redis://:hush@redis.internal:6379":                "REDIS_HOST: must be a host name or an address",
		"REDIS_HOST=:hush@redis.internal":                             "REDIS_HOST: must be a host name or an address",
		"REDIS_HOST=hush@redis.internal":                              "REDIS_HOST: must be a host name or an address",
		"REDIS_HOST=redis.internal:6379":                              "REDIS_HOST: must be a host name or an address",
		"PORT=0":                                                      "PORT: 0 is not between 1 and 65535",
		"LOG_MESSAGE_KEY=time":                                        "LOG_MESSAGE_KEY: must be neither time nor level",
		"LOG_MESSAGE_KEY=level":                                       "LOG_MESSAGE_KEY: must be neither time nor level",
		"LOG_ERROR_KEY=time":                                          "LOG_ERROR_KEY: must be neither time nor level",
		"LOG_ERROR_KEY=level":                                         "LOG_ERROR_KEY: must be neither time nor level",
		"LOG_ERROR_KEY=msg":                                           "LOG_ERROR_KEY: must differ from LOG_MESSAGE_KEY",
	} {
		_, err := config.Load(required(variable))
		require.ErrorContains(t, err, problem)
		require.NotContains(t, err.Error(), "hush")
	}
}

func TestRedisHosts(t *testing.T) {
	for _, host := range []string{"localhost", "redis_1.default.svc.cluster.local.", "10.0.0.1", "::1", "fe80::1%eth0"} {
		_, err := config.Load(required("REDIS_HOST=" + host))
		require.NoError(t, err, host)
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	c, err := config.Load(required("REDIS_PASSWORD=hush", "SENTRY_DSN=https://hush@s.example/1"))
	require.NoError(t, err)
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "config", c, "key", c.APIKey)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s %q", c, c, c.APIKey, c.APIKey), string(asJSON), log.String()} {
		require.NotContains(t, text, "hush")
		require.NotContains(t, text, "server-secret")
	}
}

func TestHelpListsEveryVariable(t *testing.T) {
	var out strings.Builder
	require.NoError(t, config.WriteHelp(&out))
	for _, name := range []string{
		"AWS_REGION", "QUEUE_URL", "SERVER_API_KEY", "ENVIRONMENT_PREFIX", "REDIS_ENVIRONMENT_PREFIX", "REDIS_HOST",
		"REDIS_PORT", "REDIS_DB", "REDIS_USERNAME", "REDIS_USER)", "REDIS_PASSWORD", "REDIS_TLS", "BATCH_SIZE",
		"KEYS_TTL_IN_SECS", "EDGE_API_URL", "SENTRY_DSN", "DISABLE_SENTRY", "PORT", "CACHE_UPDATE_POLICY", "LOG_LEVEL",
		"LOG_MESSAGE_KEY", "LOG_ERROR_KEY", "CACHE_LOCK_RETRY_COUNT",
	} {
		require.Contains(t, out.String(), name)
	}
	require.Contains(t, out.String(), "604800")
}
