package reconfigure

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
	"holdfast/sensors/chips"
)

// bench is a gateway that only notes the configurations that it has to apply.
type bench struct {
	t       *testing.T
	file    string
	source  *Source
	changes *Changes
	now     *config.Config
	went    []string // the broker's response information of each configuration
	refuse  error
	log     bytes.Buffer
	dir     string                          // data_dir; empty if nothing is kept
	state   func(word string) status.Status // how the gateway is with a configuration
}

func newBench(t *testing.T, file, text string) *bench { return newBenchIn(new(bench), t, file, text) }

func newBenchIn(b *bench, t *testing.T, file, text string) *bench {
	b.t, b.file = t, file
	b.write(text)
	b.source = NewSource([]string{file}, config.Options{Drivers: chips.Drivers()})
	var err error
	if b.now, err = b.source.Load(); err != nil {
		t.Fatal(err)
	}
	b.changes = New(b.options())
	return b
}

func (b *bench) options() Options {
	return Options{
		Source: b.source, Dir: b.dir, Check: func(*config.Config) error { return nil },
		Status: func() status.Status { return b.state(b.now.Broker.ResponseInformation) },
		Log:    slog.New(slog.NewTextHandler(&b.log, nil)), Look: func() {},
		Config: func() *config.Config { return b.now },
		Exchange: func(cfg *config.Config) ([]string, error) {
			if b.refuse != nil {
				return nil, b.refuse
			}
			b.now = cfg
			b.went = append(b.went, cfg.Broker.ResponseInformation)
			return []string{"broker: changed"}, nil
		},
	}
}

func (b *bench) write(text string) {
	b.t.Helper()
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// says returns a configuration that differs from others by word.
func says(word string) string {
	return fmt.Sprintf("device: {id: a}\nbroker:\n  response_information: %s\n", word)
}

// run calls f while Changes run, and returns what the gateway has gone by.
func (b *bench) run(f func()) string {
	b.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- b.changes.Run(b.t.Context()) }()
	f()
	return strings.Join(b.goes(), " ")
}

// goes is what the gateway has gone by, and what the log says of it.
func (b *bench) goes() []string {
	b.changes.work.Lock()
	defer b.changes.work.Unlock()
	return slices.Clone(b.went)
}

func (b *bench) lines() string {
	b.changes.work.Lock()
	defer b.changes.work.Unlock()
	return b.log.String()
}

// refuses makes the gateway refuse every configuration for a reason.
func (b *bench) refuses(err error) {
	b.changes.work.Lock()
	defer b.changes.work.Unlock()
	b.refuse = err
}

const enough = lookEvery + settled + lookAgain

// TestWatch: however a file is replaced, it is used after it has settled.
func TestWatch(t *testing.T) {
	rename := func(b *bench, text string) {
		next := b.file + ".new"
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, b.file)); err != nil {
			b.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do   func(b *bench)
		want string
	}{
		"written": {func(b *bench) {
			b.write(says("b"))
			time.Sleep(settled)
			if len(b.goes()) > 0 {
				b.t.Error("used at once")
			}
			time.Sleep(enough)
		}, "b"},
		"renamed": {func(b *bench) { rename(b, says("b")); time.Sleep(enough) }, "b"},
		"renamed with the same time and size": {func(b *bench) {
			info, err := os.Stat(b.file)
			if err != nil {
				b.t.Fatal(err)
			}
			rename(b, says("b"))
			if err := os.Chtimes(b.file, info.ModTime(), info.ModTime()); err != nil {
				b.t.Fatal(err)
			}
			time.Sleep(enough)
		}, "b"},
		"touched": {func(b *bench) { b.write(says("a")); time.Sleep(time.Hour) }, ""},
		"more than once": {func(b *bench) {
			for _, word := range []string{"b", "cc", "ddd"} {
				b.write(says(word))
				time.Sleep(enough)
			}
		}, "b cc ddd"},
		"written slowly": {func(b *bench) {
			text := says("b")
			for i := range 30 {
				text += fmt.Sprintf("# line %d\n", i)
				b.write(text)
				time.Sleep(settled - lookAgain)
			}
			if len(b.goes()) > 0 {
				b.t.Error("used while it was written")
			}
			time.Sleep(enough)
		}, "b"},
		"stuck in the middle of a line": {func(b *bench) {
			text := says("bcd")
			b.write(strings.TrimSuffix(text, "cd\n")) // which has a meaning
			time.Sleep(settledMiddle)
			if len(b.goes()) > 0 {
				b.t.Error("used half")
			}
			b.write(text)
			time.Sleep(enough)
		}, "bcd"},
		"for good without the end of a line": {func(b *bench) {
			b.write(strings.TrimSuffix(says("b"), "\n"))
			time.Sleep(settledMiddle + enough)
		}, "b"},
		"gone and back": {func(b *bench) {
			if err := os.Remove(b.file); err != nil {
				b.t.Fatal(err)
			}
			time.Sleep(2 * settledMiddle)
			b.write(says("b"))
			time.Sleep(enough)
		}, "b"},
		"switched off": {func(b *bench) {
			b.write("watch: false\n" + says("b"))
			time.Sleep(enough)
			b.write("watch: false\n" + says("c"))
			time.Sleep(time.Hour)
			if _, err := b.changes.Reload(status.ByCommand); err != nil {
				b.t.Error(err)
			}
		}, "b c"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, filepath.Join(dir, "a.yaml"), says("a"))
				if got := b.run(func() { c.do(b) }); got != c.want {
					t.Errorf("went by %q, want %q\n%s", got, c.want, b.lines())
				}
			})
		})
	}
}

// TestWatchLinks: a directory that is exchanged by a link, as Kubernetes does it, and a secret that the
// configuration refers to.
func TestWatchLinks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	version := func(name, word string) {
		if err := errors.Join(os.Mkdir(at(name), 0o700),
			os.WriteFile(at(name+"/a.yaml"), []byte(says("${file:"+at("word")+"}"+word)), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(name string) {
		if err := errors.Join(os.Symlink(name, at("..tmp")), os.Rename(at("..tmp"), at("..data"))); err != nil {
			t.Fatal(err)
		}
	}
	word := func(text string) {
		if err := os.WriteFile(at("word"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	word("x")
	version("v1", "a")
	version("v2", "b")
	flip("v1")
	if err := os.Symlink("..data/a.yaml", at("a.yaml")); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, at("a.yaml"), says("${file:"+at("word")+"}a"))
		got := b.run(func() {
			flip("v2")
			time.Sleep(enough)
			word("yy")
			time.Sleep(enough)
		})
		if got != "xb yyb" {
			t.Errorf("went by %q\n%s", got, b.lines())
		}
	})
}

// TestWrongFile: it changes nothing, says why once, and is known by the status until it has been mended.
func TestWrongFile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, filepath.Join(dir, "a.yaml"), says("a"))
		b.run(func() {
			b.write("sensers: []\n")
			time.Sleep(time.Hour)
			last := b.changes.Status().Last
			if len(b.goes()) > 0 || last == nil || last.By != status.ByWatch || !strings.Contains(last.Error, "a.yaml:1: sensers: unknown key") {
				t.Errorf("went by %q, %+v", b.goes(), last)
			}
			if n := strings.Count(b.lines(), "\n"); n != 1 {
				t.Errorf("%d lines in the log:\n%s", n, b.lines())
			}
			b.refuses(errors.New("these need a restart"))
			b.write(says("b"))
			time.Sleep(time.Hour)
			if last := b.changes.Status().Last; last.Error != "these need a restart" || strings.Count(b.lines(), "\n") != 2 {
				t.Errorf("%+v\n%s", last, b.lines())
			}
			b.refuses(nil)
			if changes, err := b.changes.Reload(status.BySignal); err != nil || len(changes) != 1 {
				t.Error(changes, err)
			}
			if last := b.changes.Status().Last; last.Error != "" || last.By != status.BySignal || last.Changes[0] != "broker: changed" {
				t.Errorf("%+v", last)
			}
		})
	})
}

// TestNotNow: what a gateway that is starting cannot take over is no mistake, and is taken over later.
func TestNotNow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, filepath.Join(dir, "a.yaml"), says("a"))
		went := b.run(func() {
			b.refuses(fmt.Errorf("the gateway is starting: %w", ErrNotNow))
			b.write(says("b"))
			time.Sleep(enough)
			if _, err := b.changes.Reload(status.BySignal); !errors.Is(err, ErrNotNow) || b.changes.Status().Last != nil {
				t.Errorf("got %v, %+v", err, b.changes.Status().Last)
			}
			b.refuses(nil)
			time.Sleep(enough)
		})
		if went != "b" {
			t.Errorf("went by %s", went)
		}
	})
}
