package stigg_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/faultproxy"
)

const deadConnectionVariable = "STIGG_TEST_DEAD_CONNECTION"

// TestDeadConnection: the one HTTP/2 connection to the API goes dead, as a NAT
// or a load balancer that forgets it leaves it: nobody says so, and a new one
// would work. The client notices within 20 s and makes a new one. That its own
// HTTP client trusts the server takes a process of its own.
func TestDeadConnection(t *testing.T) {
	if os.Getenv(deadConnectionVariable) != "" {
		loseConnection(t)
		return
	}
	t.Parallel() // it mostly waits
	server := httptest.NewTLSServer(nil)
	certificate := filepath.Join(t.TempDir(), "certificate.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw} // the same of every httptest server
	server.Close()
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(block), 0o600))
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDeadConnection$")
	child.Env = append(os.Environ(), deadConnectionVariable+"=1", "SSL_CERT_FILE="+certificate)
	output, err := child.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// loseConnection is the child process of TestDeadConnection.
func loseConnection(t *testing.T) {
	answer := edgeFixture(t)[[2]string{"cust-basic", ""}]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	proxy := faultproxy.New(t, server.Listener.Addr().String())
	client := newClient(t, nil, nil, func(c *stigg.Config) {
		c.APIURL, c.EdgeURL = "https://"+proxy.Addr(), "https://"+proxy.Addr()
		c.EntitlementsTimeout = time.Second
	})
	asked := 0
	ask := func() error { // another customer each time: what has failed is not asked again at once
		asked++
		_, err := client.GetEntitlements(background(), "customer-"+strconv.Itoa(asked), "")
		return err
	}
	// The check of the API key is over: two requests at once make two connections.
	require.NoError(t, client.WaitForInitialization(background()))
	require.NoError(t, ask())
	require.Equal(t, 1, proxy.Stats().Accepted)

	proxy.Blackhole(faultproxy.Both)
	require.ErrorIs(t, ask(), stigg.ErrUnavailable)
	proxy.Pass() // new connections work; the old one has lost bytes, and stays silent
	require.Eventually(t, func() bool { return ask() == nil }, 30*time.Second, 10*time.Millisecond)
}
