package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"

	"holdfast/gateway/control"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
)

// newControl puts together what is served on the control socket. Everything that is, is named here.
func (a *Agent) newControl() {
	a.control = control.New(control.Path(a.cfg.Control, a.cfg.DataDir), a.log)
	a.control.Handle("GET /status", a.statusHandler())
	a.control.Handle("POST /reload", a.reloadHandler())
	a.control.Handle("POST /config/apply", a.applyHandler())
	a.control.Handle("POST /config/confirm", a.confirmHandler())
	a.control.Handle("POST /config/rollback", a.rollbackHandler())
	a.control.Handle("GET /metrics", a.metricsHandler())
	a.control.Handle("GET /healthz", a.healthHandler())
	a.control.Handle("GET /readyz", a.readyHandler())
}

// ControlPath is where the control socket is.
func (a *Agent) ControlPath() string { return a.control.Path() }

// statusHandler answers with the status as JSON.
func (a *Agent) statusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(a.Status()) // an error is that of whoever asked and left
	})
}

// reloadHandler reads the configuration again, and answers with what has changed or with what is wrong.
func (a *Agent) reloadHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		changes, err := a.changes.Reload(status.ByCommand)
		reply(w, control.Changed{Changes: append([]string{}, changes...)}, err)
	})
}

// maxApplication bounds a configuration as JSON has it.
const maxApplication = 4 << 20

func (a *Agent) applyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var what reconfigure.Application
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxApplication)).Decode(&what); err != nil {
			reply(w, nil, fmt.Errorf("the request cannot be read: %w", err))
			return
		}
		done, err := a.changes.Apply(what)
		reply(w, done, err)
	})
}

func (a *Agent) confirmHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, a.changes.Confirm())
	})
}

func (a *Agent) rollbackHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		done, err := a.changes.Rollback()
		reply(w, done, err)
	})
}

// reply sends what became of a request.
func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error is that of whoever asked and left
}
