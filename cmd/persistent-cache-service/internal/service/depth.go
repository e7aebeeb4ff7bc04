package service

import (
	"context"
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

const (
	// depthEvery is how often the queue is asked how much it holds.
	depthEvery = 30 * time.Second
	// depthAgain is how long to wait after it could not be asked.
	depthAgain = 5 * time.Second
	// depthRefused is how long to wait after it did not tell: credentials that
	// may only consume are not allowed to ask.
	depthRefused = 5 * time.Minute
)

// depth is what the queue told of how much it holds, or why it did not.
type depth struct {
	queue.Depth
	err error
}

// watchDepth asks the queue how much it holds, from time to time, whether or not
// anything is received: what waits while Redis is away is what one wants to know.
func (s *Service) watchDepth(ctx context.Context) {
	for {
		d, err := s.queue.Depth(ctx)
		if ctx.Err() != nil {
			return
		}
		s.depth.Store(&depth{d, err})
		wait := depthEvery
		if err != nil {
			s.metrics.QueueErrors.WithLabelValues("attributes").Inc()
			s.log.Debug("the queue does not tell how much it holds", "err", err)
			wait = depthAgain
			if queue.Denied(err) {
				wait = depthRefused
			}
		}
		if !watch.Sleep(ctx, wait) {
			return
		}
	}
}

// gauges publishes the figures that are read when they are asked for.
func (s *Service) gauges() {
	s.metrics.WatchRedis(s.redis)
	boolean := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	s.metrics.Gauge("persistent_cache_redis_up", "1 while Redis is connected and takes writes.", func() float64 { return boolean(s.gate.Up()) })
	s.metrics.Gauge("persistent_cache_queue_up", "1 unless the queue could not be received from when that was last tried.", func() float64 {
		state := s.queueUp.State()
		return boolean(state.Up || !state.Known)
	})
	s.metrics.Gauge("persistent_cache_edge_api_up", "0 while requests to the Edge API fail and none works.", func() float64 {
		state := s.apiUp.State()
		return boolean(state.Up || !state.Known)
	})
	s.metrics.Gauge("persistent_cache_consumers", "Receivers that work.", func() float64 { return float64(s.consumer.Running()) })
	s.metrics.Gauge("persistent_cache_messages_in_hand", "Messages that were received and are not dealt with.", func() float64 { return float64(s.consumer.InHand()) })
	s.metrics.Gauge("persistent_cache_refetches_waiting", "Messages in hand that wait for a refetch.", func() float64 { return float64(s.engine.Waiting()) })
	s.metrics.Gauge("persistent_cache_oldest_message_age_seconds", "Time since the oldest message in hand was sent; 0 without any.", func() float64 { return s.consumer.OldestAge().Seconds() })
	s.metrics.Gauge("persistent_cache_queue_messages_visible", "Messages that wait in the queue, as it last told; -1 when it does not.", func() float64 {
		if d := s.depth.Load(); d != nil && d.err == nil {
			return float64(d.Visible)
		}
		return -1
	})
}
