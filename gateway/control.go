package gateway

import (
	"encoding/json"
	"net/http"

	"holdfast/gateway/control"
)

// newControl puts together what is served on the control socket. Everything that is, is named here.
func (a *Agent) newControl() {
	a.control = control.New(control.Path(a.cfg.Control, a.cfg.DataDir), a.log)
	a.control.Handle("GET /status", a.statusHandler())
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
