package entitlements_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

var (
	now      = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	dataTime = time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)
)

func feature(ft entitlements.FeatureType, mt entitlements.MeterType) entitlements.Feature {
	return entitlements.Feature{ID: "f", DisplayName: "the feature", Type: ft, MeterType: mt, Units: "unit"}
}

func facts(d entitlements.Definition) *entitlements.Facts {
	return &entitlements.Facts{
		Definition: &d, Source: entitlements.SourceRedis, Stale: true, DataTime: dataTime,
	}
}

func granted() entitlements.Answer { return denied("") }

func denied(reason entitlements.AccessDeniedReason) entitlements.Answer {
	return entitlements.Answer{
		HasAccess: reason == "", AccessDeniedReason: reason,
		Source: entitlements.SourceRedis, Stale: true, DataTime: dataTime,
	}
}

func mismatch() entitlements.Answer {
	return entitlements.Answer{
		IsFallback: true, AccessDeniedReason: entitlements.FeatureTypeMismatch, Source: entitlements.SourceFallback,
	}
}

func booleanDef() entitlements.Definition {
	return entitlements.Definition{Feature: feature("BOOLEAN", "None")}
}

func enumDef(values ...string) entitlements.Definition {
	return entitlements.Definition{Feature: feature("ENUM", ""), EnumValues: values}
}

func numericDef(limit *float64) entitlements.Definition {
	return entitlements.Definition{Feature: feature("NUMBER", "None"), UsageLimit: limit}
}

func meteredDef(limit *float64) entitlements.Definition {
	return entitlements.Definition{Feature: feature("NUMBER", "Incremental"), UsageLimit: limit}
}

func creditBackedDef(limit *float64, rate float64) entitlements.Definition {
	d := meteredDef(limit)
	d.CreditRate = &credits.Rate{Amount: rate, CurrencyID: "c"}
	return d
}

func creditDef(granted float64) entitlements.Definition {
	return entitlements.Definition{
		IsCredit: true, Currency: credits.Currency{ID: "c", DisplayName: "the credit"}, UsageLimit: &granted,
	}
}

func TestMissing(t *testing.T) {
	for _, tc := range []struct {
		name            string
		facts           entitlements.Facts
		feature, credit entitlements.AccessDeniedReason
	}{
		{"others are there", entitlements.Facts{}, "NoFeatureEntitlementInSubscription", "EntitlementNotFound"},
		{"none is there", entitlements.Facts{NoEntitlements: true}, "CustomerNotFound", "CustomerNotFound"},
		{"a reason for all", entitlements.Facts{StateDeniedReason: "NoActiveSubscription"}, "NoActiveSubscription", "NoActiveSubscription"},
		{"a reason for all of none", entitlements.Facts{StateDeniedReason: "CustomerIsArchived", NoEntitlements: true}, "CustomerIsArchived", "CustomerIsArchived"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.facts
			f.Source, f.Stale, f.DataTime = entitlements.SourceRedis, true, dataTime
			feature := entitlements.Feature{ID: "f"}
			values := []string{"eu"}

			boolean, ok := entitlements.DecideBoolean(&f, "f", now)
			require.True(t, ok)
			require.Equal(t, entitlements.BooleanEntitlement{Answer: denied(tc.feature), Feature: feature}, boolean)

			numeric, ok := entitlements.DecideNumeric(&f, "f", now)
			require.True(t, ok)
			require.Equal(t, entitlements.NumericEntitlement{Answer: denied(tc.feature), Feature: feature}, numeric)

			enum, ok := entitlements.DecideEnum(&f, "f", values, now)
			require.True(t, ok)
			require.Equal(t, entitlements.EnumEntitlement{
				Answer: denied(tc.feature), Feature: feature, RequestedValues: values,
			}, enum)

			metered, ok := entitlements.DecideMetered(&f, "f", 3, now)
			require.True(t, ok)
			require.Equal(t, entitlements.MeteredEntitlement{
				Answer: denied(tc.feature), Feature: feature, RequestedUsage: 3,
			}, metered)

			credit, ok := entitlements.DecideCredit(&f, "c", 3, now)
			require.True(t, ok)
			require.Equal(t, entitlements.CreditEntitlement{
				Answer: denied(tc.credit), Currency: credits.Currency{ID: "c"}, RequestedUsage: 3,
			}, credit)

			req := entitlements.Request{RequestedUsage: 3, RequestedValues: values}
			require.Equal(t, entitlements.Entitlement{
				Answer: denied(tc.feature), Feature: feature, RequestedUsage: 3, RequestedValues: values,
			}, entitlements.Decide(&f, "f", false, req, now))
			require.Equal(t, entitlements.Entitlement{
				Answer: denied(tc.credit), Kind: entitlements.KindCredit, Currency: credits.Currency{ID: "c"}, RequestedUsage: 3,
			}, entitlements.Decide(&f, "c", true, req, now))
		})
	}
}

// TestMismatch asks every getter for every kind: it answers for its own, also
// when that is denied, and denies the others.
func TestMismatch(t *testing.T) {
	defs := map[entitlements.Kind]entitlements.Definition{
		entitlements.KindBoolean: booleanDef(),
		entitlements.KindNumeric: numericDef(new(5.0)),
		entitlements.KindEnum:    enumDef("eu"),
		entitlements.KindMetered: meteredDef(new(5.0)),
		entitlements.KindCredit:  creditDef(5),
		entitlements.KindUnknown: {Feature: feature("COLOUR", "")},
	}
	for is, d := range defs {
		f := facts(d)
		boolean, isBoolean := entitlements.DecideBoolean(f, "f", now)
		numeric, isNumeric := entitlements.DecideNumeric(f, "f", now)
		enum, isEnum := entitlements.DecideEnum(f, "f", nil, now)
		metered, isMetered := entitlements.DecideMetered(f, "f", 1, now)
		credit, isCredit := entitlements.DecideCredit(f, "c", 1, now)
		for _, got := range []struct {
			kind   entitlements.Kind
			ok     bool
			answer entitlements.Answer
			id     string
		}{
			{entitlements.KindBoolean, isBoolean, boolean.Answer, boolean.Feature.ID},
			{entitlements.KindNumeric, isNumeric, numeric.Answer, numeric.Feature.ID},
			{entitlements.KindEnum, isEnum, enum.Answer, enum.Feature.ID},
			{entitlements.KindMetered, isMetered, metered.Answer, metered.Feature.ID},
			{entitlements.KindCredit, isCredit, credit.Answer, credit.Currency.ID},
		} {
			want := mismatch()
			if got.kind == is {
				want = granted()
			}
			require.Equal(t, got.kind == is, got.ok, "%q asked for as %q", is, got.kind)
			require.Equal(t, want, got.answer, "%q asked for as %q", is, got.kind)
			require.NotEmpty(t, got.id)
		}
	}
}

func TestDecideBoolean(t *testing.T) {
	d := booleanDef()
	e, ok := entitlements.DecideBoolean(facts(d), "f", now)
	require.True(t, ok)
	require.Equal(t, entitlements.BooleanEntitlement{Answer: granted(), Feature: d.Feature}, e)

	// The validity is for whoever fetches; the state's reason for who has nothing.
	d.ValidUntil = now.Add(-time.Hour)
	f := facts(d)
	f.StateDeniedReason = entitlements.NoActiveSubscription
	e, _ = entitlements.DecideBoolean(f, "f", now)
	require.Equal(t, granted(), e.Answer)
}

func TestDecideNumeric(t *testing.T) {
	unlimited := numericDef(new(25.0))
	unlimited.HasUnlimitedUsage = true
	revoked := numericDef(new(25.0))
	revoked.AccessDeniedReason = entitlements.Revoked
	for _, tc := range []struct {
		name      string
		d         entitlements.Definition
		answer    entitlements.Answer
		value     float64
		unlimited bool
	}{
		{"value", numericDef(new(25.0)), granted(), 25, false},
		{"no value", numericDef(nil), granted(), 0, false},
		{"unlimited", unlimited, granted(), 0, true},
		{"denied", revoked, denied("Revoked"), 25, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, ok := entitlements.DecideNumeric(facts(tc.d), "f", now)
			require.True(t, ok)
			require.Equal(t, entitlements.NumericEntitlement{
				Answer: tc.answer, Feature: tc.d.Feature, Value: tc.value, IsUnlimited: tc.unlimited,
			}, e)
		})
	}
}

func TestDecideEnum(t *testing.T) {
	for _, tc := range []struct {
		name      string
		allowed   []string
		requested []string
		want      entitlements.AccessDeniedReason
	}{
		{"none requested", []string{"eu", "us"}, nil, ""},
		{"one", []string{"eu", "us"}, []string{"us"}, ""},
		{"all, in another order", []string{"eu", "us"}, []string{"us", "eu", "us"}, ""},
		{"another", []string{"eu", "us"}, []string{"cn"}, "RequestedValuesMismatch"},
		{"one of them another", []string{"eu", "us"}, []string{"eu", "cn"}, "RequestedValuesMismatch"},
		{"another case", []string{"eu"}, []string{"EU"}, "RequestedValuesMismatch"},
		{"nothing allowed", nil, []string{"eu"}, "RequestedValuesMismatch"},
		{"nothing allowed, none requested", nil, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := enumDef(tc.allowed...)
			want := entitlements.EnumEntitlement{
				Answer: denied(tc.want), Feature: d.Feature, EnumValues: tc.allowed, RequestedValues: tc.requested,
			}
			e, ok := entitlements.DecideEnum(facts(d), "f", tc.requested, now)
			require.True(t, ok)
			require.Equal(t, want, e)

			d.AccessDeniedReason = entitlements.Revoked
			want.Answer = denied(entitlements.Revoked)
			e, _ = entitlements.DecideEnum(facts(d), "f", tc.requested, now)
			require.Equal(t, want, e, "the entitlement's own reason comes first")
		})
	}
}

// TestReasonsDeny: what has no usage is denied for any reason, what has is
// not denied for usage that ran out once.
func TestReasonsDeny(t *testing.T) {
	for _, tc := range []struct {
		reason    entitlements.AccessDeniedReason
		byNumbers bool
	}{
		{"RequestedUsageExceedingLimit", true},
		{"InsufficientCredits", true},
		{"BudgetExceeded", false},
		{"Revoked", false},
		{"CustomerIsArchived", false},
		{"FeatureNotFound", false},
		{"Unknown", false},
		{"OfTomorrow", false},
	} {
		t.Run(string(tc.reason), func(t *testing.T) {
			with := func(d entitlements.Definition) *entitlements.Facts {
				d.AccessDeniedReason = tc.reason
				return facts(d)
			}
			tracked := denied(tc.reason)
			if tc.byNumbers {
				tracked = granted()
			}
			generic := func(f *entitlements.Facts, isCredit bool) entitlements.Answer {
				return entitlements.Decide(f, "f", isCredit, entitlements.Request{RequestedUsage: 1}, now).Answer
			}

			f := with(booleanDef())
			boolean, _ := entitlements.DecideBoolean(f, "f", now)
			require.Equal(t, denied(tc.reason), boolean.Answer)
			require.Equal(t, denied(tc.reason), generic(f, false))

			f = with(numericDef(new(5.0)))
			numeric, _ := entitlements.DecideNumeric(f, "f", now)
			require.Equal(t, denied(tc.reason), numeric.Answer)
			require.Equal(t, denied(tc.reason), generic(f, false))

			f = with(enumDef("eu"))
			enum, _ := entitlements.DecideEnum(f, "f", nil, now)
			require.Equal(t, denied(tc.reason), enum.Answer)
			require.Equal(t, denied(tc.reason), generic(f, false))

			f = with(meteredDef(new(5.0)))
			metered, _ := entitlements.DecideMetered(f, "f", 1, now)
			require.Equal(t, tracked, metered.Answer)
			require.Equal(t, tracked, generic(f, false))

			f = with(creditDef(5))
			credit, _ := entitlements.DecideCredit(f, "c", 1, now)
			require.Equal(t, tracked, credit.Answer)
			require.Equal(t, tracked, generic(f, true))

			f = facts(creditBackedDef(nil, 1))
			f.Wallet = with(creditDef(5)).Definition
			metered, _ = entitlements.DecideMetered(f, "f", 1, now)
			require.Equal(t, tracked, metered.Answer, "the wallet's reason")

			f.Definition = with(creditBackedDef(nil, 1)).Definition
			f.Wallet = facts(creditDef(5)).Definition
			metered, _ = entitlements.DecideMetered(f, "f", 1, now)
			require.Equal(t, tracked, metered.Answer, "the reason of the credit-backed feature")

			require.Equal(t, denied(tc.reason), generic(with(entitlements.Definition{Feature: feature("COLOUR", "")}), false))
		})
	}
}

func TestDecideMetered(t *testing.T) {
	const exceeding = entitlements.RequestedUsageExceedingLimit
	tenth, fifth := 0.1, 0.2
	for _, tc := range []struct {
		name            string
		limit           *float64
		unlimited, soft bool
		used, requested float64
		want            entitlements.AccessDeniedReason
		reported        float64
	}{
		{"below", new(100.0), false, false, 40, 10, "", 100},
		{"up to the limit", new(100.0), false, false, 40, 60, "", 100},
		{"over the limit", new(100.0), false, false, 40, 61, exceeding, 100},
		{"none requested, at the limit", new(100.0), false, false, 100, 0, "", 100},
		{"none requested, over the limit", new(100.0), false, false, 101, 0, exceeding, 100},
		{"rounding", new(0.3), false, false, tenth, fifth, "", 0.3},
		{"more than rounding", new(0.3), false, false, tenth, fifth + 1e-6, exceeding, 0.3},
		{"fractions", new(1.5), false, false, 1, 0.5, "", 1.5},
		{"no limit, none requested", nil, false, false, 0, 0, "", 0},
		{"no limit", nil, false, false, 0, 1e-12, exceeding, 0},
		{"soft", new(100.0), false, true, 500, 10, "", 100},
		{"unlimited", nil, true, false, 500, 10, "", 0},
		{"unlimited with a limit", new(100.0), true, false, 500, 10, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := meteredDef(tc.limit)
			d.HasUnlimitedUsage, d.HasSoftLimit = tc.unlimited, tc.soft
			f := facts(d)
			f.Usage.Current = tc.used
			e, ok := entitlements.DecideMetered(f, "f", tc.requested, now)
			require.True(t, ok)
			require.Equal(t, entitlements.MeteredEntitlement{
				Answer: denied(tc.want), Feature: d.Feature, UsageLimit: tc.reported,
				IsUnlimited: tc.unlimited, HasSoftLimit: tc.soft,
				CurrentUsage: tc.used, RequestedUsage: tc.requested,
			}, e)
		})
	}
}

func TestDecideMeteredRollsOver(t *testing.T) {
	d := meteredDef(new(100.0))
	d.ResetPeriod = entitlements.ResetMonth
	d.UsagePeriodAnchor = at(t, "2026-01-31T08:00:00Z")
	f := facts(d)
	f.Usage = entitlements.Usage{
		Current: 100, PeriodStart: at(t, "2026-05-31T08:00:00Z"), PeriodEnd: at(t, "2026-06-30T08:00:00Z"),
	}
	want := entitlements.MeteredEntitlement{
		Answer: denied(entitlements.RequestedUsageExceedingLimit), Feature: d.Feature, UsageLimit: 100,
		CurrentUsage: 100, RequestedUsage: 100,
		ResetPeriod: entitlements.ResetMonth, UsagePeriodAnchor: d.UsagePeriodAnchor,
		UsagePeriodStart: f.Usage.PeriodStart, UsagePeriodEnd: f.Usage.PeriodEnd,
	}
	e, ok := entitlements.DecideMetered(f, "f", 100, f.Usage.PeriodEnd.Add(-1))
	require.True(t, ok)
	require.Equal(t, want, e)

	want.Answer, want.CurrentUsage = granted(), 0
	want.UsagePeriodStart, want.UsagePeriodEnd = f.Usage.PeriodEnd, at(t, "2026-07-31T08:00:00Z")
	e, ok = entitlements.DecideMetered(f, "f", 100, f.Usage.PeriodEnd)
	require.True(t, ok)
	require.Equal(t, want, e)

	generic := entitlements.Decide(f, "f", false, entitlements.Request{RequestedUsage: 100}, f.Usage.PeriodEnd)
	require.Equal(t, granted(), generic.Answer)
	require.Zero(t, generic.CurrentUsage)
	require.Equal(t, want.UsagePeriodStart, generic.UsagePeriodStart)
	require.Equal(t, want.UsagePeriodEnd, generic.UsagePeriodEnd)
}

func TestDecideCreditBacked(t *testing.T) {
	const insufficient = entitlements.InsufficientCredits
	for _, tc := range []struct {
		name              string
		granted, consumed float64
		walletSoft        bool
		rate              float64
		requested         float64
		limit             *float64
		soft, unlimited   bool
		want              entitlements.AccessDeniedReason
	}{
		{"enough", 100, 90, false, 2, 4, nil, false, false, ""},
		{"exactly enough", 100, 90, false, 2, 5, nil, false, false, ""},
		{"too little", 100, 90, false, 2, 6, nil, false, false, insufficient},
		{"nothing requested, some left", 100, 90, false, 2, 0, nil, false, false, ""},
		{"nothing requested, none left", 100, 100, false, 2, 0, nil, false, false, insufficient},
		{"free, none left", 100, 100, false, 0, 5, nil, false, false, insufficient},
		{"overdraft", 100, 130, false, 2, 0, nil, false, false, insufficient},
		{"rounding", 0.3, 0.1, false, 0.1, 2, nil, false, false, ""},
		{"wallet's soft limit", 100, 130, true, 2, 5, nil, false, false, ""},
		{"feature's soft limit", 100, 130, false, 2, 5, nil, true, false, ""},
		{"unlimited feature, none left", 100, 100, false, 2, 1, nil, false, true, insufficient},
		{"unlimited feature, enough", 100, 0, false, 2, 1, nil, false, true, ""},
		{"feature's own limit is used up", 100, 0, false, 2, 1, new(0.0), false, false, ""},
		{"feature's own limit is far", 100, 100, false, 2, 1, new(1000.0), false, false, insufficient},
		{"cost overflows", 100, 0, false, 1e200, 1e200, nil, false, false, insufficient},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := creditBackedDef(tc.limit, tc.rate)
			d.HasSoftLimit, d.HasUnlimitedUsage = tc.soft, tc.unlimited
			wallet := creditDef(tc.granted)
			wallet.HasSoftLimit = tc.walletSoft
			f := facts(d)
			f.Usage.Current = 7
			f.Wallet = &wallet
			f.WalletUsage.Current = tc.consumed

			e, ok := entitlements.DecideMetered(f, "f", tc.requested, now)
			require.True(t, ok)
			require.Equal(t, denied(tc.want), e.Answer)
			require.Equal(t, 7.0, e.CurrentUsage, "the feature's usage, not the wallet's")
			require.Equal(t, tc.soft, e.HasSoftLimit, "the feature's, not the wallet's")
		})
	}

	t.Run("a revoked wallet", func(t *testing.T) {
		d := creditBackedDef(nil, 1)
		d.HasSoftLimit, d.HasUnlimitedUsage = true, true
		wallet := creditDef(100)
		wallet.AccessDeniedReason, wallet.HasSoftLimit = entitlements.Revoked, true
		f := facts(d)
		f.Wallet = &wallet
		e, _ := entitlements.DecideMetered(f, "f", 1, now)
		require.Equal(t, denied(entitlements.Revoked), e.Answer)
	})
	t.Run("no wallet", func(t *testing.T) {
		f := facts(creditBackedDef(new(10.0), 5))
		f.Usage.Current = 4
		e, _ := entitlements.DecideMetered(f, "f", 6, now)
		require.Equal(t, granted(), e.Answer)
		e, _ = entitlements.DecideMetered(f, "f", 7, now)
		require.Equal(t, denied(entitlements.RequestedUsageExceedingLimit), e.Answer)
	})
	t.Run("a wallet without a rate", func(t *testing.T) {
		f := facts(meteredDef(new(10.0)))
		wallet := creditDef(0)
		f.Wallet = &wallet
		e, _ := entitlements.DecideMetered(f, "f", 10, now)
		require.Equal(t, granted(), e.Answer)
	})
}

func TestDecideCredit(t *testing.T) {
	const insufficient = entitlements.InsufficientCredits
	tenth, fifth := 0.1, 0.2
	end := now.Add(-time.Hour) // over, and yet what is known
	for _, tc := range []struct {
		name              string
		granted, consumed float64
		soft              bool
		requested         float64
		want              entitlements.AccessDeniedReason
		remaining         float64
	}{
		{"enough", 1000, 100, false, 10, "", 900},
		{"exactly enough", 1000, 100, false, 900, "", 900},
		{"too little", 1000, 100, false, 901, insufficient, 900},
		{"none requested, some left", 1000, 999, false, 0, "", 1},
		{"none requested, none left", 100, 100, false, 0, insufficient, 0},
		{"overdraft", 100, 130, false, 0, insufficient, -30},
		{"soft, none left", 100, 100, true, 5, "", 0},
		{"soft, overdraft", 100, 130, true, 5, "", -30},
		{"nothing granted", 0, 0, false, 0, insufficient, 0},
		{"rounding", 0.3, tenth, false, fifth, "", 0.3 - tenth},
		{"rounding is no credit", 0.3, tenth + fifth, false, 0, insufficient, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := creditDef(tc.granted)
			d.HasSoftLimit = tc.soft
			d.HasUnlimitedUsage = true // credits have no such thing
			f := facts(d)
			f.Usage = entitlements.Usage{Current: tc.consumed, PeriodEnd: end}
			want := entitlements.CreditEntitlement{
				Answer: denied(tc.want), Currency: d.Currency, UsageLimit: tc.granted, CurrentUsage: tc.consumed,
				Remaining: tc.remaining, RequestedUsage: tc.requested, HasSoftLimit: tc.soft, UsagePeriodEnd: end,
			}
			e, ok := entitlements.DecideCredit(f, "c", tc.requested, now)
			require.True(t, ok)
			require.Equal(t, want, e)
		})
	}
}

func TestDecide(t *testing.T) {
	req := entitlements.Request{RequestedUsage: 3, RequestedValues: []string{"eu"}}
	decide := func(f *entitlements.Facts, isCredit bool) entitlements.Entitlement {
		return entitlements.Decide(f, "asked", isCredit, req, now)
	}

	t.Run("boolean", func(t *testing.T) {
		d := booleanDef()
		require.Equal(t, entitlements.Entitlement{
			Answer: granted(), Kind: entitlements.KindBoolean, Feature: d.Feature,
		}, decide(facts(d), false))
	})
	t.Run("numeric", func(t *testing.T) {
		d := numericDef(new(25.0))
		require.Equal(t, entitlements.Entitlement{
			Answer: granted(), Kind: entitlements.KindNumeric, Feature: d.Feature, Value: 25,
		}, decide(facts(d), false))
		d.HasUnlimitedUsage = true
		require.Equal(t, entitlements.Entitlement{
			Answer: granted(), Kind: entitlements.KindNumeric, Feature: d.Feature, IsUnlimited: true,
		}, decide(facts(d), false))
	})
	t.Run("enum", func(t *testing.T) {
		d := enumDef("us")
		require.Equal(t, entitlements.Entitlement{
			Answer: denied(entitlements.RequestedValuesMismatch), Kind: entitlements.KindEnum, Feature: d.Feature,
			EnumValues: []string{"us"}, RequestedValues: req.RequestedValues,
		}, decide(facts(d), false))
	})
	t.Run("metered", func(t *testing.T) {
		d := meteredDef(new(5.0))
		d.HasSoftLimit = true
		d.ResetPeriod, d.UsagePeriodAnchor = entitlements.ResetDay, dataTime
		f := facts(d)
		f.Usage = entitlements.Usage{Current: 4, PeriodStart: now.Add(-time.Hour), PeriodEnd: now.Add(time.Hour)}
		require.Equal(t, entitlements.Entitlement{
			Answer: granted(), Kind: entitlements.KindMetered, Feature: d.Feature,
			UsageLimit: 5, CurrentUsage: 4, RequestedUsage: 3, HasSoftLimit: true,
			ResetPeriod: entitlements.ResetDay, UsagePeriodAnchor: dataTime,
			UsagePeriodStart: now.Add(-time.Hour), UsagePeriodEnd: now.Add(time.Hour),
		}, decide(f, false))

		f.Definition.HasUnlimitedUsage = true
		require.True(t, decide(f, false).IsUnlimited)
	})
	t.Run("credit", func(t *testing.T) {
		d := creditDef(5)
		d.HasSoftLimit = true
		f := facts(d)
		f.Usage = entitlements.Usage{Current: 4, PeriodEnd: now.Add(time.Hour)}
		require.Equal(t, entitlements.Entitlement{
			Answer: granted(), Kind: entitlements.KindCredit, Currency: d.Currency,
			UsageLimit: 5, CurrentUsage: 4, RequestedUsage: 3, Remaining: 1, HasSoftLimit: true,
			UsagePeriodEnd: now.Add(time.Hour),
		}, decide(f, true))
	})
	t.Run("unknown type", func(t *testing.T) {
		d := entitlements.Definition{Feature: feature("COLOUR", "")}
		want := entitlements.Entitlement{
			Answer: denied(entitlements.FeatureTypeMismatch), Feature: d.Feature,
			RequestedUsage: 3, RequestedValues: req.RequestedValues,
		}
		require.Equal(t, want, decide(facts(d), false))
	})
	t.Run("a credit for a feature", func(t *testing.T) {
		require.Equal(t, entitlements.Entitlement{
			Answer: denied(entitlements.FeatureTypeMismatch), Feature: entitlements.Feature{ID: "asked"},
			RequestedUsage: 3, RequestedValues: req.RequestedValues,
		}, decide(facts(creditDef(100)), false))
	})
	t.Run("a feature for a credit", func(t *testing.T) {
		require.Equal(t, entitlements.Entitlement{
			Answer: denied(entitlements.FeatureTypeMismatch), Kind: entitlements.KindCredit,
			Currency: credits.Currency{ID: "asked"}, RequestedUsage: 3,
		}, decide(facts(booleanDef()), true))
	})
}

// TestLessIsGrantedToo: who may use an amount may use less.
func TestLessIsGrantedToo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(0, 1000).Draw(t, "limit")
		used := rapid.Float64Range(0, 1000).Draw(t, "used")
		rate := rapid.Float64Range(0, 10).Draw(t, "rate")
		less := rapid.Float64Range(0, 1000).Draw(t, "less")
		more := less + rapid.Float64Range(0, 1000).Draw(t, "more")

		usage := entitlements.Usage{Current: used}
		wallet := creditDef(limit)
		metered := facts(meteredDef(&limit))
		metered.Usage = usage
		backed := facts(creditBackedDef(nil, rate))
		backed.Wallet, backed.WalletUsage = &wallet, usage
		credit := facts(wallet)
		credit.Usage = usage

		for name, f := range map[string]*entitlements.Facts{"metered": metered, "credit-backed": backed, "credit": credit} {
			grants := func(requested float64) bool {
				return entitlements.Decide(f, "x", f.Definition.IsCredit, entitlements.Request{RequestedUsage: requested}, now).HasAccess
			}
			if grants(more) && !grants(less) {
				t.Fatalf("%s: %v is granted, and %v is not", name, more, less)
			}
		}
	})
}
