package logs

import (
	"context"
	"fmt"
	"log/slog"
	"unicode/utf8"
)

// What of a value is logged, in bytes. Clients name themselves and their topics with up to 64 KiB each, and
// errors repeat such names beside their own text.
const (
	longestText  = 128
	longestError = 1024
)

// cut shortens the values of records.
type cut struct{ next slog.Handler }

// Cut returns a handler that shortens each value before it passes a record on: texts to 128 bytes, errors and the
// message to 1,024. It appends the size of the part that it leaves out. So no value is larger, also in what a
// handler behind it remembers.
func Cut(next slog.Handler) slog.Handler { return cut{next} }

func (c cut) Enabled(ctx context.Context, level slog.Level) bool { return c.next.Enabled(ctx, level) }

func (c cut) Handle(ctx context.Context, r slog.Record) error {
	short := slog.NewRecord(r.Time, r.Level, shorten(r.Message, longestError), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		short.AddAttrs(cutAttr(a))
		return true
	})
	return c.next.Handle(ctx, short)
}

func (c cut) WithAttrs(attrs []slog.Attr) slog.Handler {
	short := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		short[i] = cutAttr(a)
	}
	return cut{c.next.WithAttrs(short)}
}

func (c cut) WithGroup(name string) slog.Handler { return cut{c.next.WithGroup(name)} }

func cutAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if s := v.String(); len(s) > longestText {
			return slog.String(a.Key, shorten(s, longestText))
		}
	case slog.KindGroup:
		var short []slog.Attr
		for _, in := range v.Group() {
			short = append(short, cutAttr(in))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(short...)}
	case slog.KindAny:
		most := longestText
		var text string
		switch x := v.Any().(type) {
		case error:
			text, most = x.Error(), longestError
		case fmt.Stringer:
			text = x.String()
		default:
			text = fmt.Sprintf("%+v", x)
			most = longestError
		}
		if len(text) > most {
			return slog.String(a.Key, shorten(text, most))
		}
	}
	return a
}

// shorten leaves out the end of s beyond most bytes, at a whole character, and says how long s was.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:end], len(s))
}
