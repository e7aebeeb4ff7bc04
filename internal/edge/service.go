package edge

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/apistate"
	"github.com/stiggio/server-sdk-go/internal/httpx"
)

// ServiceConfiguration is the remote configuration of the
// persistent-cache-service.
type ServiceConfiguration struct {
	SentryDSN string          // empty: none
	Raw       json.RawMessage // the whole configuration as it came
}

// PersistentCacheServiceConfiguration fetches the remote configuration of the
// persistent-cache-service.
func (c *Client) PersistentCacheServiceConfiguration(ctx context.Context) (ServiceConfiguration, error) {
	answer, err := c.get(ctx, "GetPersistentCacheServiceConfiguration", "/v1/config/persistent-cache-service-configuration.json", nil)
	if err != nil {
		return ServiceConfiguration{}, err
	}
	raw, fields := unwrap(answer, "sentryDsn")
	return ServiceConfiguration{SentryDSN: text(fields, "sentryDsn"), Raw: raw}, nil
}

// The lifetimes that the API grants to credentials.
const (
	MinCredentialsDuration = 15 * time.Minute
	MaxCredentialsDuration = time.Hour
)

// Credentials are short-lived AWS credentials for a queue. They are secret:
// they do not show when printed or logged.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time // renew before
}

// String says until when the credentials are good, and nothing else.
func (c Credentials) String() string {
	return "credentials until " + c.Expiration.Format(time.RFC3339)
}

// GoString is the same as String.
func (c Credentials) GoString() string { return c.String() }

// LogValue is the same as String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// EventQueueCredentials fetches credentials for the queue at queueURL that are
// good for duration, from [MinCredentialsDuration] to [MaxCredentialsDuration];
// 0 leaves it to the API. Anything else fails with [apierr.ErrInvalidArgument].
func (c *Client) EventQueueCredentials(ctx context.Context, queueURL string, duration time.Duration) (Credentials, error) {
	const op = "GetEventQueueCredentials"
	if queueURL == "" {
		return Credentials{}, c.http.Fail(op, apierr.ErrInvalidArgument, errors.New("queue url is empty"))
	}
	query := url.Values{"queueUrl": {queueURL}}
	if duration != 0 {
		if duration < MinCredentialsDuration || duration > MaxCredentialsDuration {
			return Credentials{}, c.http.Fail(op, apierr.ErrInvalidArgument, errors.New("duration is not within 15 minutes and an hour"))
		}
		query.Set("durationSeconds", strconv.FormatInt(int64(duration/time.Second), 10))
	}
	answer, err := c.get(ctx, op, "/v1/credentials/event-queue.json", query)
	if err != nil {
		return Credentials{}, err
	}
	_, fields := unwrap(answer, "accessKeyId")
	expiration, err := apistate.ParseTime(fields["expiration"])
	out := Credentials{
		AccessKeyID:     text(fields, "accessKeyId"),
		SecretAccessKey: text(fields, "secretAccessKey"),
		SessionToken:    text(fields, "sessionToken"),
		Expiration:      expiration,
	}
	if err != nil || expiration.IsZero() || out.AccessKeyID == "" || out.SecretAccessKey == "" || out.SessionToken == "" {
		return Credentials{}, c.http.Fail(op, apierr.ErrMalformedResponse, errors.New("answer lacks a part of the credentials"))
	}
	return out, nil
}

// unwrap finds the object that has the wanted field. The API documents it
// bare; it is also found under "data", and there under a single name, as the
// API's other answers have it. Without the field it is the innermost of these.
func unwrap(answer httpx.Answer, want string) (json.RawMessage, map[string]json.RawMessage) {
	raw, fields := answer.Body, object(answer.Body)
	if inner := object(answer.Data); inner != nil && fields[want] == nil {
		raw, fields = answer.Data, inner
	}
	if fields[want] == nil && len(fields) == 1 {
		for _, only := range fields {
			if inner := object(only); inner != nil {
				return only, inner
			}
		}
	}
	return raw, fields
}

// object reads a JSON object; nil when it is none.
func object(raw json.RawMessage) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return nil
	}
	return fields
}

// text reads a string field; empty when it is none.
func text(fields map[string]json.RawMessage, name string) string {
	var s string
	if json.Unmarshal(fields[name], &s) != nil {
		return ""
	}
	return s
}
