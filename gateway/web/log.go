package web

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	maxLines = 300
	maxLine  = 600 // bytes; all of them 180 kB
)

// Log remembers the last lines of a log. Methods are safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	hide  *strings.Replacer
	lines ring[line]
	last  uint64 // number of the newest
}

type line struct {
	N     uint64    `json:"n"`
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Text  string    `json:"text"`
}

// NewLog returns a log that shows asterisks in place of secrets. The sources of records keep secrets out;
// this catches those that come back in an error of another package.
func NewLog(secrets ...string) *Log {
	l := new(Log)
	l.Hide(secrets...)
	return l
}

// Hide replaces the secrets that are hidden from now on.
func (l *Log) Hide(secrets ...string) {
	var pairs []string
	for _, s := range secrets {
		if len(s) >= 4 { // a shorter one would blot out half of the log, and so reveal itself
			pairs = append(pairs, s, "********")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hide = strings.NewReplacer(pairs...)
}

// Handler returns a handler that passes records on to next, and remembers those of info and above.
func (l *Log) Handler(next slog.Handler) slog.Handler {
	return &handler{next: next, log: l}
}

type handler struct {
	next slog.Handler
	log  *Log
	with []func(slog.Handler) slog.Handler // attributes and groups, in order
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		var b bytes.Buffer
		var text slog.Handler = slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: attributesOnly})
		for _, f := range h.with {
			text = f(text)
		}
		_ = text.Handle(ctx, r) // to memory
		h.log.add(r, strings.TrimSpace(r.Message+" "+b.String()))
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// attributesOnly leaves out what a line has beside its text.
func attributesOnly(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(n slog.Handler) slog.Handler { return n.WithAttrs(attrs) })
}

func (h *handler) WithGroup(name string) slog.Handler {
	return h.and(func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
}

func (h *handler) and(f func(slog.Handler) slog.Handler) slog.Handler {
	return &handler{f(h.next), h.log, append(h.with[:len(h.with):len(h.with)], f)}
}

func (l *Log) add(r slog.Record, text string) {
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if text = l.hide.Replace(text); len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine-3], "") + "..."
	}
	l.last++
	l.lines.add(line{l.last, at.UTC(), strings.ToLower(r.Level.String()), text}, maxLines)
}

// after returns the lines after number n, oldest first.
func (l *Log) after(n uint64) (list []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == n {
		return nil
	}
	l.lines.each(func(one line) {
		if one.N > n {
			list = append(list, one)
		}
	})
	return list
}
