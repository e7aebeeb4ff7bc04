package main

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rowPattern matches a row with an answer: check, yes or no, detail, source.
var rowPattern = regexp.MustCompile(`(?m)^  (\S.*?) {2,}(yes|no)(?:, (.*?))? +(memory|redis|edge|graphql|fallback) +\d+\.\d\d ms$`)

// nothing is an environment without variables.
func nothing(string) string { return "" }

func TestDemonstration(t *testing.T) {
	var out bytes.Buffer
	began := time.Now()
	require.NoError(t, run(t.Context(), &out, nothing))
	require.Less(t, time.Since(began), 15*time.Second)

	var got []string
	for _, m := range rowPattern.FindAllStringSubmatch(out.String(), -1) {
		got = append(got, strings.Join(m[1:], " | "))
	}
	require.Equal(t, []string{
		"sso, nothing is cached | yes |  | edge",
		"sso again | yes |  | redis",
		"2 more exports | yes | 98 of 100 used | redis",
		"5 more exports | no | 98 of 100 used | redis",
		"spend 20 tokens | yes | 800 left | redis",
		"spend 1000 tokens | no | 800 left | redis",
		"spend 20 tokens | yes | 800 left | redis",
		"sso, no fallback given | no |  | fallback",
		"20 tokens, fallback in Config | yes |  | fallback",
		"2 exports, fallback in call | yes |  | fallback",
		"spend 20 tokens | yes | 800 left | redis",
	}, got, out.String())

	notes := regexp.MustCompile(`(?m)^      (denied: \w+|log: .*)$`).FindAllString(out.String(), -1)
	require.Equal(t, []string{
		"      denied: RequestedUsageExceedingLimit",
		"      denied: InsufficientCredits",
		"      log: stigg: the api does not answer",
		"      denied: Unknown",
		"      log: stigg: redis lost; asking the api until it is back",
		"      log: stigg: redis is back",
	}, notes, out.String())
	require.Contains(t, out.String(), "connection refused")
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, len(line), 81, "wider than a terminal: %s", line)
	}
}

func TestDemonstrationSaysWhatIsMissing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the first line is all that is wanted
	for _, tc := range []struct{ set, missing string }{
		{"STIGG_SERVER_API_KEY", "REDIS_HOST"},
		{"REDIS_HOST", "STIGG_SERVER_API_KEY"},
	} {
		var out bytes.Buffer
		require.Error(t, run(ctx, &out, func(name string) string { return map[string]string{tc.set: "x"}[name] }))
		require.True(t, strings.HasPrefix(out.String(), tc.set+" is set and "+tc.missing+" is not"), out.String())
	}
}

func TestTableRepeatsNoError(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out)
	for _, text := range []string{"one", "one", "two", "one"} {
		table.error(errors.New(text))
	}
	table.error(nil)
	require.Equal(t, "      error: one\n      error: the same\n      error: two\n      error: one\n", out.String())
}

func TestConfigFrom(t *testing.T) {
	environment := map[string]string{"STIGG_SERVER_API_KEY": "key", "REDIS_HOST": "redis.internal"}
	getenv := func(name string) string { return environment[name] }

	config, err := configFrom(getenv)
	require.NoError(t, err)
	require.Equal(t, stigg.Config{APIKey: "key", Redis: &stigg.RedisConfig{
		Host: "redis.internal", Port: 6379, EnvironmentPrefix: "production",
	}}, config)

	environment["REDIS_PORT"], environment["REDIS_PASSWORD"], environment["ENVIRONMENT_PREFIX"] = "6380", "secret", "staging"
	config, err = configFrom(getenv)
	require.NoError(t, err)
	require.Equal(t, &stigg.RedisConfig{
		Host: "redis.internal", Port: 6380, Password: "secret", EnvironmentPrefix: "staging",
	}, config.Redis)

	environment["REDIS_PORT"] = "default"
	_, err = configFrom(getenv)
	require.ErrorContains(t, err, "REDIS_PORT")
	require.ErrorContains(t, run(t.Context(), &bytes.Buffer{}, getenv), "REDIS_PORT")
}

// realConfig is the configuration of a program that has a Redis and an API.
func realConfig(t *testing.T, api *stiggtest.Server) stigg.Config {
	redis := redistest.Start(t, redistest.RequirePass("secret"))
	config, err := configFrom(func(name string) string {
		return map[string]string{
			"STIGG_SERVER_API_KEY": "key", "REDIS_HOST": redis.Host(),
			"REDIS_PORT": strconv.Itoa(redis.Port()), "REDIS_PASSWORD": "secret",
		}[name]
	})
	require.NoError(t, err)
	config.APIURL, config.EdgeURL = api.URL(), api.URL()
	return config
}

func TestShowCustomer(t *testing.T) {
	api := stiggtest.New(t)
	api.SetEntitlements("acme",
		stiggtest.Boolean("sso"),
		stiggtest.Numeric("seats", 20),
		stiggtest.Enum("regions", "eu", "us"),
		stiggtest.Metered("exports", 100, 100).Denied(stigg.BudgetExceeded),
		stiggtest.Metered("calls", 0, 7).Unlimited(),
		stiggtest.Credit("tokens", 5000, 4200),
	)
	var out bytes.Buffer
	err := showCustomer(t.Context(), &out, realConfig(t, api), subject{"acme", "sso", "tokens"})
	require.NoError(t, err)

	require.Contains(t, out.String(), "The API accepts the key.\n")
	require.Contains(t, out.String(), "\nacme has 6 entitlements (source edge, ")
	require.Contains(t, out.String(), `
  sso                             yes                      boolean
  seats                           yes, 20                  numeric
  regions                         yes, eu us               enum
  exports                         no, 100 of 100 used      metered
      denied: BudgetExceeded
  calls                           yes, 7 used, unlimited   metered
  tokens                          yes, 800 left            credit
`)
	rows := rowPattern.FindAllStringSubmatch(out.String(), -1)
	require.Len(t, rows, 4, out.String())
	for i, id := range []string{"sso", "tokens", "sso", "tokens"} {
		require.Equal(t, id, rows[i][1])
		require.NotEqual(t, "fallback", rows[i][4])
	}
	require.Equal(t, 1, api.Count(stiggtest.Customer("acme")))
}

func TestShowCustomerWithoutACustomer(t *testing.T) {
	api := stiggtest.New(t)
	var out bytes.Buffer
	require.NoError(t, showCustomer(t.Context(), &out, realConfig(t, api), subject{}))
	require.Contains(t, out.String(), "Set STIGG_CUSTOMER_ID")
}

func TestShowCustomerThatIsUnknown(t *testing.T) {
	api := stiggtest.New(t)
	var out bytes.Buffer
	require.NoError(t, showCustomer(t.Context(), &out, realConfig(t, api), subject{customerID: "nobody"}))
	require.Contains(t, out.String(), "nobody has 0 entitlements")
	require.Contains(t, out.String(), "denied: CustomerNotFound")
}

func TestShowCustomerWithAWrongKey(t *testing.T) {
	api := stiggtest.New(t)
	api.SetAPIKey("another")
	err := showCustomer(t.Context(), &bytes.Buffer{}, realConfig(t, api), subject{customerID: "acme"})
	require.ErrorIs(t, err, stigg.ErrUnauthenticated)
}

func TestShowCustomerWithoutAnAPI(t *testing.T) {
	api := stiggtest.New(t)
	config := realConfig(t, api)
	api.Close()
	config.EntitlementsTimeout = time.Second
	err := showCustomer(t.Context(), &bytes.Buffer{}, config, subject{customerID: "acme"})
	require.ErrorIs(t, err, stigg.ErrUnavailable)
}
