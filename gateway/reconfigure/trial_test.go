package reconfigure

import (
	"errors"
	"fmt"
	"log/slog"
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

const within = 5 * time.Minute

// tried is a bench whose configuration has a bridge and a sensor. By the first letter of the word that it says
// they are "good"; the bridge is away: "bad"; is away every 20 s: "flapping"; takes nothing: "refusing"; the
// sensor is "absent". "none" has no bridge, "new" has another one.
type tried struct {
	*bench
	begun time.Time
}

func (b *tried) text(word string) string {
	bridge := func(name string) string {
		return "bridges: [{name: " + name + ", upstream: [\"mqtt://127.0.0.1\"], out: [{filter: x}]}]\n"
	}
	bridges := bridge("up")
	switch word {
	case "none":
		bridges = ""
	case "new":
		bridges = bridge("other")
	}
	return "data_dir: " + b.dir + "\nsensors: [{name: air, driver: bme280, bus: simulated}]\n" + bridges + says(word)
}

func (b *tried) how(word string) status.Status {
	up := status.Bridge{Name: "up", Connected: true, Sent: 5, Acknowledged: 5}
	air := status.Sensor{Name: "air", Health: status.Health{State: "ok"}}
	switch word {
	case "bad":
		up.Connected, up.LastError = false, "no route"
	case "new":
		up.Name, up.Connected = "other", false
	case "flapping":
		up.Connected = time.Since(b.begun)/time.Second%20 != 0
	case "refusing":
		up.Acknowledged, up.Refused = 0, 2
	case "absent":
		air.State, air.Reason = "absent", "no answer"
	case "none":
		return status.Status{Sensors: []status.Sensor{air}}
	}
	return status.Status{Bridges: []status.Bridge{up}, Sensors: []status.Sensor{air}}
}

func newTried(t *testing.T, dir string) *tried {
	b := &tried{bench: &bench{}, begun: time.Now()}
	b.dir = filepath.Join(dir, "data")
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.state = b.how
	b.bench = newBenchIn(b.bench, t, filepath.Join(dir, "a.yaml"), b.text("good"))
	return b
}

// apply does what `holdfast config apply` does.
func (b *tried) apply(word string) (Applied, error) {
	done, err := b.changes.Apply(Application{Text: []byte(b.text(word)), Name: word + ".yaml", Within: within})
	if err == nil {
		err = Replace(done.File, []byte(b.text(word)), true)
	}
	return done, err
}

// started is the word of the configuration that another process starts with.
func (b *tried) started() string {
	b.t.Helper()
	s := NewSource([]string{b.file}, config.Options{Drivers: chips.Drivers()})
	cfg, err := s.Start(slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	return cfg.Broker.ResponseInformation
}

func (b *tried) holds(word string) {
	b.t.Helper()
	if text, err := os.ReadFile(b.file); err != nil || string(text) != b.text(word) {
		b.t.Errorf("the file does not hold %s: %v\n%s", word, err, text)
	}
}

// noted reports whether there is a trial on disk.
func (b *tried) noted() bool {
	_, err := os.Stat(filepath.Join(b.dir, markerName))
	return !errors.Is(err, os.ErrNotExist)
}

// TestTrial: what becomes of a configuration by itself, and when.
func TestTrial(t *testing.T) {
	for word, c := range map[string]struct {
		outcome status.Outcome
		reason  string
		after   time.Duration
	}{
		"goodtoo":  {status.Confirmed, "what worked before has worked for 1m0s", longestHold + 2*checkEvery},
		"bad":      {status.RolledBack, "not confirmed within 5m0s: bridge up is not connected: no route", within + 2*checkEvery},
		"new":      {status.RolledBack, "not confirmed within 5m0s: bridge other is not connected", within + 2*checkEvery},
		"flapping": {status.RolledBack, "not confirmed within 5m0s", within + 2*checkEvery},
		"refusing": {status.RolledBack, "not confirmed within 5m0s: bridge up: the upstream has taken none of 7 messages", within + 2*checkEvery},
		"absent":   {status.RolledBack, "not confirmed within 5m0s: sensor air is absent: no answer", within + 2*checkEvery},
		"none":     {status.RolledBack, "not confirmed within 5m0s: it has no bridge any more, so a person has to confirm it", within + 2*checkEvery},
	} {
		t.Run(word, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := newTried(t, dir)
				went := b.run(func() {
					if _, err := b.apply(word); err != nil {
						t.Fatal(err)
					}
					time.Sleep(c.after - 3*checkEvery)
					if trial := b.changes.Status().Trial; trial.Outcome != "" {
						t.Errorf("too early: %+v", trial)
					}
					time.Sleep(3 * checkEvery)
					if trial := b.changes.Status().Trial; trial.Outcome != c.outcome || !strings.HasPrefix(trial.Reason, c.reason) {
						t.Errorf("%+v\n%s", trial, b.lines())
					}
					time.Sleep(time.Hour) // and nothing else happens
				})
				want, last := word, word
				if c.outcome == status.RolledBack {
					want, last = word+" good", "good"
				}
				if went != want || b.noted() {
					t.Errorf("went by %s, want %s; marker %v", went, want, b.noted())
				}
				b.holds(last)
				if got := b.started(); got != last {
					t.Errorf("another start uses %s, want %s", got, last)
				}
				if old, err := os.ReadFile(b.file + ".old"); err != nil || string(old) != b.text("good") {
					t.Errorf("what was there before is not kept: %v", err)
				}
			})
		})
	}
}

// TestTrialByHand: a person ends it at once, either way; and nothing else applies or confirms anything meanwhile.
func TestTrialByHand(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newTried(t, dir)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		refused := func(err error, want string) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		went := b.run(func() {
			refused(b.changes.Confirm(), "no configuration is on trial")
			_, err := b.changes.Rollback()
			refused(err, "with .old behind its name")
			_, err = b.apply("bad")
			must(err)
			_, err = b.apply("goodtoo")
			refused(err, "is on trial: first")
			_, err = b.changes.Reload(status.BySignal)
			refused(err, "is on trial: first")
			must(b.changes.Confirm())
			time.Sleep(time.Hour)
			b.holds("bad")

			_, err = b.apply("absent")
			must(err)
			b.write(b.text("other")) // an edit of the file meanwhile
			time.Sleep(enough)
			refused(b.changes.Confirm(), "does not hold the configuration that is on trial")
			undone, err := b.changes.Rollback()
			must(err)
			if undone.Earlier != "" {
				t.Error("the earlier text is to be put in place, although the file has another one")
			}
			b.holds("other")
			time.Sleep(enough)

			// Never put in place, because the command that should has ended.
			_, err = b.changes.Apply(Application{Text: []byte(b.text("goodtoo")), Within: within})
			must(err)
			if got := b.started(); got != "other" {
				t.Errorf("a start before it is in place uses %s", got)
			}
			_, err = b.changes.Rollback()
			must(err)
			_, err = b.changes.Apply(Application{Text: []byte(b.text("goodtoo")), Within: within})
			must(err)
			time.Sleep(within + 2*checkEvery)
			if trial := b.changes.Status().Trial; trial.Outcome != status.RolledBack || !strings.Contains(trial.Reason, "put it there") {
				t.Errorf("%+v", trial)
			}
			// The same without a trial: the file is what counts.
			_, err = b.changes.Apply(Application{Text: []byte(b.text("goodtoo"))})
			must(err)
			time.Sleep(enough)
		})
		if want := "bad absent bad other goodtoo other goodtoo other goodtoo other"; went != want {
			t.Errorf("went by\n%s, want\n%s\n%s", went, want, b.lines())
		}
	})
}

// TestTrialAndKill: whenever the process ends, the next start uses the earlier configuration or one that was
// confirmed.
func TestTrialAndKill(t *testing.T) {
	for at, c := range map[string]struct {
		do   func(b *tried) error
		want string
	}{
		"noted": {func(b *tried) error { // and not yet gone by
			m := marker{Version: markerVersion, File: b.file, Digest: digest([]byte(b.text("bad"))), Earlier: []byte(b.text("good")), path: filepath.Join(b.dir, markerName)}
			return m.write()
		}, "good"},
		"applied": {func(b *tried) error {
			_, err := b.changes.Apply(Application{Text: []byte(b.text("bad")), Within: within})
			return err
		}, "good"},
		"in place":  {func(b *tried) error { _, err := b.apply("bad"); return err }, "good"},
		"confirmed": {func(b *tried) error { _, err := b.apply("bad"); return errors.Join(err, b.changes.Confirm()) }, "bad"},
		"rolled back": {func(b *tried) error {
			_, err := b.apply("bad")
			_, failed := b.changes.Rollback()
			return errors.Join(err, failed)
		}, "good"},
		"half rolled back": {func(b *tried) error { // the file is, and the marker is there still
			_, err := b.apply("bad")
			return errors.Join(err, Replace(b.file, []byte(b.text("good")), false))
		}, "good"},
		"half of a file": {func(b *tried) error {
			_, err := b.apply("bad")
			return errors.Join(err, os.WriteFile(filepath.Join(filepath.Dir(b.file), ".a.yaml.new"), []byte("half"), 0o600))
		}, "good"},
		"noted by a newer one": {func(b *tried) error {
			return os.WriteFile(filepath.Join(b.dir, markerName), []byte(`{"version": 2}`), 0o600)
		}, "good"},
		"noted badly": {func(b *tried) error { return os.WriteFile(filepath.Join(b.dir, markerName), []byte("{"), 0o600) }, "good"},
	} {
		t.Run(at, func(t *testing.T) {
			b := newTried(t, t.TempDir())
			if err := c.do(b); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := b.started(); got != c.want {
					t.Errorf("uses %s, want %s", got, c.want)
				}
			}
			b.holds(c.want)
			if b.noted() && !strings.HasPrefix(at, "noted ") {
				t.Error("the marker is there still")
			}
		})
	}
}

// TestTrialWithoutPermission: if the gateway may not replace the file, it still uses the earlier text, also after a
// start, until a user with the permission has put it there.
func TestTrialWithoutPermission(t *testing.T) {
	dir := t.TempDir()
	trap := filepath.Join(dir, ".a.yaml.new")
	synctest.Test(t, func(t *testing.T) {
		b := newTried(t, dir)
		b.run(func() {
			if _, err := b.apply("bad"); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(trap, "x"), 0o700); err != nil { // stops root too
				t.Fatal(err)
			}
			time.Sleep(within + 2*checkEvery)
			if trial := b.changes.Status().Trial; trial.Outcome != status.RolledBack || !trial.Unwritten || b.now.Broker.ResponseInformation != "good" {
				t.Errorf("%+v, uses %s", trial, b.now.Broker.ResponseInformation)
			}
			b.holds("bad")
			for range 2 {
				if got := b.started(); got != "good" {
					t.Errorf("a start uses %s", got)
				}
			}
			if _, err := b.changes.Reload(status.ByCommand); err != nil || b.now.Broker.ResponseInformation != "good" {
				t.Errorf("%v, uses %s after a reload", err, b.now.Broker.ResponseInformation)
			}
			if _, err := b.apply("goodtoo"); err == nil || !strings.Contains(err.Error(), "first `sudo holdfast config rollback`") {
				t.Errorf("got %v", err)
			}
			undone, err := b.changes.Rollback()
			if err != nil || undone.Earlier != digest([]byte(b.text("good"))) || undone.File != b.file {
				t.Fatalf("%+v, %v", undone, err)
			}
			if err := PutBack(undone.File, digest([]byte("something else"))); err == nil || !strings.Contains(err.Error(), ".old is not what") {
				t.Errorf("got %v", err)
			}
			if err := errors.Join(os.RemoveAll(trap), PutBack(undone.File, undone.Earlier)); err != nil {
				t.Fatal(err)
			}
			if _, err := b.changes.Reload(status.ByCommand); err != nil {
				t.Error(err)
			}
			if trial := b.changes.Status().Trial; trial.Unwritten || b.noted() {
				t.Errorf("%+v, marker %v", trial, b.noted())
			}
		})
	})
}

// TestTrialAgain: a gateway that cannot go back at first tries again.
func TestTrialAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newTried(t, dir)
		went := b.run(func() {
			if _, err := b.apply("bad"); err != nil {
				t.Fatal(err)
			}
			b.refuses(errors.New("address already in use"))
			time.Sleep(within + time.Minute)
			trial := b.changes.Status().Trial
			if trial.Outcome != "" || fmt.Sprint(trial.Missing) != "[going back: address already in use]" {
				t.Errorf("%+v", trial)
			}
			if err := b.changes.Confirm(); err == nil || !strings.Contains(err.Error(), "being rolled back") {
				t.Errorf("confirmed: %v", err)
			}
			b.refuses(nil)
			time.Sleep(2 * time.Minute)
			if trial := b.changes.Status().Trial; trial.Outcome != status.RolledBack || trial.Unwritten {
				t.Errorf("%+v", trial)
			}
		})
		if went != "bad good" {
			t.Errorf("went by %s", went)
		}
	})
}
