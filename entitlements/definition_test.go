package entitlements_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/entitlements"
)

func TestKind(t *testing.T) {
	feature := func(ft entitlements.FeatureType, mt entitlements.MeterType) *entitlements.Definition {
		return &entitlements.Definition{Feature: entitlements.Feature{Type: ft, MeterType: mt}}
	}
	for _, tc := range []struct {
		name      string
		d         *entitlements.Definition
		want      entitlements.Kind
		trackable bool
	}{
		{"boolean", feature("BOOLEAN", ""), entitlements.KindBoolean, false},
		{"boolean, None", feature("BOOLEAN", "None"), entitlements.KindBoolean, false},
		{"enum", feature("ENUM", ""), entitlements.KindEnum, false},
		{"number", feature("NUMBER", ""), entitlements.KindNumeric, false},
		{"number, None", feature("NUMBER", "None"), entitlements.KindNumeric, false},
		{"number, Incremental", feature("NUMBER", "Incremental"), entitlements.KindMetered, true},
		{"number, Fluctuating", feature("NUMBER", "Fluctuating"), entitlements.KindMetered, true},
		{"number, unknown meter", feature("NUMBER", "Spiral"), entitlements.KindUnknown, false},
		{"unknown", feature("COLOUR", "Incremental"), entitlements.KindUnknown, false},
		{"no type", feature("", ""), entitlements.KindUnknown, false},
		{"credit", &entitlements.Definition{IsCredit: true}, entitlements.KindCredit, true},
		{"nil", nil, entitlements.KindUnknown, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, tc.d.Kind())
			require.Equal(t, tc.trackable, tc.d.UsageTrackable())
		})
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	until := func(v time.Time) *entitlements.Definition { return &entitlements.Definition{ValidUntil: v} }

	require.False(t, until(time.Time{}).Expired(now), "no end")
	require.False(t, until(now.Add(1)).Expired(now), "still valid")
	require.True(t, until(now).Expired(now), "ends now")
	require.True(t, until(now.Add(-1)).Expired(now), "over")
	require.False(t, (*entitlements.Definition)(nil).Expired(now))
}
