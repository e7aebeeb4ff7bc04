package stigg_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// startExample starts a Stigg API and a Redis in this process, which know the
// customer acme, and a client of both.
func startExample() (client *stigg.Client, api *stiggtest.Server, redis *miniredis.Miniredis, stop func()) {
	api, err := stiggtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	api.SetEntitlements("acme",
		stiggtest.Boolean("sso"),
		stiggtest.Numeric("seats", 20),
		stiggtest.Enum("regions", "eu", "us"),
		stiggtest.Metered("exports", 100, 98),
		stiggtest.Credit("tokens", 5000, 4200),
	)
	redis = miniredis.NewMiniRedis()
	if err := redis.Start(); err != nil {
		log.Fatal(err)
	}
	port, err := strconv.Atoi(redis.Port())
	if err != nil {
		log.Fatal(err)
	}
	client, err = stigg.Initialize(stigg.Config{
		APIKey: "any", APIURL: api.URL(), EdgeURL: api.URL(),
		Redis:  &stigg.RedisConfig{Host: redis.Host(), Port: port, EnvironmentPrefix: "example"},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	return client, api, redis, func() {
		if err := client.Close(); err != nil {
			log.Fatal(err)
		}
		api.Close()
		redis.Close()
	}
}

// The whole of it. This example is compiled and not run: it asks the real API.
func ExampleInitialize() {
	ctx := context.Background()
	client, err := stigg.Initialize(stigg.Config{
		APIKey: os.Getenv("STIGG_SERVER_API_KEY"),
		Redis:  &stigg.RedisConfig{Host: "localhost", Port: 6379, EnvironmentPrefix: "production"},
		LRU:    &stigg.LRUConfig{MaxEntries: 10_000}, // optional
	})
	if err != nil {
		log.Fatal(err) // the Config is wrong; nothing else fails here
	}
	defer client.Close()

	tokens, err := client.GetCreditEntitlement(ctx, stigg.CreditQuery{
		CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 20,
	})
	if err != nil {
		log.Print(err) // what failed; tokens is the fallback, or what was known last
	}
	if !tokens.HasAccess {
		fmt.Println(tokens.AccessDeniedReason, tokens.Remaining)
	}
}

// A Config that is wrong is the only error of Initialize, and names every
// field.
func ExampleInitialize_wrongConfig() {
	_, err := stigg.Initialize(stigg.Config{
		Timeout: -time.Second,
		Redis:   &stigg.RedisConfig{Port: 70000},
	})
	fmt.Println(errors.Is(err, stigg.ErrInvalidConfig))
	fmt.Println(err)
	// Output:
	// true
	// stigg: invalid config:
	// APIKey: is required
	// Timeout: must not be negative
	// Redis.EnvironmentPrefix: is required; it must equal the prefix of the other programs that share the cache
	// Redis.Port: 70000 is not a port
}

// A client that makes no calls, for development: every answer is a fallback.
func ExampleInitialize_offline() {
	ctx := context.Background()
	client, err := stigg.Initialize(stigg.Config{
		Offline: true,
		EntitlementsFallback: map[string]stigg.EntitlementFallback{
			"sso": {HasAccess: true},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	sso, err := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "acme", FeatureID: "sso"})
	fmt.Println(sso.HasAccess, sso.Source, errors.Is(err, stigg.ErrOffline))
	// Output: true fallback true
}

// A client answers from the start. Wait for it where a wrong API key has to
// show at once.
func ExampleClient_WaitForInitialization() {
	ctx := context.Background()
	client, api, _, stop := startExample()
	defer stop()
	fmt.Println(client.WaitForInitialization(ctx))

	api.SetAPIKey("another")
	refused, err := stigg.Initialize(stigg.Config{
		APIKey: "wrong", APIURL: api.URL(), EdgeURL: api.URL(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer refused.Close()
	fmt.Println(errors.Is(refused.WaitForInitialization(ctx), stigg.ErrUnauthenticated))
	// Output:
	// <nil>
	// true
}

func ExampleClient_GetBooleanEntitlement() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	sso, err := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "acme", FeatureID: "sso"})
	fmt.Println(sso.HasAccess, err)

	audit, err := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "acme", FeatureID: "audit-log"})
	fmt.Println(audit.HasAccess, audit.AccessDeniedReason, err)
	// Output:
	// true <nil>
	// false NoFeatureEntitlementInSubscription <nil>
}

func ExampleClient_GetNumericEntitlement() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	seats, err := client.GetNumericEntitlement(ctx, stigg.NumericQuery{CustomerID: "acme", FeatureID: "seats"})
	fmt.Println(seats.HasAccess, seats.Value, seats.IsUnlimited, err)
	// Output: true 20 false <nil>
}

func ExampleClient_GetEnumEntitlement() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	regions, err := client.GetEnumEntitlement(ctx, stigg.EnumQuery{
		CustomerID: "acme", FeatureID: "regions", RequestedValues: []string{"eu", "asia"},
	})
	fmt.Println(regions.HasAccess, regions.AccessDeniedReason, regions.EnumValues, err)
	// Output: false RequestedValuesMismatch [eu us] <nil>
}

func ExampleClient_GetMeteredEntitlement() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	for _, n := range []float64{2, 5} {
		exports, err := client.GetMeteredEntitlement(ctx, stigg.MeteredQuery{
			CustomerID: "acme", FeatureID: "exports", RequestedUsage: n,
		})
		fmt.Println(n, exports.HasAccess, exports.CurrentUsage, exports.UsageLimit, exports.AccessDeniedReason, err)
	}
	// Output:
	// 2 true 98 100  <nil>
	// 5 false 98 100 RequestedUsageExceedingLimit <nil>
}

func ExampleClient_GetCreditEntitlement() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	for _, n := range []float64{20, 1000} {
		tokens, err := client.GetCreditEntitlement(ctx, stigg.CreditQuery{
			CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: n,
		})
		fmt.Println(n, tokens.HasAccess, tokens.Remaining, tokens.AccessDeniedReason, err)
	}
	// Output:
	// 20 true 800  <nil>
	// 1000 false 800 InsufficientCredits <nil>
}

// When nobody can be asked the answer is a fallback: the call's own, else the
// Config's, else a denial. The error says what failed.
func ExampleClient_GetCreditEntitlement_fallback() {
	ctx := context.Background()
	client, api, redis, stop := startExample()
	defer stop()
	api.Close()
	redis.Close()

	tokens, err := client.GetCreditEntitlement(ctx, stigg.CreditQuery{
		CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 20,
	})
	fmt.Println(tokens.HasAccess, tokens.AccessDeniedReason, tokens.Source, errors.Is(err, stigg.ErrUnavailable))

	tokens, err = client.GetCreditEntitlement(ctx, stigg.CreditQuery{
		CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 20,
		Fallback: &stigg.CreditFallback{HasAccess: true},
	})
	fmt.Println(tokens.HasAccess, tokens.IsFallback, errors.Is(err, stigg.ErrUnavailable))
	// Output:
	// false Unknown fallback true
	// true true true
}

// One call for a feature or a credit whose kind is not known beforehand.
func ExampleClient_GetEntitlement() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	for _, q := range []stigg.EntitlementQuery{
		{CustomerID: "acme", FeatureID: "exports", RequestedUsage: 2},
		{CustomerID: "acme", CurrencyID: "tokens", RequestedUsage: 20},
	} {
		e, err := client.GetEntitlement(ctx, q)
		fmt.Println(e.Kind, e.HasAccess, e.CurrentUsage, e.UsageLimit, err)
	}
	// Output:
	// metered true 98 100 <nil>
	// credit true 4200 5000 <nil>
}

func ExampleClient_GetEntitlements() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()

	state, err := client.GetEntitlements(ctx, "acme", "")
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range state.Entitlements {
		switch e.Kind {
		case stigg.KindCredit:
			fmt.Println(e.Currency.ID, e.Remaining)
		default:
			fmt.Println(e.Feature.ID, e.HasAccess)
		}
	}
	// Output:
	// sso true
	// seats true
	// regions true
	// exports true
	// tokens 800
}

// After a change that the program made itself, such as a new subscription,
// later checks are to see it at once.
func ExampleClient_ReloadEntitlements() {
	ctx := context.Background()
	client, api, _, stop := startExample()
	defer stop()
	audit := stigg.BooleanQuery{CustomerID: "acme", FeatureID: "audit-log"}
	if _, err := client.GetBooleanEntitlement(ctx, audit); err != nil {
		log.Fatal(err)
	}

	api.SetEntitlements("acme", stiggtest.Boolean("audit-log"))
	if err := client.ReloadEntitlements(ctx, "acme", ""); err != nil {
		log.Fatal(err)
	}
	answer, err := client.GetBooleanEntitlement(ctx, audit)
	fmt.Println(answer.HasAccess, answer.Source, err)
	// Output: true redis <nil>
}

func ExampleClient_Stats() {
	ctx := context.Background()
	client, _, _, stop := startExample()
	defer stop()
	if err := client.ReloadEntitlements(ctx, "acme", ""); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if _, err := client.GetBooleanEntitlement(ctx, stigg.BooleanQuery{CustomerID: "acme", FeatureID: "sso"}); err != nil {
			log.Fatal(err)
		}
	}
	stats := client.Stats()
	fmt.Println(stats.RedisHits, stats.RedisMisses, stats.Fetches, stats.Fallbacks)
	// Output: 3 0 1 0
}

// What Stigg's support asks for is in the error.
func ExampleError() {
	ctx := context.Background()
	client, api, _, stop := startExample()
	defer stop()
	api.Fault(stiggtest.Status(http.StatusServiceUnavailable).On(stiggtest.Edge))
	api.Fault(stiggtest.Errors("InternalError", "trace-1").On(stiggtest.GraphQL))

	err := client.ReloadEntitlements(ctx, "acme", "")
	var failed *stigg.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Source, failed.Code, failed.TraceID)
	}
	// Output: graphql InternalError trace-1
}

// TestDocumentedCode finds every piece of Go in the documents in a file that
// the compiler has seen.
func TestDocumentedCode(t *testing.T) {
	compiled := ""
	for _, name := range []string{"example_test.go", "stiggtest/example_handler_test.go"} {
		compiled += normal(readFile(t, name))
	}
	blocks := 0
	for _, name := range documents(t) {
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readFile(t, name), -1) {
			require.Contains(t, compiled, normal(m[1]), name)
			blocks++
		}
	}
	require.NotZero(t, blocks)
}

// TestDocumentedFields finds every field that a program can set or watch in
// the documents, each in a row of a table, and no row for a field that is gone.
func TestDocumentedFields(t *testing.T) {
	for _, tc := range []struct {
		document, heading string
		of                any
	}{
		{"README.md", "### Config", stigg.Config{}},
		{"README.md", "### RedisConfig", stigg.RedisConfig{}},
		{"README.md", "### LRUConfig", stigg.LRUConfig{}},
		{"docs/operations.md", "## Stats", stigg.Stats{}},
	} {
		var want []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(tc.of)) {
			want = append(want, f.Name)
		}
		_, section, found := strings.Cut(readFile(t, tc.document), "\n"+tc.heading+"\n")
		require.True(t, found, "%s: %s", tc.document, tc.heading)
		section, _, _ = strings.Cut(section, "\n#")
		var got []string
		for _, row := range regexp.MustCompile("(?m)^\\| ((?:`\\w+`(?:, )?)+) \\|").FindAllStringSubmatch(section, -1) {
			for _, name := range strings.Split(row[1], ", ") {
				got = append(got, strings.Trim(name, "`"))
			}
		}
		require.ElementsMatch(t, want, got, "%s: %s", tc.document, tc.heading)
	}
}

// TestDocumentedFiles finds every file that the documents link to.
func TestDocumentedFiles(t *testing.T) {
	links := 0
	for _, name := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(readFile(t, name), -1) {
			require.FileExists(t, filepath.Join(filepath.Dir(name), m[1]), name)
			links++
		}
	}
	require.NotZero(t, links)
}

func documents(t *testing.T) []string {
	names, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	return append(names, "README.md", "CHANGELOG.md")
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}

// normal takes the indentation off every line.
func normal(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}
