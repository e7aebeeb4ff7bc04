// Command httpgate is an HTTP server whose requests cost 20 credits each: it
// answers 402 Payment Required where the customer's wallet does not cover that.
//
//	go run ./examples/httpgate
//	curl -i -H 'X-Customer-ID: acme' localhost:8080/generate
//
// Without STIGG_SERVER_API_KEY it brings a Redis and a Stigg API of its own, in
// which acme has 50 credits, for two requests.
// Else it asks the real ones, with the Redis at REDIS_HOST (localhost),
// REDIS_PORT (6379), REDIS_PASSWORD and ENVIRONMENT_PREFIX (production). LISTEN
// is the address to serve on (localhost:8080), CURRENCY_ID the currency that
// pays (tokens).
//
// With FAIL_OPEN=1 requests are let through when neither Redis nor Stigg can
// be reached; else they are answered with 503.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	stigg "github.com/stiggio/server-sdk-go"
)

const (
	// costPerRequest is in credits.
	costPerRequest = 20
	// shutdownTimeout is how long requests may take to end when the server is
	// told to stop.
	shutdownTimeout = 10 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, slog.Default(), os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "httpgate:", err)
		os.Exit(1)
	}
}

// start serves what the environment describes until ctx ends.
func start(ctx context.Context, log *slog.Logger, getenv func(string) string) error {
	config, currencyID, err := configFrom(getenv)
	if err != nil {
		return err
	}
	if config.APIKey == "" {
		stop, err := startDemo(&config, currencyID)
		if err != nil {
			return err
		}
		defer stop()
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(getenv("LISTEN"), "localhost:8080"))
	if err != nil {
		return err
	}
	config.Logger = log
	log.Info("serving", "url", "http://"+listener.Addr().String()+"/generate")
	return serve(ctx, listener, config, currencyID, http.HandlerFunc(generate))
}

// generate is the work that costs credits.
func generate(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("here you are\n")) // the client has gone: nobody is left to tell
}

// configFrom makes the configuration that the environment describes.
func configFrom(getenv func(string) string) (stigg.Config, string, error) {
	port, err := strconv.Atoi(cmp.Or(getenv("REDIS_PORT"), "6379"))
	if err != nil {
		return stigg.Config{}, "", fmt.Errorf("REDIS_PORT: %w", err)
	}
	currencyID := cmp.Or(getenv("CURRENCY_ID"), "tokens")
	config := stigg.Config{
		APIKey: getenv("STIGG_SERVER_API_KEY"),
		Redis: &stigg.RedisConfig{
			Host:              getenv("REDIS_HOST"),
			Port:              port,
			Password:          getenv("REDIS_PASSWORD"),
			EnvironmentPrefix: cmp.Or(getenv("ENVIRONMENT_PREFIX"), "production"),
		},
	}
	if getenv("FAIL_OPEN") == "1" {
		config.CreditEntitlementsFallback = map[string]stigg.CreditFallback{currencyID: {HasAccess: true}}
	}
	return config, currencyID, nil
}

// serve puts the gate in front of work and serves until ctx ends. Then it takes
// no new requests, lets those under way end, and closes the client last,
// because they use it.
func serve(ctx context.Context, listener net.Listener, config stigg.Config, currencyID string, work http.Handler) (err error) {
	client, err := stigg.Initialize(config)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	mux := http.NewServeMux()
	mux.Handle("/generate", &gate{client: client, currencyID: currencyID, cost: costPerRequest, next: work, log: config.Logger})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// ctx has ended; what is under way gets a time of its own.
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return server.Shutdown(shutdown)
}
