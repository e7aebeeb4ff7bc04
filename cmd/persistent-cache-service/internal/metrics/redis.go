package metrics

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// infoTimeout bounds the question to Redis that a scrape asks.
const infoTimeout = time.Second

// redisCollector publishes Redis's own statistics. While Redis is away it
// publishes nothing, so that a graph shows a gap and not an old figure.
type redisCollector struct {
	client                      *redis.Client
	ratio, memory, hits, misses *prometheus.Desc
}

// WatchRedis publishes the statistics of the Redis that client is connected to.
func (m *Metrics) WatchRedis(client *redis.Client) {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	m.Registry.MustRegister(&redisCollector{
		client: client,
		ratio:  desc("persistent_cache_hit_ratio", "Share of key lookups that Redis answered with a value since its start, of all its clients, 0 to 1."),
		memory: desc("persistent_cache_memory_usage_bytes", "Memory that Redis uses for data."),
		hits:   desc("persistent_cache_hits_total", "Key lookups that Redis answered with a value since its start, of all its clients."),
		misses: desc("persistent_cache_misses_total", "Key lookups for which Redis had no value since its start, of all its clients."),
	})
}

// Describe implements prometheus.Collector.
func (c *redisCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.ratio, c.memory, c.hits, c.misses} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *redisCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), infoTimeout)
	defer cancel()
	pipe := c.client.Pipeline()
	stats, memory := pipe.Info(ctx, "stats"), pipe.Info(ctx, "memory")
	if _, err := pipe.Exec(ctx); err != nil {
		return
	}
	hit, ok1 := infoNumber(stats.Val(), "keyspace_hits")
	missed, ok2 := infoNumber(stats.Val(), "keyspace_misses")
	used, ok3 := infoNumber(memory.Val(), "used_memory")
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	if ok3 {
		gauge(c.memory, used)
	}
	if ok1 && ok2 {
		gauge(c.hits, hit)
		gauge(c.misses, missed)
		gauge(c.ratio, hit/max(1, hit+missed))
	}
}

// infoNumber reads one line of the answer to INFO.
func infoNumber(info, name string) (float64, bool) {
	for line := range strings.Lines(info) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && key == name {
			n, err := strconv.ParseFloat(value, 64)
			return n, err == nil
		}
	}
	return 0, false
}
