package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"holdfast/gateway/status"
)

// Handlers for those who watch over many machines. They are served on the control socket and on the dashboard.

// metricsHandler is for Prometheus.
func (a *Agent) metricsHandler() http.Handler {
	return status.MetricsHandler(a.Status, a.log)
}

// part is one of what has to be well, and what is wrong with it.
type part struct{ name, wrong string }

// healthHandler says whether the loops make progress: if not, only a restart helps.
func (a *Agent) healthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p := part{name: "loops"}
		if stuck := a.progress.stuck(stuckAfter); len(stuck) > 0 {
			p.wrong = "no progress: " + strings.Join(stuck, ", ")
		}
		answer(w, p)
	})
}

// readyHandler says whether clients and sensors get what they need: a journal that keeps, and open listeners.
func (a *Agent) readyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		journal, listeners := part{name: "journal"}, part{name: "listeners"}
		switch j := a.journal.Stats(); {
		case a.broken != nil:
			journal.wrong = a.broken.Error()
		case j.Failed:
			journal.wrong = "its storage refuses writes"
		case j.Full:
			journal.wrong = "full"
		}
		switch a.phase.Load().(status.State) {
		case status.Starting:
			listeners.wrong = "not open yet"
		case status.Stopping:
			listeners.wrong = "stopping"
		}
		for _, l := range a.brokerListeners() {
			if !l.Open && listeners.wrong == "" {
				listeners.wrong = l.URL + " is not open: " + l.Error
			}
		}
		answer(w, journal, listeners)
	})
}

// answer is 200 if all parts are well, else 503, with a line for each.
func answer(w http.ResponseWriter, parts ...part) {
	code := http.StatusOK
	var b strings.Builder
	for _, p := range parts {
		if p.wrong == "" {
			p.wrong = "ok"
		} else {
			code = http.StatusServiceUnavailable
		}
		fmt.Fprintf(&b, "%s: %s\n", p.name, p.wrong)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(b.String()))
}
