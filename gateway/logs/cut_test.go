package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
)

type name string

func (n name) String() string { return string(n) }

// TestCut: whatever is logged under whatever name, by a record or a logger, a line stays short and says how much
// is left out; what has the size that is allowed is as it was.
func TestCut(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		what string
		log  func(l *slog.Logger)
		want string // in the line
		most int
	}{
		{"a text at the limit", func(l *slog.Logger) { l.Info("m", "client", long(longestText)) }, "client=" + long(longestText) + "\n", 200},
		{"one beyond", func(l *slog.Logger) { l.Info("m", "client", long(longestText+1)) }, long(longestText) + "… (129 bytes)", 200},
		{"a login", func(l *slog.Logger) {
			l.Warn("m", "client", long(1024), "user", long(65535), "reason", errors.New("bad"))
		}, "(65535 bytes)", 400},
		{"a logger's own", func(l *slog.Logger) { l.With("client", long(65535)).Warn("m") }, "(65535 bytes)", 200},
		{"a group", func(l *slog.Logger) { l.WithGroup("g").Warn("m", slog.Group("h", "topic", long(65535))) }, "g.h.topic=", 250},
		{"an error at the limit", func(l *slog.Logger) { l.Error("m", "error", errors.New(long(longestError))) }, "error=" + long(longestError) + "\n", 1100},
		{"one beyond", func(l *slog.Logger) { l.Error("m", "error", errors.New(long(longestError+1))) }, "(1025 bytes)", 1100},
		{"the message", func(l *slog.Logger) { l.Error(long(65535)) }, "(65535 bytes)", 1100},
		{"a name of its own kind", func(l *slog.Logger) { l.Info("m", "topic", name(long(65535))) }, "(65535 bytes)", 200},
		{"a list", func(l *slog.Logger) { l.Info("m", "topics", []string{long(65535), "b"}) }, "bytes)", 1100},
		{"characters of several bytes", func(l *slog.Logger) { l.Info("m", "topic", "x"+strings.Repeat("é", 100)) }, "é… (201 bytes)", 250},
		{"what is no text", func(l *slog.Logger) { l.Info("m", "n", 5, "at", net.IPv4(1, 2, 3, 4)) }, "n=5 at=1.2.3.4", 100},
	} {
		t.Run(c.what, func(t *testing.T) {
			var b bytes.Buffer
			c.log(slog.New(Cut(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: withoutTime}))))
			if !strings.Contains(b.String(), c.want) || b.Len() > c.most {
				t.Errorf("%d bytes, want at most %d: %s", b.Len(), c.most, b.String())
			}
		})
	}
}
