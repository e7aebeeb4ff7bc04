// Package port finds free TCP ports for servers that a test starts and stops.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range lies below the ports that the kernels of Linux and macOS hand out
// for outgoing connections, so that nobody takes the port of a server while a
// test has it switched off.
const (
	lowest  = 12000
	highest = 31999
	tries   = 200
)

// Free returns a port on 127.0.0.1 on which nobody listens. Nothing reserves
// it: two callers can be given the same one, though seldom, so a caller that
// fails to listen asks again.
func Free() (int, error) {
	var errs []error
	for range tries {
		p := lowest + rand.IntN(highest-lowest+1)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("give back port %d: %w", p, err)
		}
		return p, nil
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1: %w", errors.Join(errs...))
}
