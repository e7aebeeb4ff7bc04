package cache_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// What is written is what is read, whatever is in the ids and texts.
func TestWriteThenReadIsIdentity(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	checks := 0
	rapid.Check(t, func(t *rapid.T) {
		checks++
		k := keys().Draw(t, "key")
		state := states().Draw(t, "state")
		store := cache.NewStore(cache.Options{Client: client, Prefix: fmt.Sprint("check", checks)})
		_, err := store.WriteState(t.Context(), k, state, cache.WriteOptions{FetchBegan: changeTime(0)})
		require.NoError(t, err)
		if k.ResourceID != "" {
			_, err := store.WriteState(t.Context(), k.Customer(), entitlements.State{}, cache.WriteOptions{})
			require.NoError(t, err)
		}

		got, err := cache.NewStore(cache.Options{Client: client, Prefix: fmt.Sprint("check", checks)}).ReadState(t.Context(), k)
		require.NoError(t, err)
		require.Empty(t, got.Damaged)
		if len(state.Records) == 0 {
			require.Equal(t, state.AccessDeniedReason, got.DeniedReason)
		}
		require.Len(t, got.Entitlements, len(state.Records))
		for i, r := range state.Records {
			e := got.Entitlements[i]
			require.Equal(t, asRead(r.Definition), *e.Definition)
			switch {
			case !r.Definition.UsageTrackable():
				require.Zero(t, e.Faults)
			case !r.HasUsage:
				require.Equal(t, cache.UsageAbsent, e.Faults)
			default:
				require.Zero(t, e.Faults, "%v", e.Faults)
				want := r.Usage
				if want.UpdatedAt.IsZero() {
					want.UpdatedAt = e.Usage.UpdatedAt // of the entitlement or the customer
				}
				require.Equal(t, want, e.Usage)
			}
		}
	})
}

// asRead is a definition without what the value does not keep.
func asRead(d entitlements.Definition) entitlements.Definition {
	d.UpdatedAt = time.Time{}
	if d.Feature.DisplayName == "" {
		d.Feature.DisplayName = d.Feature.ID
	}
	return d
}

// ids generates ids of everything that could upset JSON, Redis or the layout,
// short of ids that name another customer's keys.
func ids() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("ab \t\n\"'\\{}[]*?:#_-/%éñ客🙂\u2028\u0000\u007f<&>")), 1, 12, -1)
}

func keys() *rapid.Generator[cache.Key] {
	return rapid.Custom(func(t *rapid.T) cache.Key {
		k := cache.Key{CustomerID: ids().Draw(t, "customer")}
		if rapid.Bool().Draw(t, "of a resource") {
			k.ResourceID = ids().Draw(t, "resource")
		}
		return k
	}).Filter(func(k cache.Key) bool { return !k.Ambiguous() })
}

func states() *rapid.Generator[entitlements.State] {
	return rapid.Custom(func(t *rapid.T) entitlements.State {
		records := rapid.SliceOfNDistinct(records(), 0, 6, func(r entitlements.Record) cache.Ref { return cache.RefOf(&r.Definition) })
		return entitlements.State{
			Records:            records.Draw(t, "records"),
			AccessDeniedReason: entitlements.AccessDeniedReason(rapid.SampledFrom([]string{"", "CustomerNotFound", "a \"new\" reason"}).Draw(t, "reason")),
		}
	})
}

func records() *rapid.Generator[entitlements.Record] {
	return rapid.Custom(func(t *rapid.T) entitlements.Record {
		d := entitlements.Definition{
			IsCredit:           rapid.Bool().Draw(t, "is credit"),
			HasSoftLimit:       rapid.Bool().Draw(t, "soft"),
			AccessDeniedReason: entitlements.AccessDeniedReason(rapid.String().Draw(t, "denied")),
			ValidUntil:         times().Draw(t, "valid until"),
			UpdatedAt:          times().Draw(t, "updated"),
		}
		if rapid.Bool().Draw(t, "has limit") {
			limit := rapid.Float64().Draw(t, "limit")
			d.UsageLimit = &limit
		}
		if d.IsCredit {
			d.Currency = credits.Currency{
				ID: ids().Draw(t, "currency"), DisplayName: rapid.String().Draw(t, "name"), Description: rapid.String().Draw(t, "description"),
				UnitSingular: rapid.String().Draw(t, "unit"), UnitPlural: rapid.String().Draw(t, "units"),
				Metadata: map[string]any{rapid.String().Draw(t, "field"): []any{rapid.String().Draw(t, "text"), rapid.Float64().Draw(t, "number"), true, nil}},
			}
		} else {
			feature(t, &d)
		}
		r := entitlements.Record{Definition: d}
		if d.UsageTrackable() && rapid.Bool().Draw(t, "has usage") {
			r.HasUsage = true
			r.Usage = entitlements.Usage{
				Current: rapid.Float64().Draw(t, "used"), PeriodStart: times().Draw(t, "start"), PeriodEnd: times().Draw(t, "end"),
				UpdatedAt: times().Draw(t, "usage updated"),
			}
		}
		return r
	})
}

func feature(t *rapid.T, d *entitlements.Definition) {
	d.Feature = entitlements.Feature{
		ID: ids().Draw(t, "feature"), DisplayName: rapid.String().Draw(t, "name"), Description: rapid.String().Draw(t, "description"),
		Type:      rapid.SampledFrom([]entitlements.FeatureType{entitlements.FeatureBoolean, entitlements.FeatureEnum, entitlements.FeatureNumber, "NEW"}).Draw(t, "type"),
		MeterType: rapid.SampledFrom([]entitlements.MeterType{"", entitlements.MeterNone, entitlements.MeterFluctuating, entitlements.MeterIncremental}).Draw(t, "meter"),
		Units:     rapid.String().Draw(t, "unit"), UnitsPlural: rapid.String().Draw(t, "units"),
	}
	d.HasUnlimitedUsage = rapid.Bool().Draw(t, "unlimited")
	d.ResetPeriod = rapid.SampledFrom([]entitlements.ResetPeriod{"", entitlements.ResetMonth, "NEW"}).Draw(t, "reset")
	d.UsagePeriodAnchor = times().Draw(t, "anchor")
	if values := rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "values"); len(values) > 0 {
		d.EnumValues = values
	}
	if rapid.Bool().Draw(t, "credit-backed") {
		d.CreditRate = &credits.Rate{Amount: rapid.Float64Min(0).Draw(t, "amount"), CurrencyID: ids().Draw(t, "rate's currency")}
	}
}

// times generates no time, or one to the millisecond; not the epoch, which
// stands for the far past.
func times() *rapid.Generator[time.Time] {
	return rapid.OneOf(
		rapid.Just(time.Time{}),
		rapid.Map(rapid.Int64Range(1, 253402300799999), func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }),
	)
}
