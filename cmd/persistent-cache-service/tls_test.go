package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

// caFile is the certificate of the authority that Redis's was signed by.
func caFile(t *testing.T, server *redistest.Server) string {
	t.Helper()
	setting, err := server.Client().ConfigGet(t.Context(), "tls-ca-cert-file").Result()
	require.NoError(t, err)
	require.FileExists(t, setting["tls-ca-cert-file"])
	return setting["tls-ca-cert-file"]
}

// The service speaks TLS to Redis, whose certificate a private authority
// signed.
func TestRedisTLS(t *testing.T) {
	w := newWorld(t, redistest.TLS())
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	w.apply(prefix, []change{{"c", at, listBody("c", 2, 1, at)}})
	environ := w.environ("REDIS_TLS=1", "SSL_CERT_FILE="+caFile(t, w.redis))
	code, out, errs := command(t, environ, "--check")
	require.Zero(t, code, out+errs)
	require.Contains(t, out, "redis: ok: "+w.redis.Addr())

	s := start(t, environ)
	s.awaitReady(200, 10*time.Second)
	w.sqs.Send(w.queue, usageBody("c", "feature-0", 5, at.Add(time.Hour)))
	require.Eventually(t, func() bool {
		value, err := w.client.Get(t.Context(), prefix+":c_c:f_feature-0").Result()
		return err == nil && value == `{"currentUsage":5,"usagePeriodStart":null,"usagePeriodEnd":null}`
	}, 5*time.Second, 20*time.Millisecond)
	w.sqs.WaitEmpty(w.queue, 5*time.Second)
	require.Zero(t, s.terminate())
}

// A certificate that is not trusted is said plainly; nothing is received, and
// the service stops in order.
func TestRedisTLSUntrusted(t *testing.T) {
	w := newWorld(t, redistest.TLS())
	environ := w.environ("REDIS_TLS=1")
	began := time.Now()
	code, out, errs := command(t, environ, "--check")
	require.Equal(t, 1, code, out+errs)
	require.Contains(t, out, "redis: FAILED: ")
	require.Contains(t, out, "certificate signed by unknown authority")
	require.Less(t, time.Since(began), 10*time.Second)

	s := start(t, environ)
	w.sqs.Send(w.queue, usageBody("c", "feature-0", 5, time.Now()))
	require.Eventually(t, func() bool {
		return strings.Contains(s.log.String(), `"msg":"redis is away","err":"tls: failed to verify certificate: x509: certificate signed by unknown authority"`)
	}, 10*time.Second, 50*time.Millisecond)
	status, body := s.get("/readyz")
	require.Equal(t, 503, status)
	require.JSONEq(t, `{"status":"DOWN","consumers":0,"redis":"DISCONNECTED"}`, body)
	visible, inFlight := w.sqs.Depth(w.queue)
	require.Equal(t, [2]int{1, 0}, [2]int{visible, inFlight})
	require.Zero(t, s.terminate())
}

// SSL_CERT_FILE is trusted beside the directories that the system keeps
// certificates in, in which the image has those of the public authorities.
func TestPrivateAuthorityBesideOthers(t *testing.T) {
	w := newWorld(t, redistest.TLS())
	other := redistest.Start(t, redistest.TLS())
	directory := t.TempDir()
	text, err := os.ReadFile(caFile(t, other))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(directory, "authorities.crt"), text, 0o600))
	for _, server := range []*redistest.Server{w.redis, other} {
		environ := w.environ("REDIS_TLS=1", "SSL_CERT_FILE="+caFile(t, w.redis), "SSL_CERT_DIR="+directory, "REDIS_PORT="+strconv.Itoa(server.Port()))
		code, out, errs := command(t, environ, "--check")
		require.Zero(t, code, out+errs)
	}
}

// TLS on one side only fails soon, and says which side it is.
func TestTLSOnOneSide(t *testing.T) {
	w := newWorld(t)
	encrypted := redistest.Start(t, redistest.TLS())
	for want, environ := range map[string][]string{
		"REDIS_TLS is on: does Redis speak TLS":   w.environ("REDIS_TLS=1"),
		"REDIS_TLS is off: does Redis expect TLS": w.environ("REDIS_TLS=0", "REDIS_PORT="+strconv.Itoa(encrypted.Port())),
	} {
		began := time.Now()
		code, out, errs := command(t, environ, "--check")
		require.Equal(t, 1, code, out+errs)
		require.Contains(t, out, "redis: FAILED: ")
		require.Contains(t, out, want)
		require.Less(t, time.Since(began), 10*time.Second)
	}
}
