package queue

import (
	"fmt"
	"log/slog"

	"github.com/aws/smithy-go/logging"
)

// clientLog has the AWS client log like the rest of the service, rather than
// in a form of its own.
type clientLog struct{ log *slog.Logger }

// Logf implements logging.Logger.
func (l clientLog) Logf(kind logging.Classification, format string, values ...any) {
	switch {
	case l.log == nil:
	case kind == logging.Warn:
		l.log.Warn("aws client", "err", fmt.Sprintf(format, values...))
	default:
		l.log.Debug("aws client", "detail", fmt.Sprintf(format, values...))
	}
}
