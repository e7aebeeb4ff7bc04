package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	stigg "github.com/stiggio/server-sdk-go"
)

const (
	// keyTimeout bounds the wait for the API's word on the key.
	keyTimeout = 3 * time.Second
	// checkTimeout bounds each wait for an answer.
	checkTimeout = 5 * time.Second
)

// subject is what to show. Only customerID is needed.
type subject struct{ customerID, featureID, currencyID string }

// configFrom makes the configuration that the environment describes.
func configFrom(getenv func(string) string) (stigg.Config, error) {
	port, err := strconv.Atoi(cmp.Or(getenv("REDIS_PORT"), "6379"))
	if err != nil {
		return stigg.Config{}, fmt.Errorf("REDIS_PORT: %w", err)
	}
	return stigg.Config{
		APIKey: getenv("STIGG_SERVER_API_KEY"),
		Redis: &stigg.RedisConfig{
			Host:              getenv("REDIS_HOST"),
			Port:              port,
			Password:          getenv("REDIS_PASSWORD"),
			EnvironmentPrefix: cmp.Or(getenv("ENVIRONMENT_PREFIX"), "production"),
		},
	}, nil
}

// showCustomer shows everything a customer has, then the checks asked for, each
// twice: the first answer can come from the API, the second from Redis.
func showCustomer(ctx context.Context, w io.Writer, config stigg.Config, s subject) (err error) {
	out := newTable(w)
	config.Logger = out.logger()
	client, err := stigg.Initialize(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	out.text("Redis at " + net.JoinHostPort(config.Redis.Host, strconv.Itoa(config.Redis.Port)) +
		", keys beginning with " + config.Redis.EnvironmentPrefix + ":")
	if err := out.apiKey(ctx, client); err != nil {
		return err
	}
	if s.customerID == "" {
		out.text("Set STIGG_CUSTOMER_ID to see what a customer has.")
		return out.err()
	}
	if err := out.everything(ctx, client, s.customerID); err != nil {
		return err
	}
	if s.featureID != "" || s.currencyID != "" {
		out.heading()
	}
	for range 2 {
		if s.featureID != "" {
			out.check(s.featureID, func() (row, error) { return anyCheck(ctx, client, s.customerID, s.featureID, "") })
		}
		if s.currencyID != "" {
			out.check(s.currencyID, func() (row, error) { return anyCheck(ctx, client, s.customerID, "", s.currencyID) })
		}
	}
	return out.err()
}

// apiKey waits for what the API says of the key. The error is that it refuses
// it; an API that does not answer leaves Redis to ask.
func (t *table) apiKey(ctx context.Context, client *stigg.Client) error {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	err := client.WaitForInitialization(ctx)
	switch {
	case err == nil:
		t.text("The API accepts the key.")
	case errors.Is(err, stigg.ErrUnauthenticated), errors.Is(err, stigg.ErrForbidden):
		return err
	default:
		t.error(err)
	}
	return nil
}

// everything lists all that the customer is entitled to.
func (t *table) everything(ctx context.Context, client *stigg.Client, customerID string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	state, err := client.GetEntitlements(ctx, customerID, "")
	if state.IsFallback {
		return err
	}
	took := time.Since(began)
	t.section(fmt.Sprintf("%s has %d entitlements (source %s, %s).", customerID, len(state.Entitlements), state.Source, milliseconds(took)))
	if state.AccessDeniedReason != "" {
		t.note("denied: " + string(state.AccessDeniedReason))
	}
	t.error(err)
	for _, e := range state.Entitlements {
		t.row(cmp.Or(e.Feature.ID, e.Currency.ID), anyRow(e), string(e.Kind), "")
	}
	return nil
}

func anyCheck(ctx context.Context, client *stigg.Client, customerID, featureID, currencyID string) (row, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	e, err := client.GetEntitlement(ctx, stigg.EntitlementQuery{
		CustomerID: customerID, FeatureID: featureID, CurrencyID: currencyID,
	})
	return anyRow(e), err
}

// anyRow shows an answer of any kind.
func anyRow(e stigg.Entitlement) row {
	r := row{hasAccess: e.HasAccess, reason: e.AccessDeniedReason, source: e.Source}
	switch e.Kind {
	case stigg.KindNumeric:
		r.detail = number(e.Value)
		if e.IsUnlimited {
			r.detail = "unlimited"
		}
	case stigg.KindEnum:
		r.detail = strings.Join(e.EnumValues, " ")
	case stigg.KindMetered:
		r.detail = usageDetail(e.CurrentUsage, e.UsageLimit, e.IsUnlimited)
	case stigg.KindCredit:
		r.detail = number(e.Remaining) + " left"
	}
	return r
}
