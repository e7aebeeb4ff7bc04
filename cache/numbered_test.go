package cache_test

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// epoch is the time of the change number 0; change n is n milliseconds later.
const epoch int64 = 1780308000000

func changeTime(n int64) time.Time { return time.UnixMilli(epoch + n).UTC() }

var (
	numberedKey = cache.Key{CustomerID: "numbered"}
	meter       = cache.Ref{ID: "meter"}
)

// numberedState is the state of a customer after change n of its entitlements
// and change u of its usage. The numbers stand in the content as well as in
// the times, so that a reader can tell whether they belong together.
func numberedState(n, u int64) entitlements.State {
	limit := float64(n)
	return entitlements.State{Records: []entitlements.Record{{
		Definition: entitlements.Definition{
			Feature:    entitlements.Feature{ID: meter.ID, Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental},
			UsageLimit: &limit,
			UpdatedAt:  changeTime(n),
		},
		Usage:    numberedUsage(u),
		HasUsage: true,
	}}}
}

func numberedUsage(u int64) entitlements.Usage {
	return entitlements.Usage{Current: float64(u), UpdatedAt: changeTime(u)}
}

// numbers are what one reading of a numbered customer says.
type numbers struct {
	valueTime, value int64
	usageTime, usage int64
}

// whole reports whether neither pair is torn.
func (n numbers) whole() bool { return n.valueTime == n.value && n.usageTime == n.usage }

// readNumbers reads a numbered customer; ok is false if it is a miss.
func readNumbers(ctx context.Context, s *cache.Store, k cache.Key) (n numbers, ok bool, err error) {
	var r cache.Reading
	if err := s.Read(ctx, k, meter, true, &r); err != nil || r.Faults != 0 || r.Facts.Definition == nil {
		return numbers{}, false, err
	}
	return numbers{
		valueTime: r.Times.Value - epoch, value: int64(*r.Facts.Definition.UsageLimit),
		usageTime: r.Facts.Usage.UpdatedAt.UnixMilli() - epoch, usage: int64(r.Facts.Usage.Current),
	}, true, nil
}

func requireNumbers(t require.TestingT, s *cache.Store, k cache.Key, n, u int64) {
	got, ok, err := readNumbers(context.Background(), s, k)
	require.NoError(t, err)
	require.True(t, ok, "%v is a miss", k)
	require.Equal(t, numbers{n, n, u, u}, got)
}
