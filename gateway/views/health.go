package views

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/broker/journal"
	"holdfast/gateway/progress"
	"holdfast/gateway/status"
)

// stalledAfter is how long the journal may be at one commit before clients are sent elsewhere: all of them
// wait for it. The watchdog, which starts the gateway again, has more patience.
const stalledAfter = 8 * time.Second

// check is one condition of health, and what is wrong with it.
type check struct{ name, wrong string }

// Healthz reports whether the loops make progress: if not, only a restart helps.
func (v *Views) Healthz() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p := check{name: "loops"}
		stuck := v.Progress.Stuck(progress.StuckAfter)
		if stalled := v.Journal.Stalled(); stalled > stalledAfter {
			stuck = append(stuck, fmt.Sprintf("journal, for %v", stalled.Round(time.Second)))
		}
		if len(stuck) > 0 {
			p.wrong = "no progress: " + strings.Join(stuck, ", ")
		}
		answer(w, p)
	})
}

// Readyz reports whether the gateway can serve clients and sensors: a journal that accepts writes, and open listeners.
func (v *Views) Readyz() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		log, listeners := check{name: "journal"}, check{name: "listeners"}
		var j journal.Stats
		stalled, answers := v.Journal.Stalled(), true
		if stalled <= stalledAfter {
			j, answers = v.Journal.StatsNow()
		}
		switch {
		case stalled > stalledAfter:
			log.wrong = fmt.Sprintf("no progress for %v", stalled.Round(time.Second))
		case !answers:
			log.wrong = "does not answer"
		case v.Broken != nil:
			log.wrong = v.Broken.Error()
		case j.Failed:
			log.wrong = "its storage refuses writes"
		case j.Full:
			log.wrong = "full"
		}
		switch v.phase.Load().(status.State) {
		case status.Starting:
			listeners.wrong = "not open yet"
		case status.Stopping:
			listeners.wrong = "stopping"
		}
		for _, l := range v.Listeners() {
			if !l.Open && listeners.wrong == "" {
				listeners.wrong = l.URL + " is not open: " + l.Error
			}
		}
		answer(w, log, listeners)
	})
}

// answer is 200 if all checks are well, else 503, with a line for each.
func answer(w http.ResponseWriter, checks ...check) {
	code := http.StatusOK
	var b strings.Builder
	for _, p := range checks {
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
