package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/internal/redistest/port"
)

const (
	slots          = 16384
	clusterTimeout = 30 * time.Second
)

// Cluster is a Redis Cluster of masters on this machine.
type Cluster struct {
	t       testing.TB
	servers []*Server
}

// StartCluster starts n masters that share the slots evenly, and returns once
// every one of them finds the cluster complete; that takes a few seconds.
// Options apply to each server. The cluster is gone when the test ends.
func StartCluster(t testing.TB, n int, opts ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	buses := make([]int, n)
	for i := range n {
		bus, err := port.Free()
		if err != nil {
			t.Fatal(err)
		}
		buses[i] = bus
		c.servers = append(c.servers, Start(t, append(opts[:len(opts):len(opts)], conf(
			"cluster-enabled yes",
			"cluster-config-file nodes.conf",
			"cluster-node-timeout 2000",
			"cluster-port "+strconv.Itoa(bus),
		))...))
	}
	for i, s := range c.servers {
		s.do("give slots to", func(ctx context.Context, client *redis.Client) error {
			// Different epochs from the start: else the masters have to
			// settle who is who first.
			if err := client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
				return err
			}
			return client.ClusterAddSlotsRange(ctx, i*slots/n, (i+1)*slots/n-1).Err()
		})
	}
	for i, other := range c.servers[1:] {
		c.servers[0].do("introduce", func(ctx context.Context, client *redis.Client) error {
			return client.Do(ctx, "CLUSTER", "MEET", host, other.Port(), buses[i+1]).Err()
		})
	}
	c.waitComplete()
	return c
}

// Servers returns the masters, in the order of their slots.
func (c *Cluster) Servers() []*Server { return c.servers }

// Addrs returns the "host:port" of every master.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.servers))
	for i, s := range c.servers {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Client returns a new client of the cluster, closed when the test ends.
func (c *Cluster) Client() *redis.ClusterClient {
	c.t.Helper()
	o := c.servers[0].Options()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                    c.Addrs(),
		Username:                 o.Username,
		Password:                 o.Password,
		TLSConfig:                o.TLSConfig,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	})
	closeOnCleanup(c.t, client)
	return client
}

// FlushAll deletes everything on every master.
func (c *Cluster) FlushAll() {
	c.t.Helper()
	for _, s := range c.servers {
		s.FlushAll()
	}
}

// waitComplete waits until every master knows all the others and all slots.
func (c *Cluster) waitComplete() {
	c.t.Helper()
	want := []string{
		"cluster_state:ok",
		fmt.Sprintf("cluster_slots_ok:%d", slots),
		fmt.Sprintf("cluster_known_nodes:%d", len(c.servers)),
		fmt.Sprintf("cluster_size:%d", len(c.servers)),
	}
	deadline := time.Now().Add(clusterTimeout)
	for _, s := range c.servers {
		s.do("wait for the cluster of", func(ctx context.Context, client *redis.Client) error {
			for {
				info, err := client.ClusterInfo(ctx).Result()
				if err != nil {
					return err
				}
				if missing := firstMissing(info, want); missing == "" {
					return nil
				} else if time.Now().After(deadline) {
					return fmt.Errorf("no %s after %v:\n%s", missing, clusterTimeout, info)
				}
				time.Sleep(10 * pollEvery)
			}
		})
	}
}

// firstMissing returns the first of the wanted lines that the text lacks.
func firstMissing(text string, want []string) string {
	for _, w := range want {
		if !strings.Contains(text, w+"\r\n") {
			return w
		}
	}
	return ""
}
