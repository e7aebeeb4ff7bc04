package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	stigg "github.com/stiggio/server-sdk-go"
)

// checkTimeout bounds how long a request waits for the answer. From Redis it
// takes well under a millisecond; this is for the day on which it does not.
const checkTimeout = time.Second

// chargeTimeout bounds how long the end of a request waits for the charge.
const chargeTimeout = 5 * time.Second

// gate lets a request through to next if the customer's wallet covers it, and
// charges the wallet for it.
type gate struct {
	client     *stigg.Client
	currencyID string
	cost       float64 // credits per request
	next       http.Handler
	log        *slog.Logger
}

// refusal is the body of every answer that the gate gives itself.
type refusal struct {
	Error string `json:"error"`
	// The rest is for 402 only.
	Reason    stigg.AccessDeniedReason `json:"reason,omitempty"`
	Remaining *float64                 `json:"remaining,omitempty"` // credits; negative is overdraft
	Required  float64                  `json:"required,omitempty"`  // credits
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	wallet, err := g.client.GetCreditEntitlement(ctx, stigg.CreditQuery{
		CustomerID:     customerOf(r),
		CurrencyID:     g.currencyID,
		RequestedUsage: g.cost,
	})
	switch {
	case errors.Is(err, stigg.ErrInvalidArgument):
		// Before all else: it is denied with a fallback, and neither a payment nor
		// another try would help.
		refuse(w, http.StatusBadRequest, refusal{Error: "customer id is missing or not valid"})
	case wallet.HasAccess:
		// Also when nobody could be asked and the Config's fallback grants, and
		// when the answer is stale: whoever was served so far is served on.
		g.next.ServeHTTP(w, r)
		g.charge(r)
	case wallet.IsFallback:
		// Nobody knows the balance. To ask for a payment would be wrong.
		g.log.WarnContext(r.Context(), "balance not known", "err", err)
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, refusal{Error: "balance not known, try again"})
	default:
		refuse(w, http.StatusPaymentRequired, refusal{
			Error:     "not enough credits",
			Reason:    wallet.AccessDeniedReason,
			Remaining: &wallet.Remaining,
			Required:  g.cost,
		})
	}
}

// charge takes the cost from the wallet. The new balance is in Redis when it
// returns, for the next request to see, wherever that is served.
func (g *gate) charge(r *http.Request) {
	// The work is done: it is charged even if the customer has hung up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), chargeTimeout)
	defer cancel()
	consumed, err := g.client.ConsumeCredits(ctx, stigg.CreditConsumption{
		CustomerID: customerOf(r),
		CurrencyID: g.currencyID,
		Amount:     g.cost,
	})
	if err != nil {
		// With the key it can be charged later, and at most once.
		g.log.ErrorContext(ctx, "not charged", "err", err, "idempotencyKey", consumed.IdempotencyKey)
	}
}

// customerOf names the customer of a request. A program of yours takes it from
// the session or the token, not from a header that anyone can write.
func customerOf(r *http.Request) string { return r.Header.Get("X-Customer-ID") }

func refuse(w http.ResponseWriter, status int, body refusal) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone: nobody is left to tell
}
