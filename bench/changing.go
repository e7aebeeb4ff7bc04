package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	stigg "github.com/stiggio/server-sdk-go"
)

// variantCount has no factor in common with the number of customers, so that
// one that is read again has another variant.
const variantCount = 31

// changing replaces the customer values that a client reads, so that each read
// of a customer sees another one than the read before. A writer that did the
// same in Redis would take more of the machine than the reads.
type changing struct {
	variants []string // of one value, as long as it, different in the last entry
	reads    atomic.Int64
}

func newChanging(value string) (*changing, error) {
	const last = `"API calls `
	at := strings.LastIndex(value, last)
	if at < 0 {
		return nil, fmt.Errorf("the customer value has no %q", last)
	}
	h := &changing{}
	for i := range variantCount {
		h.variants = append(h.variants, fmt.Sprintf("%s%02d%s", value[:at+1], i, value[at+3:]))
	}
	return h, nil
}

func (h *changing) next() string { return h.variants[h.reads.Add(1)%variantCount] }

// DialHook changes nothing.
func (h *changing) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing: a large value that is not the one that
// the SDK remembers is read once more, by an MGET.
func (h *changing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook replaces the first reply of an MGET.
func (h *changing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		if mget, ok := command.(*redis.SliceCmd); ok && err == nil {
			mget.Val()[0] = h.next()
		}
		return err
	}
}

// newChangingPool is newPool with values that change.
func newChangingPool(b *bed, c *customers) (*redis.Client, error) {
	hook, err := newChanging(c.value)
	if err != nil {
		return nil, err
	}
	client := b.newPool()
	client.AddHook(hook)
	return client, nil
}

func pooledChanging(which func(*customers) []string, keys keysOf) way {
	return way{name: "go-redis", open: func(b *bed, c *customers) (read, error) {
		client, err := newChangingPool(b, c)
		if err != nil {
			return nil, err
		}
		return mget(client, c, which(c), keys), nil
	}}
}

func sdkChanging(which func(*customers) []string, question ask) way {
	return way{name: sdkName, open: func(b *bed, c *customers) (read, error) {
		client, err := newChangingPool(b, c)
		if err != nil {
			return nil, err
		}
		sdk, err := b.newSDK(&stigg.RedisConfig{Client: client}, nil)
		if err != nil {
			return nil, err
		}
		return check(sdk, stigg.SourceRedis, c, which(c), question), nil
	}}
}
