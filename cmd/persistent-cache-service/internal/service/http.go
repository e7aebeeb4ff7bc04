package service

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/watch"
)

// handler answers the HTTP server's four paths.
func (s *Service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, struct {
			Status string `json:"status"`
		}{"UP"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer := readiness{Status: "DOWN", Redis: "DISCONNECTED"}
		status := http.StatusServiceUnavailable
		if s.gate.Up() {
			answer.Redis, answer.Consumers = "CONNECTED", s.consumer.Running()
		}
		if answer.Consumers > 0 {
			answer.Status, status = "UP", http.StatusOK
		}
		writeJSON(w, status, answer)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.status(time.Now()))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.Registry, promhttp.HandlerOpts{Registry: s.metrics.Registry}))
	return mux
}

type readiness struct {
	Status    string `json:"status"`
	Consumers int    `json:"consumers"`
	Redis     string `json:"redis"`
}

// The answer to /status.
type (
	statusAnswer struct {
		Status          string                       `json:"status"`
		Version         string                       `json:"version"`
		StartedAt       time.Time                    `json:"startedAt"`
		UptimeSeconds   int64                        `json:"uptimeSeconds"`
		Queue           queueStatus                  `json:"queue"`
		Redis           dependencyStatus             `json:"redis"`
		EdgeAPI         dependencyStatus             `json:"edgeApi"`
		Messages        map[string]map[string]uint64 `json:"messages"`
		LastHeartbeatAt *time.Time                   `json:"lastHeartbeatAt"`
	}
	dependencyStatus struct {
		State       string     `json:"state"`
		Since       time.Time  `json:"since"`
		LastError   *string    `json:"lastError"`
		LastErrorAt *time.Time `json:"lastErrorAt"`
	}
	queueStatus struct {
		dependencyStatus
		Credentials             string     `json:"credentials"`
		Consumers               int        `json:"consumers"`
		LastMessageAt           *time.Time `json:"lastMessageAt"`
		InHand                  int        `json:"messagesInHand"`
		WaitingForRefetch       int        `json:"messagesWaitingForRefetch"`
		OldestMessageAgeSeconds float64    `json:"oldestMessageAgeSeconds"`
		Visible                 *int       `json:"messagesVisible"`
		InFlight                *int       `json:"messagesInFlight"`
		Delayed                 *int       `json:"messagesDelayed"`
	}
)

func (s *Service) status(now time.Time) statusAnswer {
	figures := s.consumer.Figures()
	answer := statusAnswer{
		Status: "DOWN", Version: s.version, StartedAt: s.started.UTC(), UptimeSeconds: int64(now.Sub(s.started).Seconds()),
		Redis: dependency(s.gate.State()), EdgeAPI: dependency(s.apiUp.State()), Messages: figures.Counts,
		Queue: queueStatus{
			dependencyStatus: dependency(s.queueUp.State()), Credentials: "unknown", Consumers: figures.Consumers,
			LastMessageAt: optionalTime(figures.LastMessage), InHand: figures.InHand, WaitingForRefetch: figures.Waiting,
			OldestMessageAgeSeconds: figures.OldestAge.Seconds(),
		},
	}
	if s.ready() {
		answer.Status = "UP"
	}
	if source := s.credentials.Load(); source != nil {
		answer.Queue.Credentials = *source
	}
	if d := s.depth.Load(); d != nil && d.err == nil {
		answer.Queue.Visible, answer.Queue.InFlight, answer.Queue.Delayed = &d.Visible, &d.InFlight, &d.Delayed
	}
	if ms := s.heartbeat.Load(); ms > 0 {
		answer.LastHeartbeatAt = optionalTime(time.UnixMilli(ms))
	}
	return answer
}

func dependency(state watch.State) dependencyStatus {
	d := dependencyStatus{State: "DISCONNECTED", Since: state.Since.UTC(), LastErrorAt: optionalTime(state.LastErrAt)}
	switch {
	case !state.Known:
		d.State = "UNKNOWN"
	case state.Up:
		d.State = "CONNECTED"
	}
	if state.LastError != nil {
		text := state.LastError.Error()
		d.LastError = &text
	}
	return d
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
}
