package service

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
	"github.com/stiggio/server-sdk-go/internal/apierr"
	"github.com/stiggio/server-sdk-go/internal/edge"
)

const (
	// remoteTimeout bounds one request for the remote configuration.
	remoteTimeout = 10 * time.Second
	// remoteRetryFirst and remoteRetryMost bound the wait after one that failed.
	remoteRetryFirst = time.Second
	remoteRetryMost  = 5 * time.Minute
)

// configureRemotely starts the error reports and fetches the remote
// configuration, which tells what the variables leave open. The service works
// without it.
func (s *Service) configureRemotely(ctx context.Context) {
	dsn := string(s.config.SentryDSN)
	s.startReports(dsn)
	for n := 0; ; n++ {
		remote, err := s.fetchRemote(ctx)
		if err == nil {
			s.apiUp.Worked()
			if dsn == "" {
				s.startReports(remote.SentryDSN)
			}
			s.learnEnvironment(remote.Raw)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, apierr.ErrNotFound) || errors.Is(err, apierr.ErrRejected) {
			s.apiUp.Erred(err) // it answers, but has no such configuration
		} else {
			s.apiUp.Missed(err)
		}
		if !watch.Sleep(ctx, watch.Backoff(n, remoteRetryFirst, remoteRetryMost)) {
			return
		}
	}
}

func (s *Service) fetchRemote(ctx context.Context) (edge.ServiceConfiguration, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	return s.edge.PersistentCacheServiceConfiguration(ctx)
}

func (s *Service) startReports(dsn string) {
	if dsn == "" || s.config.DisableSentry {
		return
	}
	if err := s.reporter.Start(dsn, s.version, s.config.EnvironmentPrefix); err != nil {
		s.log.Warn("errors are not reported", "err", err)
	}
}

// learnEnvironment takes the environment's id from the remote configuration,
// if it is there and the variables do not say.
func (s *Service) learnEnvironment(raw json.RawMessage) {
	var known struct {
		EnvironmentID string `json:"environmentId"`
	}
	if json.Unmarshal(raw, &known) == nil && known.EnvironmentID != "" && s.config.EnvironmentID == "" {
		s.environmentID.Store(&known.EnvironmentID)
	}
}
