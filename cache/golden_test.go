package cache_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

const (
	currentDump = "../testdata/redis-cache-store-1.29.json"
	oldDump     = "../testdata/redis-node-sdk-3.95.json"
)

// goldenKey is one key of a dump.
type goldenKey struct{ Key, Value string }

func readDump(t testing.TB, path string) []goldenKey {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var keys []goldenKey
	require.NoError(t, json.Unmarshal(text, &keys))
	return keys
}

// customerOf returns whose value a key holds; false for keys of other kinds.
func customerOf(key string) (cache.Key, bool) {
	id, ok := strings.CutPrefix(key, "lab:c_")
	for _, infix := range []string{"#timestamp", ":metadata", ":f_", ":credit_"} {
		if strings.Contains(id, infix) {
			return cache.Key{}, false
		}
	}
	customerID, resourceID, _ := strings.Cut(id, ":r_")
	return cache.Key{CustomerID: customerID, ResourceID: resourceID}, ok
}

// goldenEntry is an entry of a customer value of either format, for
// encoding/json: a second opinion on what the store's own decoder says.
type goldenEntry struct {
	CalculatedEntitlement struct {
		Type    string
		Feature struct {
			ID, DisplayName, Description, FeatureType, MeterType, Units, UnitsPlural string
		}
		Currency struct {
			CurrencyID, DisplayName, Description, UnitSingular, UnitPlural string
			AdditionalMetaData                                             map[string]any
		}
		UsageLimit                      *float64
		HasUnlimitedUsage, HasSoftLimit bool
		AccessDeniedReason              string
		EnumValues                      []string
		ValidUntil, UsagePeriodAnchor   *int64
		ResetPeriod                     string
		CreditRate                      *credits.Rate
	}
	UsageData, FeatureUsage *goldenUsage
}

type goldenUsage struct {
	CurrentUsage                                    float64
	UsagePeriodStart, UsagePeriodEnd, NextResetDate *int64
	UsagePeriodAnchor                               *int64
	ResetPeriod                                     string
}

func goldenTime(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return time.UnixMilli(*ms).UTC()
}

func (e *goldenEntry) definition() entitlements.Definition {
	c := &e.CalculatedEntitlement
	f := c.Feature
	d := entitlements.Definition{
		IsCredit: c.Type == "CREDIT",
		Feature: entitlements.Feature{
			ID: f.ID, DisplayName: f.DisplayName, Description: f.Description, Type: entitlements.FeatureType(f.FeatureType),
			MeterType: entitlements.MeterType(f.MeterType), Units: f.Units, UnitsPlural: f.UnitsPlural,
		},
		Currency: credits.Currency{
			ID: c.Currency.CurrencyID, DisplayName: c.Currency.DisplayName, Description: c.Currency.Description,
			UnitSingular: c.Currency.UnitSingular, UnitPlural: c.Currency.UnitPlural, Metadata: c.Currency.AdditionalMetaData,
		},
		UsageLimit: c.UsageLimit, HasUnlimitedUsage: c.HasUnlimitedUsage, HasSoftLimit: c.HasSoftLimit,
		AccessDeniedReason: entitlements.AccessDeniedReason(c.AccessDeniedReason), ValidUntil: goldenTime(c.ValidUntil),
		CreditRate: c.CreditRate, UsagePeriodAnchor: goldenTime(c.UsagePeriodAnchor), ResetPeriod: entitlements.ResetPeriod(c.ResetPeriod),
	}
	if len(c.EnumValues) > 0 {
		d.EnumValues = c.EnumValues
	}
	if d.Feature.DisplayName == "" {
		d.Feature.DisplayName = d.Feature.ID
	}
	if old := e.FeatureUsage; old != nil {
		if d.UsagePeriodAnchor.IsZero() {
			d.UsagePeriodAnchor = goldenTime(old.UsagePeriodAnchor)
		}
		if d.ResetPeriod == "" {
			d.ResetPeriod = entitlements.ResetPeriod(old.ResetPeriod)
		}
	}
	return d
}

// Both dumps are read without a fault, and as encoding/json reads them.
func TestDumpsDecodeFully(t *testing.T) {
	for path, want := range map[string]struct{ customers, entitlements, credits, usages int }{
		currentDump: {customers: 14, entitlements: 61, credits: 6, usages: 44},
		oldDump:     {customers: 14, entitlements: 55, credits: 0, usages: 38},
	} {
		t.Run(path[len("../testdata/"):], func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
			defer func() { require.NoError(t, client.Close()) }()
			redistest.LoadDump(t, client, path)
			dump := readDump(t, path)
			texts := make(map[string]string, len(dump))
			for _, k := range dump {
				texts[k.Key] = k.Value
			}
			got := want
			got.customers, got.entitlements, got.credits, got.usages = 0, 0, 0, 0
			for _, dumped := range dump {
				k, ok := customerOf(dumped.Key)
				if !ok {
					continue
				}
				got.customers++
				store := cache.NewStore(cache.Options{Client: client, Prefix: "lab"})
				state, err := store.ReadState(t.Context(), k)
				require.NoError(t, err)
				require.Zero(t, state.Faults, "%v: %v", k, state.Faults)
				require.Empty(t, state.Damaged)

				entries := make(map[string]goldenEntry)
				require.NoError(t, json.Unmarshal([]byte(dumped.Value), &entries))
				byRef := make(map[cache.Ref]entitlements.Definition)
				for _, e := range entries {
					d := e.definition()
					byRef[cache.RefOf(&d)] = d
				}
				require.Len(t, state.Entitlements, len(byRef), k)
				for _, e := range state.Entitlements {
					ref := cache.RefOf(e.Definition)
					require.Equal(t, byRef[ref], *e.Definition, "%v %v", k, ref)
					got.entitlements++
					if ref.IsCredit {
						got.credits++
					}
					if e.Definition.UsageTrackable() {
						got.usages++
						requireGoldenUsage(t, texts, k, ref, e.Usage)
					}
					// Alone it is what it is among the others.
					var r cache.Reading
					require.NoError(t, store.Read(t.Context(), k, ref, true, &r))
					require.Zero(t, r.Faults)
					require.Equal(t, e.Definition, r.Facts.Definition)
					if e.Definition.UsageTrackable() {
						require.Equal(t, e.Usage, r.Facts.Usage)
					}
				}
			}
			require.Equal(t, want, got)
		})
	}
}

func requireGoldenUsage(t *testing.T, texts map[string]string, k cache.Key, ref cache.Ref, got entitlements.Usage) {
	t.Helper()
	name := cache.UsageKey("lab", k, ref)
	var want goldenUsage
	require.NoError(t, json.Unmarshal([]byte(texts[name]), &want), name)
	var at int64
	require.NoError(t, json.Unmarshal([]byte(texts[cache.TimestampKey(name)]), &at), name)
	end := want.UsagePeriodEnd
	if end == nil {
		end = want.NextResetDate
	}
	require.Equal(t, entitlements.Usage{
		Current: want.CurrentUsage, PeriodStart: goldenTime(want.UsagePeriodStart), PeriodEnd: goldenTime(end), UpdatedAt: time.UnixMilli(at).UTC(),
	}, got, name)
}
