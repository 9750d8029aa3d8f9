package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"holdfast/gateway/control"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/gateway/views"
)

// newControl registers everything that the control socket serves.
func newControl(path string, v *views.Views, c *reconfigure.Changes, log *slog.Logger) *control.Server {
	s := control.New(path, log)
	s.Handle("GET /status", statusHandler(v))
	s.Handle("POST /reload", reloadHandler(c))
	s.Handle("POST /config/apply", applyHandler(c))
	s.Handle("POST /config/confirm", confirmHandler(c))
	s.Handle("POST /config/rollback", rollbackHandler(c))
	s.Handle("GET /metrics", v.Metrics())
	s.Handle("GET /healthz", v.Healthz())
	s.Handle("GET /readyz", v.Readyz())
	return s
}

// statusHandler answers with the status as JSON.
func statusHandler(v *views.Views) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(v.Status()) // an error is that of a client that left
	})
}

// reloadHandler loads the configuration again, and answers with what has changed or with what is wrong.
func reloadHandler(c *reconfigure.Changes) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		changes, err := c.Reload(status.ByCommand)
		reply(w, control.Changed{Changes: append([]string{}, changes...)}, err)
	})
}

// maxApplication bounds a configuration as JSON has it.
const maxApplication = 4 << 20

func applyHandler(c *reconfigure.Changes) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var what reconfigure.Application
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxApplication)).Decode(&what); err != nil {
			reply(w, nil, fmt.Errorf("the request cannot be read: %w", err))
			return
		}
		done, err := c.Apply(what)
		reply(w, done, err)
	})
}

func confirmHandler(c *reconfigure.Changes) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, c.Confirm())
	})
}

func rollbackHandler(c *reconfigure.Changes) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		done, err := c.Rollback()
		reply(w, done, err)
	})
}

// reply sends the outcome of a request.
func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error is that of a client that left
}
