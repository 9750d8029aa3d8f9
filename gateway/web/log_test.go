package web

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	l := NewLog("hunter22", "abc")
	log := slog.New(l.Handler(slog.NewTextHandler(&out, nil)))
	log.Debug("nobody asked for this")
	log.With("bridge", "cloud").WithGroup("at").Warn("refused", "reason", errors.New("bad password hunter22 of abc"))
	got := l.after(0)
	if len(got) != 1 || got[0].Level != "warn" || got[0].Text != `refused bridge=cloud at.reason="bad password ******** of abc"` {
		t.Errorf("got %+v", got)
	}
	if text := out.String(); !strings.Contains(text, "bridge=cloud at.reason") || strings.Contains(text, "nobody") {
		t.Errorf("passed on: %s", text)
	}
	for range 2 * maxLines {
		log.Info(strings.Repeat("x", 2*maxLine))
	}
	got = l.after(0)
	if len(got) != maxLines || len(got[0].Text) > maxLine || got[maxLines-1].N != 2*maxLines+1 {
		t.Errorf("got %d lines of %d bytes", len(got), len(got[0].Text))
	}
	if got := l.after(2 * maxLines); len(got) != 1 {
		t.Errorf("got %d new lines, want 1", len(got))
	}
	l.Hide("other22")
	log.Warn("of hunter22 and other22")
	if got := l.after(2*maxLines + 1); got[0].Text != "of hunter22 and ********" {
		t.Errorf("got %+v", got)
	}
	// What the log below does not want is remembered all the same, and not passed on.
	quiet := slog.New(l.Handler(slog.DiscardHandler))
	quiet.Info("still here")
	if got := l.after(2*maxLines + 2); len(got) != 1 || got[0].Text != "still here" {
		t.Errorf("got %+v", got)
	}
}
