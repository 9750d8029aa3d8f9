package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/broker/journal"
	"holdfast/gateway/status"
)

// stalledAfter is how long the journal may be at one commit before clients are told to go elsewhere: all of them
// wait for it. The watchdog, which starts the gateway again, has more patience.
const stalledAfter = 8 * time.Second

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
		stuck := a.progress.stuck(stuckAfter)
		if stalled := a.journal.Stalled(); stalled > stalledAfter {
			stuck = append(stuck, fmt.Sprintf("journal, for %v", stalled.Round(time.Second)))
		}
		if len(stuck) > 0 {
			p.wrong = "no progress: " + strings.Join(stuck, ", ")
		}
		answer(w, p)
	})
}

// readyHandler says whether clients and sensors get what they need: a journal that keeps, and open listeners.
func (a *Agent) readyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		log, listeners := part{name: "journal"}, part{name: "listeners"}
		var j journal.Stats
		stalled, answers := a.journal.Stalled(), true
		if stalled <= stalledAfter {
			j, answers = a.journal.StatsNow()
		}
		switch {
		case stalled > stalledAfter:
			log.wrong = fmt.Sprintf("no progress for %v", stalled.Round(time.Second))
		case !answers:
			log.wrong = "does not answer"
		case a.broken != nil:
			log.wrong = a.broken.Error()
		case j.Failed:
			log.wrong = "its storage refuses writes"
		case j.Full:
			log.wrong = "full"
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
		answer(w, log, listeners)
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
