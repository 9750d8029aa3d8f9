package reconfigure

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
	"holdfast/sensors/chips"
)

// TestApplyIsRefused: what cannot be used changes nothing, in memory and on disk.
func TestApplyIsRefused(t *testing.T) {
	b := newTried(t, t.TempDir())
	good := Application{Text: []byte(b.text("bad")), Name: "bad.yaml", Within: within}
	for want, change := range map[string]func(a *Application){
		"bad.yaml:1: sensers: unknown key": func(a *Application) { a.Text = []byte("sensers: []\n") },
		"bad.yaml: the file is empty":      func(a *Application) { a.Text = nil },
		"bad.yaml is larger than":          func(a *Application) { a.Text = make([]byte, maxFile+1) },
		"uses that already":                func(a *Application) { a.Text = []byte(b.text("good")) },
		"is no file of this gateway's":     func(a *Application) { a.File = "/etc/passwd" },
		"got 100ms for the confirmation":   func(a *Application) { a.Within = 100 * time.Millisecond },
		"got 48h0m0s for the confirmation": func(a *Application) { a.Within = 48 * time.Hour },
		"these need a restart: data_dir":   func(a *Application) { b.refuse = errors.New("these need a restart: data_dir") },
		"keeps nothing, and cannot try":    func(a *Application) { b.changes.opts.Dir = "" },
		"cannot be noted in data_dir":      func(a *Application) { b.changes.opts.Dir = "/nowhere" },
		"the certificate is of yesterday": func(a *Application) {
			b.changes.opts.Check = func(*config.Config) error { return errors.New("the certificate is of yesterday") }
		},
		"does not use what is in its files": func(a *Application) { b.write("sensors: none") },
	} {
		a := good
		b.refuse, b.changes.opts = nil, b.options()
		b.write(b.text("good"))
		change(&a)
		if _, err := b.changes.Apply(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if b.noted() || len(b.went) > 0 || b.changes.Status().Trial != nil {
			t.Fatalf("%s: something has changed: %v %v %+v", want, b.noted(), b.went, b.changes.Status().Trial)
		}
	}
}

// TestReplace: a file keeps its mode and its links, and what it held.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "link.yaml")
	if err := errors.Join(os.WriteFile(real, []byte("one"), 0o600), os.Chmod(real, 0o640), os.Symlink("real.yaml", link)); err != nil {
		t.Fatal(err)
	}
	if err := Replace(link, []byte("two"), true); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{real: "two", link: "two", real + ".old": "one"} {
		text, err := os.ReadFile(name)
		info, failed := os.Stat(name)
		if err := errors.Join(err, failed); err != nil || string(text) != want || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: got %q, %v, %v, want %q and mode 0640", name, text, info, err, want)
		}
	}
	if to, err := os.Readlink(link); err != nil || to != "real.yaml" {
		t.Errorf("the link has become %s, %v", to, err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 3 {
		t.Errorf("got %v, %v", names, err)
	}
	if err := Replace(filepath.Join(dir, "none.yaml"), nil, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestTrialAndAnotherFile: going back does not depend on what else has become of the files, nor is that forgotten.
func TestTrialAndAnotherFile(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "b.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("journal: {}\n")
	synctest.Test(t, func(t *testing.T) {
		b := newTried(t, dir)
		b.source = NewSource([]string{b.file, other}, config.Options{Drivers: chips.Drivers()})
		if _, err := b.source.Load(); err != nil {
			t.Fatal(err)
		}
		b.changes = New(b.options())
		went := b.run(func() {
			if _, err := b.changes.Apply(Application{File: b.file, Text: []byte(b.text("bad")), Within: within}); err != nil {
				t.Fatal(err)
			}
			b.write(b.text("bad"))
			write("jurnal: {}\n")
			time.Sleep(within + 2*checkEvery)
			b.holds("good")
			time.Sleep(enough)
			if last := b.changes.Status().Last; last.By != status.ByWatch || !strings.Contains(last.Error, "b.yaml:1: jurnal: unknown key") {
				t.Errorf("%+v", last)
			}
		})
		if went != "bad good" {
			t.Errorf("went by %s\n%s", went, b.lines())
		}
	})
}
