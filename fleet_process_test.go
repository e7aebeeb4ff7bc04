package stigg_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// The real processes of a fleet: this test binary, started again.

// memberConfig is the environment variable that makes the test binary a
// process of a fleet, and configures it.
const memberConfig = "STIGG_TEST_FLEET_MEMBER"

// fleetConfig is what a process is told at its start.
type fleetConfig struct {
	APIKey string
	APIURL string
	Port   int // of Redis
}

// fleetOrder is what a process is told to do: a number of checks at once.
type fleetOrder struct {
	CustomerID string
	ResourceID string
	Checks     int
	CurrencyID string // instead of checks, look at this wallet
}

// fleetReport is what a process says when its checks are answered.
type fleetReport struct {
	Right    int    // answers that are right, without an error, from the API or Redis
	Fetches  uint64 // since the start
	Waits    uint64 // for another process, since the start
	Problems []string
	Wallet   stigg.CreditEntitlement
}

// runMember is the main function of a process of a fleet: it carries out the
// orders that come on standard input, one a line, and ends with it.
func runMember(config string) (code int) {
	fail := func(err error) int {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var c fleetConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return fail(err)
	}
	client, err := stigg.Initialize(stigg.Config{
		APIKey: c.APIKey, APIURL: c.APIURL, EdgeURL: c.APIURL, Logger: quiet,
		// Slow machines are not what is tested here.
		Redis: &stigg.RedisConfig{Port: c.Port, EnvironmentPrefix: prefix, Timeout: 5 * time.Second},
	})
	if err != nil {
		return fail(err)
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(fleetReport{}); err != nil { // ready
		return fail(err)
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var order fleetOrder
		if err := in.Decode(&order); err != nil {
			break
		}
		if err := out.Encode(carryOut(client, order)); err != nil {
			return fail(err)
		}
	}
	if err := client.Close(); err != nil {
		return fail(err)
	}
	if err := goleak.Find(goleak.IgnoreTopFunction("github.com/stiggio/server-sdk-go_test.TestMain")); err != nil {
		return fail(err)
	}
	return 0
}

// carryOut makes all checks of an order at once, with every getter in turn.
func carryOut(client *stigg.Client, order fleetOrder) fleetReport {
	if order.CurrencyID != "" {
		wallet, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: order.CustomerID, CurrencyID: order.CurrencyID})
		if err != nil {
			return fleetReport{Problems: []string{err.Error()}}
		}
		return fleetReport{Wallet: wallet}
	}
	var wait sync.WaitGroup
	problems := make(chan string, order.Checks)
	begin := make(chan struct{})
	for i := range order.Checks {
		g := getters[i%len(getters)]
		wait.Go(func() {
			<-begin
			answer, err := g.get(background(), client, ask{customer: order.CustomerID, resource: order.ResourceID, id: g.id, usage: 1})
			live := answer.Source == stigg.SourceEdge || answer.Source == stigg.SourceRedis
			if err != nil || !answer.HasAccess || answer.IsFallback || answer.Stale || !live {
				problems <- fmt.Sprintf("%s: %+v: %v", g.name, answer, err)
			}
		})
	}
	close(begin)
	wait.Wait()
	close(problems)
	r := fleetReport{Right: order.Checks - len(problems)}
	for p := range problems {
		r.Problems = append(r.Problems, p)
	}
	stats := client.Stats()
	r.Fetches, r.Waits = stats.Fetches, stats.FleetWaits
	return r
}

// member is a process of a fleet, as the test sees it.
type member struct {
	t       *testing.T
	apiKey  string
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	killed  bool
}

// startFleet starts processes that share api and server. Each has an API key of
// its own, by which the API can tell them apart.
func startFleet(t *testing.T, n int, api *stiggtest.Server, server *redistest.Server) []*member {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	members := make([]*member, n)
	for i := range members {
		m := &member{t: t, apiKey: fmt.Sprintf("process-%d", i), command: exec.Command(program)}
		config, err := json.Marshal(fleetConfig{APIKey: m.apiKey, APIURL: api.URL(), Port: server.Port()})
		require.NoError(t, err)
		m.command.Env = append(os.Environ(), memberConfig+"="+string(config))
		m.command.Stderr = os.Stderr
		m.in, err = m.command.StdinPipe()
		require.NoError(t, err)
		out, err := m.command.StdoutPipe()
		require.NoError(t, err)
		m.out = bufio.NewReader(out)
		require.NoError(t, m.command.Start())
		t.Cleanup(m.end)
		members[i] = m
	}
	t.Cleanup(func() {
		for _, m := range members {
			_ = m.in.Close() // a killed process reads nothing any more
		}
	})
	for _, m := range members {
		m.report() // it is ready
	}
	api.ResetRequests()
	return members
}

// order tells the process what to do.
func (m *member) order(o fleetOrder) {
	m.t.Helper()
	require.NoError(m.t, json.NewEncoder(m.in).Encode(o))
}

// report waits for what the process has to say.
func (m *member) report() fleetReport {
	m.t.Helper()
	line, err := m.out.ReadBytes('\n')
	require.NoError(m.t, err, m.apiKey)
	var r fleetReport
	require.NoError(m.t, json.Unmarshal(line, &r))
	return r
}

// kill ends the process as a crash would.
func (m *member) kill() {
	m.t.Helper()
	m.killed = true
	require.NoError(m.t, m.command.Process.Kill())
}

// end waits for the process, which closes its client and looks for what that
// has left behind.
func (m *member) end() {
	err := m.command.Wait()
	var exit *exec.ExitError
	if m.killed && errors.As(err, &exit) {
		return
	}
	require.NoError(m.t, err, m.apiKey)
}

// TestFleetOneRequest: however many processes check a cold customer at once,
// the API is asked once; for a resource, once more for its global customer.
func TestFleetOneRequest(t *testing.T) {
	const processes, checks = 4, 50
	for _, c := range []struct {
		name     string
		resource string
		prepare  func(*stiggtest.Server)
		requests int
	}{
		{"customer", "", func(api *stiggtest.Server) {
			api.SetEntitlements("acme", acmeEntitlements()...)
		}, 1},
		{"resource newer than its customer", "site", func(api *stiggtest.Server) {
			api.SetEntitlements("acme", acmeEntitlements()...)
			api.SetResourceEntitlements("acme", "site", acmeEntitlements()...)
		}, 2},
		{"resource older than its customer", "site", func(api *stiggtest.Server) {
			api.SetResourceEntitlements("acme", "site", acmeEntitlements()...)
			api.SetEntitlements("acme", acmeEntitlements()...)
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, api := redistest.Start(t), stiggtest.New(t)
			c.prepare(api)
			members := startFleet(t, processes, api, server)
			release := make(chan struct{})
			api.Fault(onEdge(stiggtest.Hold(release)))

			for _, m := range members {
				m.order(fleetOrder{CustomerID: "acme", ResourceID: c.resource, Checks: checks})
			}
			client := server.Client()
			eventually(t, func() bool {
				return subscribers(t, client, "acme") == processes-1 &&
					(c.resource == "" || subscribers(t, client, "acme:"+c.resource) == processes-1)
			}, "all others wait for the one that asks")
			close(release)
			for _, m := range members {
				r := m.report()
				require.Empty(t, r.Problems, m.apiKey)
				require.Equal(t, checks, r.Right)
			}
			require.Equal(t, c.requests, api.Count(isFetch))

			// What one process fetched all can use.
			var fetches, waits uint64
			for _, m := range members {
				m.order(fleetOrder{CustomerID: "acme", ResourceID: c.resource, Checks: checks})
				r := m.report()
				require.Empty(t, r.Problems, m.apiKey)
				fetches, waits = fetches+r.Fetches, waits+r.Waits
			}
			require.Equal(t, c.requests, api.Count(isFetch))
			require.EqualValues(t, c.requests, fetches)
			require.EqualValues(t, c.requests*(processes-1), waits)
		})
	}
}

// TestFleetSeesConsumption: what one process consumes the others see at once,
// without asking the API.
func TestFleetSeesConsumption(t *testing.T) {
	server, api := redistest.Start(t), stiggtest.New(t)
	api.SetEntitlements("acme", stiggtest.Credit("tokens", 1000, 100))
	client := newClient(t, api, server)
	_, err := client.GetCreditEntitlement(background(), stigg.CreditQuery{CustomerID: "acme", CurrencyID: "tokens"})
	require.NoError(t, err)
	eventually(t, func() bool { return client.Stats().PairsWritten > 0 }, "write-back")
	members := startFleet(t, 2, api, server)
	for consumed := 1; consumed <= 5; consumed++ {
		_, err := client.ConsumeCredits(background(), stigg.CreditConsumption{CustomerID: "acme", CurrencyID: "tokens", Amount: 10})
		require.NoError(t, err)
		for _, m := range members {
			m.order(fleetOrder{CustomerID: "acme", CurrencyID: "tokens"})
			r := m.report()
			require.Empty(t, r.Problems)
			require.Equal(t, stigg.SourceRedis, r.Wallet.Source)
			require.Equal(t, float64(900-10*consumed), r.Wallet.Remaining)
		}
	}
	require.Zero(t, api.Count(isFetch, stiggtest.Edge))
	require.Zero(t, api.Count(stiggtest.Operation("GetEntitlementsState")))
}

// TestFleetOwnerKilled: a process that dies while it fetches for all is
// replaced by one of those that wait.
func TestFleetOwnerKilled(t *testing.T) {
	t.Parallel()
	const processes, checks = 4, 50
	const latency = 100 * time.Millisecond
	server, api := redistest.Start(t), acmeAPI(t)
	members := startFleet(t, processes, api, server)
	api.Fault(onEdge(stiggtest.Hang()).Times(1), onEdge(stiggtest.Latency(latency)))

	for _, m := range members {
		m.order(fleetOrder{CustomerID: "acme", Checks: checks})
	}
	ctx, cancel := context.WithTimeout(background(), 10*time.Second)
	defer cancel()
	require.NoError(t, api.WaitForRequests(ctx, 1, isFetch))
	client := server.Client()
	// Everybody else waits when they listen.
	eventually(t, func() bool { return subscribers(t, client, "acme") == processes-1 }, "the others wait")
	owner := api.Requests(isFetch)[0].Header.Get("X-Api-Key")
	killed := time.Now()
	var others []*member
	for _, m := range members {
		if m.apiKey == owner {
			m.kill()
		} else {
			others = append(others, m)
		}
	}
	require.Len(t, others, processes-1)

	for _, m := range others {
		r := m.report()
		require.Empty(t, r.Problems, m.apiKey)
		require.Equal(t, checks, r.Right)
	}
	// The lock's life, a poll, a fetch; and a margin for a busy machine. Who
	// sees nothing of the lock's end waits for 10.5 s.
	const bound = 5*time.Second + 250*time.Millisecond + latency + 3*time.Second
	require.Less(t, time.Since(killed), bound)
	require.Equal(t, 2, api.Count(isFetch))
	require.NotEqual(t, owner, api.Requests(isFetch)[1].Header.Get("X-Api-Key"))
}
