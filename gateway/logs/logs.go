// Package logs has what a log needs on its way to a person: the form that journald takes, and a limit for what
// repeats.
//
// It promises that the first of a kind is always passed on, and that the others are counted and their number logged.
// It does not hide secrets: the source of a record keeps them out of it.
package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// Handler writes records of level and above to standard error. Where that is the journal (sd_journal_stream_fd(3)),
// which has the time itself, a line begins with its priority (sd-daemon(3)) instead.
func Handler(level slog.Level) slog.Handler {
	if ToJournal() {
		return newPrefixed(os.Stderr, level)
	}
	return slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})
}

// ToJournal reports whether standard error is journald's.
func ToJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return is && err == nil // it is not if the environment says something that cannot be
}

// Failure is the error that a program ends with, as standard error takes it.
func Failure(err error) string {
	text := []byte(err.Error())
	if ToJournal() {
		text = append([]byte("<3>"), bytes.ReplaceAll(text, []byte("\n"), []byte("\n<3>"))...)
	}
	return string(text)
}

// prefixed is a text handler for the journal.
type prefixed struct {
	slog.Handler
	out *priorityWriter
}

// priorityWriter writes each line, which is one Write, behind the priority of the record that is handled.
type priorityWriter struct {
	mu       sync.Mutex // while a record is handled
	priority int
	w        io.Writer
}

func newPrefixed(w io.Writer, level slog.Level) *prefixed {
	out := &priorityWriter{w: w}
	return &prefixed{slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime}), out}
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func (w *priorityWriter) Write(line []byte) (int, error) {
	n, err := w.w.Write(fmt.Appendf(nil, "<%d>%s", w.priority, line))
	return max(0, n-len("<6>")), err
}

func (h *prefixed) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.out.priority = 3
	case r.Level >= slog.LevelWarn:
		h.out.priority = 4
	case r.Level >= slog.LevelInfo:
		h.out.priority = 6
	default:
		h.out.priority = 7
	}
	return h.Handler.Handle(ctx, r)
}

func (h *prefixed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &prefixed{h.Handler.WithAttrs(attrs), h.out}
}

func (h *prefixed) WithGroup(name string) slog.Handler {
	return &prefixed{h.Handler.WithGroup(name), h.out}
}
