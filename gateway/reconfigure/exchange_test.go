package reconfigure

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"holdfast/gateway/config"
	"holdfast/gateway/part"
)

// scripted is a part that notes what it is asked to do.
type scripted struct {
	name string
	fail bool
	done *[]string
}

func (s *scripted) Name() string              { return s.name }
func (s *scripted) Health() error             { return nil }
func (s *scripted) Run(context.Context) error { return nil }

func (s *scripted) Prepare(*config.Config) (part.Change, error) {
	note := func(what string) func() { return func() { *s.done = append(*s.done, what+" "+s.name) } }
	note("prepare")()
	if s.fail {
		return part.Change{}, errors.New(s.name + " cannot")
	}
	return part.Change{
		Stop: note("stop"), Apply: note("apply"), Undo: note("undo"), Describe: func() []string { return []string{s.name + ": changed"} },
	}, nil
}

// TestExchange: each part prepares before any applies, from the last one that was started to the first; whichever
// cannot, those before it are undone in the other order, and nothing else happens.
func TestExchange(t *testing.T) {
	ready := make(chan struct{})
	var done []string
	a, b, c := &scripted{name: "a", done: &done}, &scripted{name: "b", done: &done}, &scripted{name: "c", done: &done}
	x := &Exchanger{Parts: []part.Part{a, part.Simple{Called: "nothing"}, b, c}, Ready: ready, Log: slog.New(slog.DiscardHandler)}
	cfg := new(config.Config)
	x.Start(cfg)
	next := &config.Config{Watch: true}
	is := func(when, want string) {
		t.Helper()
		if got := strings.Join(done, ", "); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
		done = nil
	}
	if _, err := x.Exchange(next); !errors.Is(err, ErrNotNow) {
		t.Errorf("before the start: %v", err)
	}
	close(ready)
	for _, tt := range []struct {
		cannot *scripted
		want   string
	}{
		{c, "prepare c"},
		{b, "prepare c, prepare b, undo c"},
		{a, "prepare c, prepare b, prepare a, undo b, undo c"},
	} {
		tt.cannot.fail = true
		if _, err := x.Exchange(next); err == nil || err.Error() != tt.cannot.name+" cannot" {
			t.Errorf("%s cannot: got %v", tt.cannot.name, err)
		}
		tt.cannot.fail = false
		is(tt.cannot.name+" cannot", tt.want)
		if x.Config() != cfg {
			t.Errorf("%s cannot: the configuration has changed", tt.cannot.name)
		}
	}
	lines, err := x.Exchange(next)
	if err != nil || !slices.Equal(lines, []string{"c: changed", "b: changed", "a: changed"}) || x.Config() != next {
		t.Errorf("got %v, %v", lines, err)
	}
	is("all can", "prepare c, prepare b, prepare a, stop c, stop b, stop a, apply a, apply b, apply c")
	restart := &config.Config{DataDir: "elsewhere"}
	if _, err := x.Exchange(restart); err == nil || !strings.Contains(err.Error(), "need a restart") {
		t.Errorf("another data_dir: %v", err)
	}
	x.End()
	if _, err := x.Exchange(next); !errors.Is(err, ErrNotNow) {
		t.Errorf("at the end: %v", err)
	}
	is("refused", "")
}
