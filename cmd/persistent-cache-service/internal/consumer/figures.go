package consumer

import (
	"maps"
	"time"
)

// Figures are what a consumer tells about its work.
type Figures struct {
	Consumers   int           // receivers that work
	InHand      int           // messages received and not dealt with
	Waiting     int           // of these, waiting for a refetch
	OldestAge   time.Duration // since the oldest of these was sent; 0 without any
	LastMessage time.Time     // when the last message was received; zero: none yet
	Counts      map[string]map[string]uint64
}

// Figures returns the figures of now.
func (c *Consumer) Figures() Figures {
	f := Figures{Consumers: c.Running(), Waiting: c.config.Engine.Waiting(), OldestAge: c.OldestAge()}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.InHand, f.LastMessage = len(c.inHand), c.last
	f.Counts = make(map[string]map[string]uint64, len(c.counts))
	for messageType, outcomes := range c.counts {
		f.Counts[messageType] = maps.Clone(outcomes)
	}
	return f
}

// InHand is how many messages were received and not dealt with.
func (c *Consumer) InHand() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inHand)
}

// OldestAge is the time since the oldest message in hand was sent.
func (c *Consumer) OldestAge() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var oldest time.Time
	for d := range c.inHand {
		at := d.message.SentAt
		if at.IsZero() {
			at = d.received
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(oldest))
}

// memory remembers the last ids, so that what comes again is told once.
type memory struct {
	ids  map[string]struct{}
	ring []string
	next int
}

const remembered = 4096

// add reports whether the id is new.
func (m *memory) add(id string) bool {
	if m.ids == nil {
		m.ids = make(map[string]struct{})
	}
	if _, known := m.ids[id]; known {
		return false
	}
	if len(m.ring) < remembered {
		m.ring = append(m.ring, id)
	} else {
		delete(m.ids, m.ring[m.next])
		m.ring[m.next] = id
		m.next = (m.next + 1) % remembered
	}
	m.ids[id] = struct{}{}
	return true
}
