package main

import (
	"context"
	"fmt"

	stigg "github.com/stiggio/server-sdk-go"
)

// ask does one check and says where the answer came from.
type ask func(ctx context.Context, client *stigg.Client, c *customers, customerID string) (stigg.Source, error)

func askBoolean(ctx context.Context, client *stigg.Client, c *customers, customerID string) (stigg.Source, error) {
	answer, err := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: customerID, FeatureID: c.boolean})
	return answer.Source, err
}

func askMetered(ctx context.Context, client *stigg.Client, c *customers, customerID string) (stigg.Source, error) {
	answer, err := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: customerID, FeatureID: c.metered, RequestedUsage: 1})
	return answer.Source, err
}

func askCreditBacked(ctx context.Context, client *stigg.Client, c *customers, customerID string) (stigg.Source, error) {
	answer, err := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{CustomerID: customerID, FeatureID: c.creditBacked, RequestedUsage: 1})
	return answer.Source, err
}

func askCredit(ctx context.Context, client *stigg.Client, c *customers, customerID string) (stigg.Source, error) {
	answer, err := client.GetCreditEntitlement(ctx, stigg.CreditQuery{CustomerID: customerID, CurrencyID: c.credit, RequestedUsage: 1})
	return answer.Source, err
}

func askAll(ctx context.Context, client *stigg.Client, _ *customers, customerID string) (stigg.Source, error) {
	state, err := client.GetEntitlements(ctx, customerID, "")
	return state.Source, err
}

// sdk asks the SDK, as a program that uses it does.
func sdk(which func(*customers) []string, question ask) way {
	return way{name: sdkName, open: func(b *bed, c *customers) (read, error) {
		return check(b.sdk, stigg.SourceRedis, c, which(c), question), nil
	}}
}

// check makes sure that what is measured is an answer from where it should be.
func check(client *stigg.Client, from stigg.Source, c *customers, ids []string, question ask) read {
	return func(ctx context.Context, i int) error {
		source, err := question(ctx, client, c, ids[i%len(ids)])
		if err != nil {
			return err
		}
		if source != from {
			return fmt.Errorf("the answer came from %q, not from %q", source, from)
		}
		return nil
	}
}
