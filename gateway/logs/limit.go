package logs

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"sync"
	"time"
)

const (
	each   = 10          // of a kind that are passed on in a window
	window = time.Minute // from the first of a kind, and then as long as it repeats
	kinds  = 1000        // that are remembered: the memory is some 500 kB at most
)

// Limit passes records on to another handler, of each kind no more than 10 in a minute. It counts the rest and logs
// their number in one line when the minute is over; while they go on, that line is all. Debug is not limited.
//
// A kind is a level, a message and what it is about: all its text, but for the port of an address and, in an error,
// figures and names of 16 hexadecimal digits, as the journal's files have. Numbers, times and durations do not make a
// kind. Of more than 1,000 kinds the one that came first is forgotten, and its next record is a first one again.
type Limit struct {
	next slog.Handler
	kind []string // of With
	*limits
}

type limits struct {
	mu     sync.Mutex
	seen   map[uint64]*seen
	first  []uint64    // kinds in the order in which they came
	timer  *time.Timer // to the end of a window with records held back; nil if there is none
	closed bool
}

type seen struct {
	began  time.Time
	passed int
	held   int // since then, held back
	last   slog.Record
	next   slog.Handler
}

var figures = regexp.MustCompile(`[0-9a-f]{16}|[0-9]+`)

// NewLimit returns a limit that has to be closed.
func NewLimit(next slog.Handler) *Limit {
	return &Limit{next: next, limits: &limits{seen: map[uint64]*seen{}}}
}

// Close logs the numbers of records held back. It passes later records on unlimited.
func (l *Limit) Close() error {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	report := l.due(time.Time{})
	l.mu.Unlock()
	report()
	return nil
}

func (l *Limit) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

func (l *Limit) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return l.next.Handle(ctx, r)
	}
	key := l.key(&r)
	now := time.Now()
	report := func() {}
	l.mu.Lock()
	s := l.seen[key]
	switch {
	case l.closed:
	case s == nil:
		if len(l.first) == kinds {
			report = l.forget(l.first[0])
			l.first = l.first[1:]
		}
		l.seen[key] = &seen{began: now, passed: 1}
		l.first = append(l.first, key)
	case s.held == 0 && now.Sub(s.began) >= window:
		*s = seen{began: now, passed: 1}
	case s.passed < each:
		s.passed++
	default:
		s.held++
		s.last, s.next = r.Clone(), l.next
		if l.timer == nil {
			l.arm(now)
		}
		l.mu.Unlock()
		report()
		return nil
	}
	l.mu.Unlock()
	report()
	return l.next.Handle(ctx, r)
}

// due ends the windows that are over, or all of them if now is zero, and returns a function that logs their numbers.
// Called with mu held, as are all below; the functions that they return are called without it. A window with further
// records held back has begun again, so that the timer ends it.
func (l *limits) due(now time.Time) (report func()) {
	report = func() {}
	kept := l.first[:0]
	for _, key := range l.first {
		s := l.seen[key]
		switch over := now.IsZero() || now.Sub(s.began) >= window; {
		case !over:
		case s.held > 0:
			report = s.reporting(report)
			s.began, s.held = now, 0
		default:
			delete(l.seen, key)
			continue
		}
		kept = append(kept, key)
	}
	l.first = kept
	return report
}

// forget removes a kind to make space for another one.
func (l *limits) forget(key uint64) (report func()) {
	report = func() {}
	if s := l.seen[key]; s.held > 0 {
		report = s.reporting(report)
	}
	delete(l.seen, key)
	return report
}

func (s *seen) reporting(before func()) func() {
	r := slog.NewRecord(time.Now(), s.last.Level, fmt.Sprintf("%s: %d more of these in the last minute", s.last.Message, s.held), 0)
	s.last.Attrs(func(a slog.Attr) bool {
		r.AddAttrs(a)
		return true
	})
	next := s.next
	s.last, s.next = slog.Record{}, nil
	return func() {
		before()
		_ = next.Handle(context.Background(), r)
	}
}

// arm sets the timer to the end of the next window with records held back.
func (l *limits) arm(now time.Time) {
	wait := window
	for _, s := range l.seen {
		if s.held > 0 {
			wait = min(wait, s.began.Add(window).Sub(now))
		}
	}
	l.timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		now := time.Now()
		report := l.due(now)
		l.timer = nil
		for _, s := range l.seen {
			if s.held > 0 && !l.closed {
				l.arm(now)
				break
			}
		}
		l.mu.Unlock()
		report()
	})
}

func (l *Limit) WithAttrs(attrs []slog.Attr) slog.Handler {
	var text []string
	for _, a := range attrs {
		text = append(text, a.Key, identity(a.Value))
	}
	return l.with(l.next.WithAttrs(attrs), text...)
}

func (l *Limit) WithGroup(name string) slog.Handler { return l.with(l.next.WithGroup(name), name) }

func (l *Limit) with(next slog.Handler, kind ...string) *Limit {
	return &Limit{next, append(l.kind[:len(l.kind):len(l.kind)], kind...), l.limits}
}

// key identifies a record's kind.
func (l *Limit) key(r *slog.Record) uint64 {
	h := fnv.New64a()
	add := func(text string) { io.WriteString(h, text+"\x00") }
	add(r.Level.String())
	add(r.Message)
	for _, text := range l.kind {
		add(text)
	}
	r.Attrs(func(a slog.Attr) bool {
		add(a.Key)
		add(identity(a.Value))
		return true
	})
	return h.Sum64()
}

// identity returns the part of a value that identifies a kind.
func identity(v slog.Value) string {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindString:
		if a, err := netip.ParseAddrPort(v.String()); err == nil {
			return a.Addr().String()
		}
		return v.String()
	case slog.KindBool:
		return v.String()
	case slog.KindGroup:
		text := ""
		for _, a := range v.Group() {
			text += a.Key + "=" + identity(a.Value) + " "
		}
		return text
	case slog.KindAny:
		text := []byte(v.String())
		if _, ok := v.Any().(error); ok {
			text = figures.ReplaceAll(text, []byte("0"))
		}
		return string(text)
	}
	return "" // a figure
}
