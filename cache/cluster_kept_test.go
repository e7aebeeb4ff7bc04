package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// On a Cluster a value can be read with the timestamp of the one after it. It
// is not kept as what that timestamp stands for.
func TestTornReadingIsNotConfirmed(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	client := cluster.Client()
	hook := &splitHook{}
	client.AddHook(hook)
	writer := cache.NewStore(cache.Options{Client: cluster.Client(), Prefix: "lab"})
	store := cache.NewStore(cache.Options{Client: client, Prefix: "lab", Kept: true})
	ctx := context.Background()
	write := func(n int64) {
		_, err := writer.WriteState(ctx, numberedKey, numberedState(n, 1), cache.WriteOptions{})
		require.NoError(t, err)
	}
	write(100)

	hook.between = func() { write(200) }
	var r, again cache.Reading
	require.NoError(t, store.Read(ctx, numberedKey, meter, true, &r))
	require.Nil(t, hook.between, "it was torn")
	require.Equal(t, 100.0, *r.Facts.Definition.UsageLimit)
	same, err := store.Revalidate(ctx, numberedKey, meter, cache.NewEntry(&r, true, time.Now()), &again)
	require.NoError(t, err)
	require.False(t, same)

	require.NoError(t, store.Read(ctx, numberedKey, meter, true, &r))
	require.Equal(t, 200.0, *r.Facts.Definition.UsageLimit)
	same, err = store.Revalidate(ctx, numberedKey, meter, cache.NewEntry(&r, true, time.Now()), &again)
	require.NoError(t, err)
	require.True(t, same)

	hook.between = func() { write(300) }
	state, err := store.ReadState(ctx, numberedKey)
	require.NoError(t, err)
	require.Nil(t, hook.between, "it was torn")
	_, entries := cache.NewList(state, time.Now())
	same, err = store.Revalidate(ctx, numberedKey, meter, entries[0], &again)
	require.NoError(t, err)
	require.False(t, same && *again.Facts.Definition.UsageLimit != 300)
}

// splitHook performs the first command of a reading by itself, and then does
// between, once.
type splitHook struct{ between func() }

func (h *splitHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *splitHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *splitHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		between := h.between
		if between == nil || len(commands) < 3 { // the timestamps, which are read first, are fewer
			return next(ctx, commands)
		}
		h.between = nil
		if err := next(ctx, commands[:1]); err != nil {
			return err
		}
		between()
		return next(ctx, commands[1:])
	}
}
