package cache_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
)

func TestFaultsHaveNames(t *testing.T) {
	names := make(map[string]bool)
	all := cache.Faults(0)
	for f := cache.ValueAbsent; f <= cache.MetadataUnreadable; f <<= 1 {
		require.NotEmpty(t, f.String())
		require.False(t, names[f.String()], f.String())
		names[f.String()] = true
		all |= f
	}
	require.Len(t, names, 10)
	require.Len(t, strings.Split(all.String(), ", "), 10)
	require.Empty(t, cache.Faults(0).String())
	require.Equal(t, "value absent, global customer absent", (cache.ValueAbsent | cache.GlobalAbsent).String())
}

func TestFaultsUsable(t *testing.T) {
	for f, want := range map[cache.Faults]bool{
		0: true, cache.TimestampAbsent: true, cache.GlobalAbsent: true, cache.GlobalNewer: true, cache.UsageAbsent: true,
		cache.UsageUnreadable: true, cache.WalletUsageAbsent: true, cache.WalletUsageUnreadable: true,
		cache.ValueAbsent: false, cache.ValueUnreadable: false, cache.MetadataUnreadable: false,
		cache.ValueAbsent | cache.GlobalAbsent: false,
	} {
		require.Equal(t, want, f.Usable(), f.String())
	}
}
