package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// answerWait is how long a page waits for the answer to a command.
const answerWait = 8 * time.Second

// Command asks an output for a value.
type Command struct {
	Value json.RawMessage `json:"value"` // true, false, a number, or one of them as text
	ID    string          `json:"id"`    // the page's: sent again, it is not carried out again
	By    string          `json:"-"`     // who sends it
}

// command moves an output. The answer is that of the output, whatever it is.
func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	var c Command
	err := decode(r, &c)
	switch {
	case err == nil && (c.ID == "" || len(c.ID) > 64):
		err = errors.New("id: want 1 to 64 bytes")
	case err == nil && len(c.Value) == 0:
		err = errors.New("value: missing")
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	c.By = "dashboard"
	if user := visitorOf(r).user; user != "" {
		c.By += " " + user
	}
	name := r.PathValue("name")
	ctx, cancel := context.WithTimeout(r.Context(), answerWait)
	defer cancel()
	result, err := s.opts.Command(ctx, name, c)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fail(w, http.StatusGatewayTimeout, "no answer yet: what became of it shows in the output's state")
	case err != nil:
		fail(w, http.StatusServiceUnavailable, err.Error())
	default:
		var is struct{ Result, Reason string }
		_ = json.Unmarshal(result, &is) // what is missing is not logged
		attrs := []any{"output", name, "value", strings.Trim(string(c.Value), `"`), "by", c.By, "result", is.Result}
		if is.Reason != "" {
			attrs = append(attrs, "reason", is.Reason)
		}
		s.log.Info("dashboard: command", attrs...)
		answer(w, http.StatusOK, result)
	}
}
