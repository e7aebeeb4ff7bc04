package apply_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/apply"
)

// beforeScan does something before the nth SCAN.
type beforeScan struct {
	n     int32
	do    func()
	scans atomic.Int32
}

func (*beforeScan) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (*beforeScan) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (b *beforeScan) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, c goredis.Cmder) error {
		if c.Name() == "scan" && b.scans.Add(1) == b.n {
			b.do()
		}
		return next(ctx, c)
	}
}

// Redis restarts in the middle of a purge, with all that it held. It then has
// its keys in another order, in which the place that was reached means nothing:
// none may be left out.
func TestRedisRestartsDuringAPurge(t *testing.T) {
	f := newFixture(t, nil)
	const customers = 5000
	pipe := f.redis.Pipeline()
	for i := range customers {
		pipe.Set(t.Context(), fmt.Sprintf("p:c_%d", i), "{}", 0)
		pipe.Set(t.Context(), fmt.Sprintf("p:c_%d#timestamp", i), "1", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	f.redis.AddHook(&beforeScan{n: 8, do: func() {
		require.NoError(t, f.redis.Save(context.Background()).Err())
		f.server.Stop()
		f.server.Start()
	}})
	require.Equal(t, apply.Purged, f.do(published(t0)).Outcome)
	keys, err := f.redis.Keys(t.Context(), "p:c_*").Result()
	require.NoError(t, err)
	require.Empty(t, len(keys), "keys that are left")
}
