package outputs

import (
	"log/slog"
	"time"
)

const (
	movesLogged = 10 // of one output in movesWindow
	movesWindow = time.Minute
)

// moveLog logs the moves of one output, with what moved it and why. A sender decides how often an output moves, and
// chooses the texts in the line: so of more than 10 moves in a minute only the number is logged, with the next move.
type moveLog struct {
	began   time.Time
	logged  int // since then
	skipped int
}

func (m *moveLog) log(log *slog.Logger, from, to State) {
	if now := to.Since; m.began.IsZero() || now.Sub(m.began) >= movesWindow {
		m.began, m.logged = now, 0
	}
	if m.logged == movesLogged {
		m.skipped++
		return
	}
	m.logged++
	attrs := []any{"from", "unknown", "to", to.Value, "by", string(to.By)}
	if from.Known {
		attrs[1] = from.Value
	}
	for _, a := range []struct{ key, text string }{{"why", to.Why}, {"id", to.ID}} {
		if a.text != "" {
			attrs = append(attrs, a.key, a.text)
		}
	}
	if m.skipped > 0 {
		attrs = append(attrs, "moves_not_logged", m.skipped)
		m.skipped = 0
	}
	log.Info("output moved", attrs...)
}
