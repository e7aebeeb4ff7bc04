package consumer

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Everyone who waits goes on when there is room for him, one telling the next.
func TestRoom(t *testing.T) {
	r := newRoom()
	var left atomic.Int64
	take := func() bool {
		for n := left.Load(); n > 0; n = left.Load() {
			if left.CompareAndSwap(n, n-1) {
				return true
			}
		}
		return false
	}
	var all sync.WaitGroup
	var went atomic.Int64
	for range 10 {
		all.Go(func() {
			if r.await(t.Context(), take) {
				went.Add(1)
			}
		})
	}
	time.Sleep(3 * roomPoll)
	require.Zero(t, went.Load())
	left.Store(4)
	r.tell()
	require.Eventually(t, func() bool { return went.Load() == 4 }, 5*time.Second, time.Millisecond)
	left.Store(6) // nobody tells
	all.Wait()
	require.EqualValues(t, 10, went.Load())
}

// Who waits goes when his time is over, even if there is room.
func TestRoomGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	require.False(t, newRoom().await(ctx, func() bool { return false }))
	require.False(t, newRoom().await(ctx, func() bool { return true }))
}

// Messages are admitted to be worked on until they are large enough in all; one
// that is larger than that comes alone.
func TestAdmit(t *testing.T) {
	c := New(Config{})
	of := func(size int) *delivery {
		return &delivery{message: queue.Message{Body: strings.Repeat("x", size)}}
	}
	large, small := of(maxBytesAtWork-1), of(2)
	require.True(t, c.admit(large))
	require.True(t, c.admit(small))
	require.False(t, c.admit(of(1)))
	c.shrink(small)
	require.True(t, c.admit(of(1)))
	require.False(t, c.admit(of(1)))
	c.shrink(large)
	require.True(t, c.admit(of(10*maxBytesAtWork)))
	require.False(t, c.admit(of(0)))
}
