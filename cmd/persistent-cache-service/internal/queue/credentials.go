package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/stiggio/server-sdk-go/internal/edge"
)

const (
	// renewBefore is how long before they expire credentials are renewed.
	renewBefore = 5 * time.Minute
	// renewAgain is how long to wait after a renewal that failed, while the
	// credentials at hand are still good.
	renewAgain = 30 * time.Second
	// chainTimeout bounds the search of AWS's own chain, whose last resort is
	// an address that exists only on AWS's machines.
	chainTimeout = 10 * time.Second
	// renewTimeout bounds a renewal, for which every call waits, while the
	// credentials at hand are still good; firstTimeout, when there are none.
	renewTimeout = 3 * time.Second
	firstTimeout = 10 * time.Second
)

// CredentialsSource hands out short-lived credentials for a queue.
type CredentialsSource interface {
	EventQueueCredentials(ctx context.Context, queueURL string, duration time.Duration) (edge.Credentials, error)
}

// The places where credentials come from, as OnCredentials is told.
const (
	FromAWS  = "aws"  // AWS's own chain: environment, profile, role
	FromEdge = "edge" // Stigg's Edge API
)

// credentialsChain asks AWS's own chain, and Stigg's Edge API when that has
// none. What answered first is asked from then on.
type credentialsChain struct {
	aws      aws.CredentialsProvider
	edge     CredentialsSource
	queueURL string
	found    func(source string)

	mu     sync.Mutex
	source string
	last   aws.Credentials // the last of the Edge API, with their real end
}

// Retrieve implements aws.CredentialsProvider.
func (c *credentialsChain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	source := c.settled()
	var awsErr error
	if source != FromEdge {
		awsCtx, cancel := context.WithTimeout(ctx, chainTimeout)
		credentials, err := c.aws.Retrieve(awsCtx)
		cancel()
		if err == nil {
			c.settle(FromAWS)
			return credentials, nil
		}
		if source == FromAWS || c.edge == nil {
			return aws.Credentials{}, err
		}
		awsErr = err
	}
	// The caller's deadline does not count here: the cache takes it away.
	edgeCtx, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	given, err := c.edge.EventQueueCredentials(edgeCtx, c.queueURL, 0)
	if err != nil {
		if awsErr != nil {
			err = fmt.Errorf("neither aws nor the edge api has credentials: %w", errors.Join(awsErr, err))
		}
		return aws.Credentials{}, err
	}
	c.settle(FromEdge)
	return c.fresh(aws.Credentials{
		AccessKeyID: given.AccessKeyID, SecretAccessKey: given.SecretAccessKey, SessionToken: given.SessionToken,
		Source: "stigg edge api", CanExpire: true, Expires: given.Expiration,
	}), nil
}

// fresh keeps the credentials of the Edge API and gives them an earlier end:
// when they are to be renewed.
func (c *credentialsChain) fresh(credentials aws.Credentials) aws.Credentials {
	c.mu.Lock()
	c.last = credentials
	c.mu.Unlock()
	left := time.Until(credentials.Expires)
	credentials.Expires = credentials.Expires.Add(-min(renewBefore, left/2))
	return credentials
}

// patience is how long to wait for the Edge API.
func (c *credentialsChain) patience() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Until(c.last.Expires) > renewTimeout {
		return renewTimeout
	}
	return firstTimeout
}

// HandleFailToRefresh lets credentials of the Edge API that are due for
// renewal, but still good, be used while the renewal fails.
func (c *credentialsChain) HandleFailToRefresh(_ context.Context, _ aws.Credentials, err error) (aws.Credentials, error) {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if again := time.Now().Add(renewAgain); last.Expires.After(again) {
		last.Expires = again
	}
	if last.Expires.Before(time.Now().Add(time.Second)) {
		return aws.Credentials{}, err
	}
	return last, nil
}

func (c *credentialsChain) settled() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.source
}

func (c *credentialsChain) settle(source string) {
	c.mu.Lock()
	first := c.source == ""
	c.source = source
	c.mu.Unlock()
	if first && c.found != nil {
		c.found(source)
	}
}

// renewable are credentials that can be renewed before they are due: those that
// the queue takes no more, because they were revoked, or because the clocks
// differ.
type renewable struct {
	cache *aws.CredentialsCache

	mu   sync.Mutex
	last time.Time
}

// refused has the credentials renewed if that is what the code of a call's error
// asks for, and if that was not tried just now.
func (r *renewable) refused(code string) {
	if !strings.Contains(code, "ExpiredToken") && code != "InvalidClientTokenId" && code != "UnrecognizedClientException" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.last) >= renewAgain {
		r.last = now
		r.cache.Invalidate()
	}
}
