// Package service puts the persistent-cache-service together and runs it.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/config"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/consumer"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/metrics"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/report"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
	"github.com/stiggio/server-sdk-go/internal/edge"
)

const (
	// stopTimeout is how long the service may take to stop receiving and to
	// finish the messages in hand. With what comes after, it is below the 30
	// seconds that orchestrators give.
	stopTimeout = 23 * time.Second
	// shutdownTimeout bounds each of the other steps of stopping.
	shutdownTimeout = 1500 * time.Millisecond
)

// Options are what a Service needs beside its configuration.
type Options struct {
	Config  config.Config
	Version string
	Log     *slog.Logger
	// Queue stands in place of the configured one; nil: the configured one.
	Queue queue.Queue
}

// Service is the persistent-cache-service.
type Service struct {
	config   config.Config
	version  string
	log      *slog.Logger
	started  time.Time
	metrics  *metrics.Metrics
	reporter report.Reporter

	redis    *redis.Client // sends through connections
	store    *cache.Store
	edge     *edge.Client
	queue    queue.Queue
	sqs      *queue.SQS // nil: the queue is not ours
	gate     *watch.Gate
	queueUp  *watch.Dependency
	apiUp    *watch.Dependency
	engine   *apply.Engine
	consumer *consumer.Consumer

	environmentID atomic.Pointer[string]
	credentials   atomic.Pointer[string]
	heartbeat     atomic.Int64 // epoch ms of the last; 0: none
	depth         atomic.Pointer[depth]

	connections *redis.Client
	listener    net.Listener
}

// New puts a Service together. It connects to nothing but opens its HTTP port.
func New(ctx context.Context, o Options) (*Service, error) {
	c := o.Config
	s := &Service{
		config: c, version: o.Version, log: o.Log, started: time.Now(),
		metrics: metrics.New(o.Version), connections: redis.NewClient(redisOptions(&c)), queue: o.Queue,
		edge: newEdge(&c, o.Version),
	}
	s.redis = sendTogether(s.connections, redisOptions(&c), s.onSendPanic)
	if c.EnvironmentID != "" {
		s.environmentID.Store(&c.EnvironmentID)
	}
	s.queueUp = watch.NewDependency(s.told("queue"))
	s.apiUp = watch.NewDependency(s.told("edge api"))
	s.gate = watch.NewGate(s.probeRedis, s.told("redis"))
	if s.queue == nil {
		sqs, err := queue.NewSQS(ctx, queue.Options{Region: c.AWSRegion, QueueURL: c.QueueURL, Edge: s.edge, OnCredentials: s.onCredentials, Log: s.log})
		if err != nil {
			return nil, err
		}
		s.queue, s.sqs = sqs, sqs
	}
	policy := cache.UpdateIfExists
	if c.CacheUpdatePolicy == config.Upsert {
		policy = cache.Upsert
	}
	s.store = cache.NewStore(cache.Options{Client: s.redis, Prefix: c.EnvironmentPrefix, TTL: c.KeysTTL()})
	s.engine = apply.New(apply.Config{
		Store: s.store, Redis: s.redis, Prefix: c.EnvironmentPrefix, Policy: policy, LockRetryCount: c.LockRetryCount,
		Gate: s.gate, Edge: s.edge, API: s.apiUp, RefetchesPerMinute: c.RefetchesPerMinute,
		EnvironmentID: s.environment, Metrics: s.metrics, Log: s.log, OnPanic: s.reporter.Panic,
	})
	s.consumer = consumer.New(consumer.Config{
		Queue: s.queue, Engine: s.engine, Redis: s.gate, State: s.queueUp,
		Consumers: c.Consumers, BatchSize: c.BatchSize, Wait: c.ReceiveWait(), Visibility: c.VisibilityTimeout(),
		Metrics: s.metrics, Log: s.log, OnPanic: s.reporter.Panic,
	})
	s.gauges()

	var err error
	if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(c.Port))); err != nil {
		return nil, fmt.Errorf("http server: %w", err)
	}
	return s, nil
}

// newEdge makes a client of the Edge API. It tries nothing again by itself,
// because each request counts against the rate limit that the service keeps.
func newEdge(c *config.Config, version string) *edge.Client {
	return edge.New(edge.Config{
		BaseURL: c.EdgeAPIURL, APIKey: string(c.APIKey), MaxRetries: -1,
		UserAgent: "stigg-server-sdk-go/persistent-cache-service/" + version,
	})
}

// Addr is the address of the HTTP server.
func (s *Service) Addr() string { return s.listener.Addr().String() }

// Run runs the service until ctx ends; then it finishes what is in hand and
// returns. The error is that of the HTTP server.
func (s *Service) Run(ctx context.Context) error {
	s.log.Info("started", "version", s.version, "queue", s.config.QueueURL, "environmentPrefix", s.config.EnvironmentPrefix,
		"consumers", s.config.Consumers, "batchSize", s.config.BatchSize, "policy", s.config.CacheUpdatePolicy, "port", s.config.Port)

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var beside sync.WaitGroup
	for _, run := range []func(context.Context){s.gate.Run, s.beat, s.watchDepth, s.configureRemotely} {
		beside.Go(func() { run(background) })
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	consuming, stopConsuming := context.WithCancel(ctx)
	defer stopConsuming()
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(s.listener)
		stopConsuming() // a service that cannot be watched is no use
	}()

	s.consumer.Run(consuming, stopTimeout)
	s.log.Info("stopping: messages in hand are finished")
	stop()
	beside.Wait()

	// Whoever watches may look at the end.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if server.Shutdown(closing) != nil {
		_ = server.Close() // connections that are still busy are given up
	}
	err := <-served
	s.close()
	if ctx.Err() == nil {
		return fmt.Errorf("http server: %w", err)
	}
	s.log.Info("stopped")
	return nil
}

// close closes all connections.
func (s *Service) close() {
	s.reporter.Close(shutdownTimeout)
	for _, client := range []*redis.Client{s.redis, s.connections} {
		if err := client.Close(); err != nil {
			s.log.Debug("close redis", "err", err)
		}
	}
	s.edge.CloseIdle()
	if s.sqs != nil {
		s.sqs.Close()
	}
}

// told logs and reports that a dependency came or went.
func (s *Service) told(name string) func(watch.State) {
	return func(state watch.State) {
		if state.Up {
			s.log.Info(name + " is connected")
			return
		}
		s.log.Error(name+" is away", "err", state.LastError)
		s.reporter.Lost(name, state.LastError)
	}
}

// onSendPanic counts and reports a panic that belongs to no message. Its value
// can quote one, so that it is not logged.
func (s *Service) onSendPanic(value any) {
	s.metrics.Panics.Inc()
	s.log.Error("panic while commands were sent to redis", "stack", string(debug.Stack()))
	s.reporter.Panic(value, "", "")
}

func (s *Service) onCredentials(source string) {
	s.credentials.Store(&source)
	s.metrics.Credentials.WithLabelValues(source).Set(1)
	s.log.Info("credentials for the queue found", "source", source)
}

// environment returns the id of the environment, empty when it is not known.
func (s *Service) environment() string {
	if id := s.environmentID.Load(); id != nil {
		return *id
	}
	return ""
}
