// Command quickstart shows what the SDK answers, from where, and how fast.
//
//	go run ./examples/quickstart
//
// With nothing configured it brings its own Redis and its own Stigg API, both
// in this process, and takes them away one after the other. With
// STIGG_SERVER_API_KEY and REDIS_HOST set it asks the real ones and shows what
// the customer STIGG_CUSTOMER_ID has. Optional then: REDIS_PORT (6379),
// REDIS_PASSWORD, ENVIRONMENT_PREFIX (production), STIGG_FEATURE_ID and
// STIGG_CURRENCY_ID.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run shows the customer that the environment names, else the demonstration.
func run(ctx context.Context, w io.Writer, getenv func(string) string) error {
	const apiKey, redisHost = "STIGG_SERVER_API_KEY", "REDIS_HOST"
	switch hasKey, hasHost := getenv(apiKey) != "", getenv(redisHost) != ""; {
	case hasKey && hasHost:
		config, err := configFrom(getenv)
		if err != nil {
			return err
		}
		return showCustomer(ctx, w, config, subject{
			customerID: getenv("STIGG_CUSTOMER_ID"),
			featureID:  getenv("STIGG_FEATURE_ID"),
			currencyID: getenv("STIGG_CURRENCY_ID"),
		})
	case hasKey:
		newTable(w).text(apiKey + " is set and " + redisHost + " is not: showing the demonstration.\n")
	case hasHost:
		newTable(w).text(redisHost + " is set and " + apiKey + " is not: showing the demonstration.\n")
	}
	return demonstrate(ctx, w)
}
