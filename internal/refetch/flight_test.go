package refetch_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/internal/refetch"
)

// holdUp stops commands of one name until it is let go.
type holdUp struct {
	name    string
	reached chan struct{}
	letGo   chan struct{}
}

func (h *holdUp) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *holdUp) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *holdUp) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		if command.Name() == h.name {
			h.reached <- struct{}{}
			<-h.letGo
		}
		return next(ctx, command)
	}
}

// TestNobodyJoinsWhatIsWritten: an answer that is in Redis is given to nobody
// any more, however long its fetch takes to say goodbye: it may be out of date.
func TestNobodyJoinsWhatIsWritten(t *testing.T) {
	client := redistest.Start(t).Client()
	hook := &holdUp{name: "publish", reached: make(chan struct{}), letGo: make(chan struct{})}
	client.AddHook(hook)
	store := cache.NewStore(cache.Options{Client: client, Prefix: "p", Timeout: time.Second})
	g, s := newGroup(t, func(c *refetch.Config) { c.Store = store })
	t.Cleanup(func() { close(hook.letGo) })
	first, err := g.Get(context.Background(), acme, refetch.Cause{Times: refetch.NoTimes})
	require.NoError(t, err)
	<-hook.reached // written, and about to be announced
	second, err := get(g, acme)
	require.NoError(t, err)
	require.NotSame(t, first, second)
	require.Equal(t, 2, s.count(acme))
}
