package redistest_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest"
)

const diesAlone = "REDISTEST_DIES_ALONE"

// A killed test binary runs no cleanup; its servers go all the same.
func TestServersDieWithTheTestBinary(t *testing.T) {
	if os.Getenv(diesAlone) != "" {
		s := redistest.Start(t)
		_, err := os.Stdout.WriteString("addr=" + s.Addr() + "\n")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), diesAlone+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var addr string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		_, addr, _ = strings.Cut(lines.Text(), "addr=")
	}
	killed := cmd.Process.Kill()
	_ = cmd.Wait() // tells that it was killed
	require.NoError(t, killed)
	require.NotEmpty(t, addr, "the other binary started no server")
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return true
		}
		_ = conn.Close()
		return false
	}, 5*time.Second, 5*time.Millisecond, "redis-server outlived its test binary")
}
