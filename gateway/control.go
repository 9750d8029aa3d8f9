package gateway

import (
	"encoding/json"
	"net/http"

	"holdfast/gateway/control"
	"holdfast/gateway/status"
)

// newControl puts together what is served on the control socket. Everything that is, is named here.
func (a *Agent) newControl() {
	a.control = control.New(control.Path(a.cfg.Control, a.cfg.DataDir), a.log)
	a.control.Handle("GET /status", a.statusHandler())
	a.control.Handle("POST /reload", a.reloadHandler())
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
