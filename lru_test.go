package stigg_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

func withLRU(max int) func(*stigg.Config) {
	return func(c *stigg.Config) { c.LRU = &stigg.LRUConfig{MaxEntries: max} }
}

func TestMemoryHitCostsNoAllocation(t *testing.T) {
	server := redistest.Start(t)
	redistest.LoadDump(t, server.Client(), "testdata/redis-cache-store-1.29.json")
	client := newClient(t, fixtureAPI(t), server, withLRU(1000))
	ctx := background()
	for name, check := range map[string]func() stigg.Source{
		"boolean": func() stigg.Source {
			a, _ := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "cust-basic", FeatureID: "feature-bool"})
			return a.Source
		},
		"numeric": func() stigg.Source {
			a, _ := client.GetNumericEntitlement(ctx, stigg.NumericQuery{CustomerID: "cust-basic", FeatureID: "feature-num"})
			return a.Source
		},
		"enum": func() stigg.Source {
			a, _ := client.GetEnumEntitlement(ctx, stigg.EnumQuery{CustomerID: "cust-basic", FeatureID: "feature-enum"})
			return a.Source
		},
		"metered": func() stigg.Source {
			a, _ := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met", RequestedUsage: 1})
			return a.Source
		},
		"credit": func() stigg.Source {
			a, _ := client.GetCreditEntitlement(ctx, stigg.CreditQuery{CustomerID: "cust-credit", CurrencyID: "cred-plenty"})
			return a.Source
		},
		"credit-backed": func() stigg.Source {
			a, _ := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: "cust-credit", FeatureID: "ai-calls"})
			return a.Source
		},
		"resource": func() stigg.Source {
			a, _ := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: "cust-res", ResourceID: "res-1", FeatureID: "feature-met"})
			return a.Source
		},
		"missing": func() stigg.Source {
			a, _ := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "cust-basic", FeatureID: "no-such-feature"})
			return a.Source
		},
	} {
		t.Run(name, func(t *testing.T) {
			eventually(t, func() bool { return check() == stigg.SourceMemory }, "a memory hit")
			require.Zero(t, testing.AllocsPerRun(100, func() { check() }))
		})
	}
}

func TestForeignChangeIsSeen(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client()
	redistest.LoadDump(t, rdb, "testdata/redis-cache-store-1.29.json")
	client := newClient(t, fixtureAPI(t), server, withLRU(1000))
	check := func() stigg.MeteredEntitlement {
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"})
		require.NoError(t, err)
		return a
	}
	eventually(t, func() bool { return check().Source == stigg.SourceMemory }, "a memory hit")
	require.NoError(t, rdb.Set(background(), "lab:c_cust-basic:f_feature-met", `{"currentUsage":77,"usagePeriodStart":null,"usagePeriodEnd":null}`, time.Hour).Err())
	settle()
	require.Equal(t, 77.0, check().CurrentUsage)
	eventually(t, func() bool { return check().Source == stigg.SourceMemory }, "a memory hit again")
	require.NoError(t, rdb.FlushAll(background()).Err())
	settle()
	require.Equal(t, stigg.SourceEdge, check().Source)
}

// TestStaleAfterAnOutage ends the API too, after Redis has been away for so
// long that live answers took the place of what was read.
func TestStaleAfterAnOutage(t *testing.T) {
	server, api := redistest.Start(t), fixtureAPI(t)
	client := newClient(t, api, server, withLRU(1000), func(c *stigg.Config) { c.Redis.OutageTTL = 200 * time.Millisecond })
	q := stigg.MeteredQuery{CustomerID: "cust-basic", FeatureID: "feature-met"}
	check := func() (stigg.MeteredEntitlement, error) { return client.GetMeteredEntitlement(background(), q) }
	eventually(t, func() bool { a, _ := check(); return a.Source == stigg.SourceMemory }, "a memory hit")
	server.Kill()
	eventually(t, func() bool { a, _ := check(); return a.Source == stigg.SourceEdge }, "the api answers")
	api.Close()
	time.Sleep(300 * time.Millisecond)
	a, err := check()
	require.ErrorIs(t, err, stigg.ErrUnavailable)
	require.True(t, a.Stale)
	require.True(t, a.HasAccess)
	require.Equal(t, stigg.SourceMemory, a.Source)
	require.Equal(t, 40.0, a.CurrentUsage)
}
