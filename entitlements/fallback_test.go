package entitlements_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

func fallback(reason entitlements.AccessDeniedReason) entitlements.Answer {
	return entitlements.Answer{
		HasAccess: reason == "", IsFallback: true, AccessDeniedReason: reason, Source: entitlements.SourceFallback,
	}
}

func TestFallbackAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fb     *entitlements.EntitlementFallback
		cfb    *entitlements.CreditFallback
		reason entitlements.AccessDeniedReason
		want   entitlements.AccessDeniedReason
	}{
		{"none", nil, nil, "", "Unknown"},
		{"none, with a reason", nil, nil, "FeatureTypeMismatch", "FeatureTypeMismatch"},
		{"zero", &entitlements.EntitlementFallback{}, &entitlements.CreditFallback{}, "", "Unknown"},
		{"zero, with a reason", &entitlements.EntitlementFallback{}, &entitlements.CreditFallback{}, "FeatureTypeMismatch", "FeatureTypeMismatch"},
		{"allowed", &entitlements.EntitlementFallback{HasAccess: true}, &entitlements.CreditFallback{HasAccess: true}, "", ""},
		{"allowed, with a reason", &entitlements.EntitlementFallback{HasAccess: true}, &entitlements.CreditFallback{HasAccess: true}, "FeatureTypeMismatch", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := fallback(tc.want)
			feature := entitlements.Feature{ID: "f"}
			currency := credits.Currency{ID: "c"}
			values := []string{"eu"}

			require.Equal(t, entitlements.BooleanEntitlement{Answer: want, Feature: feature},
				entitlements.FallbackBoolean("f", tc.fb, tc.reason))
			require.Equal(t, entitlements.NumericEntitlement{Answer: want, Feature: feature},
				entitlements.FallbackNumeric("f", tc.fb, tc.reason))
			require.Equal(t, entitlements.EnumEntitlement{Answer: want, Feature: feature, RequestedValues: values},
				entitlements.FallbackEnum("f", values, tc.fb, tc.reason))
			require.Equal(t, entitlements.MeteredEntitlement{Answer: want, Feature: feature, RequestedUsage: 3},
				entitlements.FallbackMetered("f", 3, tc.fb, tc.reason))
			require.Equal(t, entitlements.CreditEntitlement{Answer: want, Currency: currency, RequestedUsage: 3},
				entitlements.FallbackCredit("c", 3, tc.cfb, tc.reason))

			req := entitlements.Request{RequestedUsage: 3, RequestedValues: values}
			require.Equal(t, entitlements.Entitlement{
				Answer: want, Feature: feature, RequestedUsage: 3, RequestedValues: values,
			}, entitlements.FallbackEntitlement("f", "", req, tc.fb, nil, tc.reason))
			require.Equal(t, entitlements.Entitlement{
				Answer: want, Kind: entitlements.KindCredit, Currency: currency, RequestedUsage: 3,
			}, entitlements.FallbackEntitlement("", "c", req, nil, tc.cfb, tc.reason))
		})
	}
}

func TestFallbackNumbers(t *testing.T) {
	fb := &entitlements.EntitlementFallback{HasAccess: true, UsageLimit: new(10.0), Value: new(25.0)}
	require.Equal(t, 25.0, entitlements.FallbackNumeric("f", fb, "").Value)
	metered := entitlements.FallbackMetered("f", 11, fb, "")
	require.Equal(t, 10.0, metered.UsageLimit)
	require.True(t, metered.HasAccess, "the limit is reported, not enforced")
	generic := entitlements.FallbackEntitlement("f", "", entitlements.Request{}, fb, nil, "")
	require.Equal(t, 25.0, generic.Value)
	require.Equal(t, 10.0, generic.UsageLimit)

	fb.IsUnlimited = true
	numeric := entitlements.FallbackNumeric("f", fb, "")
	require.True(t, numeric.IsUnlimited)
	require.Zero(t, numeric.Value)
	metered = entitlements.FallbackMetered("f", 11, fb, "")
	require.True(t, metered.IsUnlimited)
	require.Zero(t, metered.UsageLimit)
	generic = entitlements.FallbackEntitlement("f", "", entitlements.Request{}, fb, nil, "")
	require.True(t, generic.IsUnlimited)
	require.Zero(t, generic.Value)
	require.Zero(t, generic.UsageLimit)

	cfb := &entitlements.CreditFallback{HasAccess: true, UsageLimit: 10, CurrentUsage: 12.5}
	want := entitlements.CreditEntitlement{
		Answer: fallback(""), Currency: credits.Currency{ID: "c"},
		UsageLimit: 10, CurrentUsage: 12.5, Remaining: -2.5, RequestedUsage: 3,
	}
	require.Equal(t, want, entitlements.FallbackCredit("c", 3, cfb, ""))
	require.Equal(t, entitlements.Entitlement{
		Answer: want.Answer, Kind: entitlements.KindCredit, Currency: want.Currency,
		UsageLimit: 10, CurrentUsage: 12.5, Remaining: -2.5, RequestedUsage: 3,
	}, entitlements.FallbackEntitlement("", "c", entitlements.Request{RequestedUsage: 3}, nil, cfb, ""))
}

func TestFallbackEnumValues(t *testing.T) {
	named := []string{"eu", "us"}
	for _, tc := range []struct {
		name      string
		allowed   bool
		values    []string
		requested []string
		want      entitlements.AccessDeniedReason
	}{
		{"none requested", true, named, nil, ""},
		{"a named one", true, named, []string{"us"}, ""},
		{"another", true, named, []string{"us", "cn"}, "RequestedValuesMismatch"},
		{"none named", true, nil, []string{"cn"}, ""},
		{"denied, a named one", false, named, []string{"us"}, "Unknown"},
		{"denied, another", false, named, []string{"cn"}, "Unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fb := &entitlements.EntitlementFallback{HasAccess: tc.allowed, EnumValues: tc.values}
			feature := entitlements.Feature{ID: "f"}
			require.Equal(t, entitlements.EnumEntitlement{
				Answer: fallback(tc.want), Feature: feature, EnumValues: tc.values, RequestedValues: tc.requested,
			}, entitlements.FallbackEnum("f", tc.requested, fb, ""))
			require.Equal(t, entitlements.Entitlement{
				Answer: fallback(tc.want), Feature: feature, EnumValues: tc.values, RequestedValues: tc.requested,
			}, entitlements.FallbackEntitlement("f", "", entitlements.Request{RequestedValues: tc.requested}, fb, nil, ""))
		})
	}
}
