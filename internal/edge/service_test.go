package edge_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/apierr"
)

func TestPersistentCacheServiceConfiguration(t *testing.T) {
	for name, c := range map[string]struct{ body, dsn, raw string }{
		"bare":          {`{"sentryDsn":"d","x":1}`, "d", `{"sentryDsn":"d","x":1}`},
		"under data":    {`{"data":{"sentryDsn":"d"}}`, "d", `{"sentryDsn":"d"}`},
		"under a name":  {`{"data":{"configuration":{"sentryDsn":"d"}}}`, "d", `{"sentryDsn":"d"}`},
		"null":          {`{"data":{"sentryDsn":null}}`, "", `{"sentryDsn":null}`},
		"of type":       {`{"sentryDsn":5}`, "", `{"sentryDsn":5}`},
		"absent":        {`{"data":{}}`, "", `{}`},
		"null data":     {`{"data":null}`, "", `{"data":null}`},
		"another field": {`{"data":{"x":1}}`, "", `{"x":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serve(t, answer(c.body)).PersistentCacheServiceConfiguration(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.dsn, got.SentryDSN)
			require.JSONEq(t, c.raw, string(got.Raw))
		})
	}
	_, err := serve(t, answer(`{"errors":[{}]}`)).PersistentCacheServiceConfiguration(t.Context())
	require.ErrorIs(t, err, apierr.ErrRejected)
}

func TestEventQueueCredentials(t *testing.T) {
	const bare = `{"accessKeyId":"AK","secretAccessKey":"secret","sessionToken":"secret-token","expiration":"2026-06-01T10:00:00Z"}`
	for name, body := range map[string]string{
		"bare":         bare,
		"under data":   `{"data":` + bare + `}`,
		"under a name": `{"data":{"credentials":` + bare + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serve(t, answer(body)).EventQueueCredentials(t.Context(), "q", 15*time.Minute)
			require.NoError(t, err)
			require.Equal(t, "AK", got.AccessKeyID)
			require.Equal(t, "secret", got.SecretAccessKey)
			require.Equal(t, "secret-token", got.SessionToken)
			require.Equal(t, time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC), got.Expiration)

			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("got", "credentials", got)
			printed := fmt.Sprintf("%v %+v %#v %s %s", got, got, got, got, log.String())
			require.Contains(t, printed, "2026")
			require.NotContains(t, printed, "secret")
			require.NotContains(t, printed, "AK")
		})
	}
	for name, body := range map[string]string{
		"no key":         `{"secretAccessKey":"secret","sessionToken":"s","expiration":"2026-06-01T10:00:00Z"}`,
		"no secret":      `{"accessKeyId":"AK","sessionToken":"s","expiration":"2026-06-01T10:00:00Z"}`,
		"no token":       `{"accessKeyId":"AK","secretAccessKey":"secret","expiration":"2026-06-01T10:00:00Z"}`,
		"no expiration":  `{"accessKeyId":"AK","secretAccessKey":"secret","sessionToken":"s"}`,
		"bad expiration": `{"accessKeyId":"AK","secretAccessKey":"secret","sessionToken":"s","expiration":"secret"}`,
		"key of type":    `{"accessKeyId":7,"secretAccessKey":"secret","sessionToken":"s","expiration":"2026-06-01T10:00:00Z"}`,
		"null data":      `{"data":null}`,
		"data of type":   `{"data":["secret"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, answer(body)).EventQueueCredentials(t.Context(), "q", 0)
			require.ErrorIs(t, err, apierr.ErrMalformedResponse)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}
