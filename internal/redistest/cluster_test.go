package redistest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	require.Len(t, cluster.Addrs(), 3)
	c := cluster.Client()
	for i := range 50 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint(i), i, 0).Err())
	}
	total := int64(0)
	for _, s := range cluster.Servers() {
		n := s.Client().DBSize(t.Context()).Val()
		require.Positive(t, n, "every master has a share")
		total += n
	}
	require.EqualValues(t, 50, total)
	require.ErrorContains(t, cluster.Servers()[0].Client().MGet(t.Context(), "a", "b").Err(), "CROSSSLOT")

	cluster.FlushAll()
	require.Zero(t, c.DBSize(t.Context()).Val())
}
