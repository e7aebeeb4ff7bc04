package port_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/internal/redistest/port"
)

func TestFreeReturnsAPortThatCanBeListenedOn(t *testing.T) {
	for range 20 {
		p, err := port.Free()
		require.NoError(t, err)
		require.Less(t, p, 32768, "a port from the range for outgoing connections")
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
