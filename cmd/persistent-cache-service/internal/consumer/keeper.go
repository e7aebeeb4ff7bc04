package consumer

import (
	"context"
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

// keepHidden keeps the messages in hand hidden from other receivers, until ctx
// ends.
func (c *Consumer) keepHidden(ctx context.Context) {
	for watch.Sleep(ctx, c.config.Visibility/6) {
		due := c.due(time.Now())
		for len(due) > 0 && ctx.Err() == nil {
			batch := due[:min(len(due), queue.MaxBatch)]
			due = due[len(batch):]
			c.extend(ctx, batch)
		}
	}
}

// due returns the messages that were hidden more than a third of their time
// ago.
func (c *Consumer) due(now time.Time) []*delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*delivery
	for d := range c.inHand {
		if d.hiddenUntil.Sub(now) < c.config.Visibility*2/3 {
			due = append(due, d)
		}
	}
	return due
}

func (c *Consumer) extend(ctx context.Context, batch []*delivery) {
	receipts := make([]string, len(batch))
	for i, d := range batch {
		receipts[i] = d.message.Receipt
	}
	until := time.Now().Add(c.config.Visibility)
	failed, err := c.config.Queue.SetVisibility(ctx, receipts, c.config.Visibility)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.visibilityFailed(err)
	}
	lost := make(map[string]bool, len(failed))
	for _, receipt := range failed {
		lost[receipt] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range batch {
		if !lost[d.message.Receipt] {
			d.hiddenUntil = until
		}
	}
}
