package watch_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

// A dependency that fails some of its users is away when it works for nobody.
func TestMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		d := watch.NewDependency(func(s watch.State) { told = append(told, s.Up) })
		failure := errors.New("failure")
		d.Missed(failure)
		require.Equal(t, []bool{false}, told, "nobody has seen it work")
		d.Worked()
		for range 100 {
			time.Sleep(time.Second)
			d.Missed(failure)
			d.Missed(failure)
			d.Missed(failure)
			d.Worked()
		}
		require.Equal(t, []bool{false, true}, told)
		time.Sleep(time.Hour)
		d.Missed(failure)
		d.Missed(failure)
		require.True(t, d.State().Up, "it may have been those")
		require.ErrorIs(t, d.State().LastError, failure)
		d.Missed(failure)
		require.Equal(t, []bool{false, true, false}, told)
		d.Worked()
		require.True(t, d.State().Up)
		time.Sleep(9 * time.Second)
		for range 10 {
			d.Missed(failure)
		}
		require.True(t, d.State().Up)
		time.Sleep(time.Second)
		d.Missed(failure)
		require.False(t, d.State().Up)
	})
}
