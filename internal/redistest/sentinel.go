package redistest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	masterName      = "redistest"
	sentinelTimeout = 30 * time.Second
)

// Sentinel is a primary and a replica, watched by sentinels that make the
// replica the primary within a few seconds of the primary's end.
type Sentinel struct {
	t         testing.TB
	primary   *Server
	replica   *Server
	sentinels []*Server
}

// StartSentinel starts one primary, one replica and the given number of
// sentinels, and returns once a failover would succeed; that takes a few
// seconds. Everything is gone when the test ends.
func StartSentinel(t testing.TB, sentinels int) *Sentinel {
	t.Helper()
	s := &Sentinel{t: t}
	s.primary = Start(t, conf("repl-diskless-sync-delay 0"))
	s.replica = Start(t, conf(
		"repl-diskless-sync-delay 0",
		fmt.Sprintf("replicaof %s %d", s.primary.Host(), s.primary.Port()),
	))
	s.replica.do("wait for the first sync of", func(ctx context.Context, c *redis.Client) error {
		return waitRole(ctx, c, func(role []any) bool { return len(role) > 3 && role[3] == "connected" })
	})
	quorum := sentinels/2 + 1
	for range sentinels {
		s.sentinels = append(s.sentinels, Start(t, asSentinel(), conf(
			"protected-mode no",
			fmt.Sprintf("sentinel monitor %s %s %d %d", masterName, s.primary.Host(), s.primary.Port(), quorum),
			"sentinel down-after-milliseconds "+masterName+" 500",
			"sentinel failover-timeout "+masterName+" 3000",
		)))
	}
	for _, watcher := range s.sentinels {
		s.wait(watcher, "sentinel to know everybody", s.knowsAll)
	}
	return s
}

// MasterName returns the name under which the sentinels know the primary.
func (s *Sentinel) MasterName() string { return masterName }

// SentinelAddrs returns the "host:port" of every sentinel.
func (s *Sentinel) SentinelAddrs() []string {
	addrs := make([]string, len(s.sentinels))
	for i, watcher := range s.sentinels {
		addrs[i] = watcher.Addr()
	}
	return addrs
}

// Primary returns the server that was the primary at the start.
func (s *Sentinel) Primary() *Server { return s.primary }

// Replica returns the server that was the replica at the start.
func (s *Sentinel) Replica() *Server { return s.replica }

// Client returns a new client of whichever server is the primary, closed when
// the test ends.
func (s *Sentinel) Client() *redis.Client {
	s.t.Helper()
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:            masterName,
		SentinelAddrs:         s.SentinelAddrs(),
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
	})
	closeOnCleanup(s.t, client)
	return client
}

// KillPrimary ends the first primary as a crash would.
func (s *Sentinel) KillPrimary() {
	s.t.Helper()
	s.primary.Kill()
}

// WaitForFailover waits until every sentinel names the replica as the primary
// and the replica takes writes.
func (s *Sentinel) WaitForFailover() {
	s.t.Helper()
	for _, watcher := range s.sentinels {
		s.wait(watcher, "failover", func(ctx context.Context, c *redis.SentinelClient) (bool, error) {
			addr, err := c.GetMasterAddrByName(ctx, masterName).Result()
			return err == nil && net.JoinHostPort(addr[0], addr[1]) == s.replica.Addr(), err
		})
	}
	s.replica.do("wait for the promotion of", func(ctx context.Context, c *redis.Client) error {
		return waitRole(ctx, c, func(role []any) bool { return len(role) > 0 && role[0] == "master" })
	})
}

// waitRole asks a server for its part in replication until that is as wanted.
func waitRole(ctx context.Context, c *redis.Client, wanted func(role []any) bool) error {
	for {
		role, err := c.Do(ctx, "ROLE").Slice()
		if err != nil {
			return err
		}
		if wanted(role) {
			return nil
		}
		time.Sleep(10 * pollEvery)
	}
}

// knowsAll tells whether a sentinel has found the other sentinels and a replica
// that is in step with the primary.
func (s *Sentinel) knowsAll(ctx context.Context, c *redis.SentinelClient) (bool, error) {
	master, err := c.Master(ctx, masterName).Result()
	if err != nil {
		return false, err
	}
	replicas, err := c.Replicas(ctx, masterName).Result()
	if err != nil {
		return false, err
	}
	return master["flags"] == "master" &&
		master["num-other-sentinels"] == strconv.Itoa(len(s.sentinels)-1) &&
		len(replicas) == 1 &&
		replicas[0]["flags"] == "slave" &&
		replicas[0]["master-link-status"] == "ok", nil
}

// wait asks a sentinel until it says yes.
func (s *Sentinel) wait(watcher *Server, what string, done func(context.Context, *redis.SentinelClient) (bool, error)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sentinelTimeout)
	defer cancel()
	c := redis.NewSentinelClient(watcher.Options())
	defer func() {
		if err := c.Close(); err != nil {
			s.t.Errorf("close sentinel client: %v", err)
		}
	}()
	for {
		ok, err := done(ctx, c)
		if ok {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("waiting for %s on %s: not after %v (%v)", what, watcher.Addr(), sentinelTimeout, err)
		}
		time.Sleep(10 * pollEvery)
	}
}
