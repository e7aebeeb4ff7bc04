package entitlements_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/entitlements"
)

// decisions are the ways through every decision that cost the most.
func decisions() map[string]func() bool {
	requested := []string{"us", "eu"}
	boolean, numeric, enum := facts(booleanDef()), facts(numericDef(new(25.0))), facts(enumDef("eu", "us"))

	d := meteredDef(new(100.0))
	d.ResetPeriod, d.UsagePeriodAnchor = entitlements.ResetMonth, dataTime.AddDate(-3, 0, 30)
	running, ended := facts(d), facts(d)
	running.Usage = entitlements.Usage{Current: 40, PeriodEnd: now.Add(time.Hour)}
	ended.Usage = entitlements.Usage{Current: 40, PeriodEnd: now.Add(-time.Hour)}

	wallet := creditDef(1000)
	backed, credit, missing := facts(creditBackedDef(nil, 2)), facts(wallet), &entitlements.Facts{}
	backed.Wallet, backed.WalletUsage.Current = &wallet, 10
	credit.Usage.Current = 10

	req := entitlements.Request{RequestedUsage: 1, RequestedValues: requested}
	return map[string]func() bool{
		"boolean":             func() bool { e, _ := entitlements.DecideBoolean(boolean, "f", now); return e.HasAccess },
		"numeric":             func() bool { e, _ := entitlements.DecideNumeric(numeric, "f", now); return e.HasAccess },
		"enum":                func() bool { e, _ := entitlements.DecideEnum(enum, "f", requested, now); return e.HasAccess },
		"metered":             func() bool { e, _ := entitlements.DecideMetered(running, "f", 1, now); return e.HasAccess },
		"metered, new period": func() bool { e, _ := entitlements.DecideMetered(ended, "f", 1, now); return e.HasAccess },
		"credit-backed":       func() bool { e, _ := entitlements.DecideMetered(backed, "f", 1, now); return e.HasAccess },
		"credit":              func() bool { e, _ := entitlements.DecideCredit(credit, "c", 1, now); return e.HasAccess },
		"missing":             func() bool { e, _ := entitlements.DecideCredit(missing, "c", 1, now); return !e.HasAccess },
		"mismatch":            func() bool { e, ok := entitlements.DecideBoolean(credit, "f", now); return !ok && !e.HasAccess },
		"generic":             func() bool { return entitlements.Decide(backed, "f", false, req, now).HasAccess },
	}
}

func TestDecisionsDoNotAllocate(t *testing.T) {
	for name, decide := range decisions() {
		t.Run(name, func(t *testing.T) {
			require.True(t, decide())
			var ok bool
			require.Zero(t, testing.AllocsPerRun(100, func() { ok = decide() }))
			require.True(t, ok)
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, decide := range decisions() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decide()
			}
		})
	}
}
