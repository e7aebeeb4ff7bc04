package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/credits"
	"github.com/stiggio/server-sdk-go/entitlements"
)

// between runs once, after the first command and before the next one.
type between struct {
	then func()
}

func (b *between) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b *between) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		if then := b.then; then != nil && command.Name() == "mget" {
			b.then = nil
			then()
		}
		return err
	}
}

// A reading that takes two round trips, because what it needs is not known
// before, does not put together what was never true at the same time.
func TestTwoTripsReadOneState(t *testing.T) {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	s := NewStore(Options{Client: client, Prefix: "lab"})
	video := Ref{ID: "video"}
	write := func(k Key, at int) {
		wallet, other := fmt.Sprintf("wallet-%d", at), fmt.Sprintf("wallet-%d", 1-at)
		state := entitlements.State{Records: []entitlements.Record{{
			Definition: entitlements.Definition{
				Feature:    entitlements.Feature{ID: video.ID, Type: entitlements.FeatureNumber, MeterType: entitlements.MeterIncremental},
				CreditRate: &credits.Rate{CurrencyID: wallet, Amount: 1},
			}, HasUsage: true,
		}}}
		for _, id := range []string{wallet, other} {
			d := entitlements.Definition{IsCredit: true, Currency: credits.Currency{ID: id}}
			state.Records = append(state.Records, entitlements.Record{Definition: d, HasUsage: true, Usage: entitlements.Usage{Current: float64(at)}})
		}
		for i := range state.Records {
			state.Records[i].Definition.UpdatedAt = time.UnixMilli(int64(1780308000000 + at))
			state.Records[i].Usage.UpdatedAt = time.UnixMilli(int64(1780308000000 + at))
		}
		pairs, err := encodeState("lab", k, state, time.Time{})
		require.NoError(t, err)
		for _, p := range pairs {
			require.NoError(t, server.Set(p.key, p.value))
			require.NoError(t, server.Set(TimestampKey(p.key), fmt.Sprint(p.at)))
		}
	}
	hook := &between{}
	client.AddHook(hook)

	one, all := Key{CustomerID: "one"}, Key{CustomerID: "all"}
	write(one, 0)
	hook.then = func() { write(one, 1) }
	var r Reading
	require.NoError(t, s.Read(t.Context(), one, video, true, &r))
	require.Zero(t, r.Faults)
	require.Equal(t, "wallet-1", r.Facts.Definition.CreditRate.CurrencyID)
	require.Equal(t, "wallet-1", r.Facts.Wallet.Currency.ID)
	require.Equal(t, 1.0, r.Facts.WalletUsage.Current)

	write(all, 0)
	hook.then = func() { write(all, 1) }
	state, err := s.ReadState(t.Context(), all)
	require.NoError(t, err)
	require.Zero(t, state.Faults)
	require.Equal(t, "wallet-1", state.Entitlements[0].Definition.CreditRate.CurrencyID)
	require.Equal(t, 1.0, state.Entitlements[1].Usage.Current)
}
