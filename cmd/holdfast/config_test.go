package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/gateway/status"
)

// changed writes a copy of a gateway's first file, with a change.
func (g *process) changed(name, old, now string) (file string) {
	g.t.Helper()
	text := g.read(g.base)
	if !strings.Contains(text, old) {
		g.t.Fatalf("%s has no %s", g.base, old)
	}
	return g.write(name, strings.ReplaceAll(text, old, now))
}

func (g *process) read(file string) string {
	g.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

func (g *process) connected() {
	g.t.Helper()
	g.until("the bridge is connected and the sensors are well", func(st status.Status) bool { return st.State == status.Running || well(st) })
}

// well reports whether the bridge is connected and the sensors are read; a clock may be wrong where this runs.
func well(st status.Status) bool {
	for _, s := range st.Sensors {
		if s.State != "ok" {
			return false
		}
	}
	return len(st.Bridges) == 1 && st.Bridges[0].Connected
}

// apply calls holdfast config apply, and does not wait for its end.
func (g *process) apply(args ...string) (said *strings.Builder, wait func() int) {
	g.t.Helper()
	said = new(strings.Builder)
	c := exec.Command(program, append([]string{"config", "apply", "-c", g.base, "--target", g.base}, args...)...)
	c.Stdout, c.Stderr = said, said
	if err := c.Start(); err != nil {
		g.t.Fatal(err)
	}
	return said, func() int { _ = c.Wait(); return c.ProcessState.ExitCode() }
}

// TestApply is a device that is far away: a good configuration is confirmed by itself; one with a wrong address of
// the upstream is rolled back by itself, also if the gateway is killed meanwhile; and nothing is lost by all of it.
func TestApply(t *testing.T) {
	t.Parallel() // they wait most of the time
	upstream := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	seen := newArrivals()
	watch(t, upstream.Addr(), seen)
	g := newProcess(t, upstream.Addr())
	g.start(g.base, g.sensors)
	load := startTraffic(g.addr, dial5)
	g.connected()
	first := g.read(g.base)

	// Good.
	next := g.changed("next.yaml", "window: 20", "window: 30")
	said, wait := g.apply(next, "--confirm-within", "8s")
	if code := wait(); code != 0 || !strings.Contains(said.String(), "bridge up: changed\n") || !strings.Contains(said.String(), "\nconfirmed: what worked before has worked for 4s\n") {
		t.Fatalf("a good one: code %d\n%s", code, said)
	}
	second := g.read(g.base)
	if second != g.read(next) || g.read(g.base+".old") != first {
		t.Errorf("%s does not hold the new one, or its .old not the earlier one", g.base)
	}
	if trial := g.status().Config.Trial; trial.Outcome != status.Confirmed {
		t.Errorf("%+v", trial)
	}

	// Wrong: no gateway runs.
	wrong := g.changed("wrong.yaml", upstream.Addr(), brokertest.FreeAddress(t))
	said, wait = g.apply(wrong, "--confirm-within", "3s")
	if code := wait(); code != 1 || !strings.Contains(said.String(), "\nrolled back: not confirmed within 3s: bridge up is not connected: dial tcp ") {
		t.Fatalf("a wrong one: code %d\n%s", code, said)
	}
	if g.read(g.base) != second || g.read(g.base+".old") != second {
		t.Errorf("%s does not hold what it held before", g.base)
	}
	g.connected()
	st := g.status()
	if st.Config.Last.By != status.ByRollback || st.Config.Last.Changes[0] != "bridge up: changed" || st.Config.Trial.Unwritten {
		t.Errorf("%+v %+v", st.Config.Last, st.Config.Trial)
	}
	out, _, _ := run("status", "-c", g.base)
	if !strings.Contains(out, "a configuration was rolled back: not confirmed within 3s") {
		t.Errorf("status does not tell of it:\n%s", out)
	}

	// By hand, both ways.
	for _, verb := range []string{"rollback", "confirm"} {
		before := g.read(g.base)
		next = g.changed("next.yaml", "window: ", "window: 1")
		said, wait = g.apply(next, "--confirm-within", "1h")
		g.until("the trial", func(st status.Status) bool { return st.Config.Trial.Outcome == "" && g.read(g.base) == g.read(next) })
		if _, errs, code := run("reload", "-c", g.base); code != 1 || !strings.Contains(errs, "a configuration is on trial") {
			t.Errorf("reload during a trial: code %d, %s", code, errs)
		}
		if out, errs, code := run("config", verb, "-c", g.base); code != 0 {
			t.Errorf("%s: code %d, %s%s", verb, code, out, errs)
		}
		if code, want := wait(), map[string]int{"rollback": 1, "confirm": 0}[verb]; code != want || !strings.Contains(said.String(), ": holdfast config "+verb+"\n") {
			t.Errorf("%s: code %d\n%s", verb, code, said)
		}
		if now := g.read(g.base); (now == before) != (verb == "rollback") {
			t.Errorf("after %s:\n%s", verb, now)
		}
	}
	third := g.read(g.base)

	// Killed while a wrong one is on trial, and once more right after the start.
	said, wait = g.apply(wrong, "--confirm-within", "1h")
	g.until("the trial", func(st status.Status) bool { return st.Config.Trial.Outcome == "" && g.read(g.base) != third })
	g.kill()
	g.start(g.base, g.sensors)
	g.kill()
	g.start(g.base, g.sensors)
	g.connected()
	if code := wait(); code != 1 || !strings.Contains(said.String(), "was started again") {
		t.Errorf("killed: code %d\n%s", code, said)
	}
	if g.read(g.base) != third {
		t.Errorf("after it was killed %s does not hold what it held before", g.base)
	}

	load.waitForMore(t, 20)
	acknowledged := load.stop()
	g.terminate()
	lastReading := g.lastReading()
	g.start(g.base)
	seen.waitFor(t, "everything acknowledged", func() bool {
		for topic, n := range acknowledged {
			if len(seen.byTopic["up/"+topic]) < n {
				return false
			}
		}
		return seen.readings() >= lastReading
	})
	g.terminate()
	t.Logf("%d readings arrived, and what %d publishers sent: %v", lastReading, publishers, acknowledged)
}

// TestApplyAndKill: the gateway is killed as soon as the disk has come to each of the states that a trial goes
// through. The next start uses the earlier configuration, or one that was confirmed.
func TestApplyAndKill(t *testing.T) {
	t.Parallel()
	g := newProcess(t, "127.0.0.1:1")
	marker := filepath.Join(g.dir, "data", "configuration-on-trial.json")
	noted := func() bool { _, err := os.Stat(marker); return err == nil }
	first := g.read(g.base)
	next := g.changed("next.yaml", "window: 20", "window: 30")
	second := g.read(next)
	placed := func() bool { return g.read(g.base) == second }
	for at, c := range map[string]struct {
		then  string // command, once the new one is in place
		state func() bool
		want  string
	}{
		"noted":       {"", noted, first},
		"in place":    {"", placed, first},
		"confirmed":   {"confirm", func() bool { return !noted() }, second},
		"put back":    {"rollback", func() bool { return !placed() }, first},
		"rolled back": {"rollback", func() bool { return !noted() }, first},
	} {
		g.write("base.yaml", first)
		g.start(g.base, g.sensors)
		g.status()
		_, wait := g.apply(next, "--confirm-within", "1h")
		end := time.Now().Add(patience)
		reach := func(state func() bool) { // at once: the next moment is another state
			for !state() {
				if time.Now().After(end) {
					t.Fatalf("%s: never", at)
				}
			}
		}
		then := exec.Command(program, "config", c.then, "-c", g.base)
		if c.then != "" {
			reach(placed)
			if err := then.Start(); err != nil {
				t.Fatal(err)
			}
		}
		reach(c.state)
		g.kill()
		if c.then != "" {
			_ = then.Wait() // it may have been told, or not
		}
		g.start(g.base, g.sensors)
		if code := wait(); code == 0 && at != "confirmed" { // which the command may have heard of, or not
			t.Errorf("%s: the command ends with %d", at, code)
		}
		if st := g.status(); g.read(g.base) != c.want || noted() || st.Config.Trial != nil && st.Config.Trial.Outcome != status.RolledBack {
			t.Errorf("%s: %+v, noted %v\n%s", at, st.Config.Trial, noted(), g.read(g.base))
		}
		g.terminate()
	}
}

// TestApplyIsRefused: what cannot be applied changes nothing, and the exit code says so.
func TestApplyIsRefused(t *testing.T) {
	g := newProcess(t, "127.0.0.1:1")
	next := g.changed("next.yaml", "window: 20", "window: 30")
	for _, verb := range []string{"confirm", "rollback"} {
		if _, errs, code := run("config", verb, "-c", g.base); code != 1 || !strings.Contains(errs, "holdfast does not run") {
			t.Errorf("%s without a gateway: code %d, %s", verb, code, errs)
		}
	}
	g.start(g.base, g.sensors)
	g.status()
	before := g.read(g.base)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, 2, "want one FILE"},
		{[]string{filepath.Join(g.dir, "nothing.yaml")}, 2, "no such file"},
		{[]string{next, "--confirm-within", "0s"}, 2, "--confirm-within: got 0s"},
		{[]string{next, "--confirm-within", "1"}, 2, "invalid argument"},
		{[]string{g.write("wrong.yaml", "brigdes: []\n")}, 1, "wrong.yaml:1: brigdes: unknown key, did you mean \"bridges\"?"},
		{[]string{g.changed("restart.yaml", "max_size: 64MiB", "max_size: 65MiB"), "--confirm-within", "1m"}, 1, "these need a restart: journal.max_size"},
		{[]string{g.base}, 1, "uses that already"},
		{[]string{next, "--target", next}, 1, "is no file of this gateway's configuration, want " + g.base},
	} {
		said, wait := g.apply(c.args...)
		if code := wait(); code != c.code || !strings.Contains(said.String(), c.want) {
			t.Errorf("%v: code %d, want %d and %q\n%s", c.args, code, c.code, c.want, said)
		}
	}
	if st := g.status(); g.read(g.base) != before || st.Config.Last != nil || st.Config.Trial != nil {
		t.Errorf("something has changed: %+v\n%s", st.Config, g.read(g.base))
	}
	// Where the command may not write, the gateway goes back.
	trap := filepath.Join(g.dir, ".base.yaml.old.new", "x")
	if err := os.MkdirAll(trap, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{next}, {next, "--confirm-within", "1h"}} {
		said, wait := g.apply(args...)
		if code := wait(); code != 1 || !strings.Contains(said.String(), "cannot be put in place") {
			t.Errorf("%v: code %d\n%s", args, code, said)
		}
		if st := g.status(); g.read(g.base) != before || st.Config.Last.Changes[0] != "bridge up: changed" {
			t.Errorf("%v: %+v", args, st.Config.Last)
		}
	}
	out, errs, code := run("config", "show", "-c", g.base, "-c", g.write("secret.yaml", "bridges: [{name: up, username: me, password: hunter2}]\n"))
	if code != 0 || strings.Contains(out, "hunter2") || !strings.Contains(out, "username: me # "+filepath.Join(g.dir, "secret.yaml")+":1\n") || !strings.Contains(out, "max_size: 64MiB") {
		t.Errorf("show: code %d, %s\n%s", code, errs, out)
	}
	if _, errs, code := run("config", "show", "-c", g.write("wrong.yaml", "brigdes: []\n")); code != 2 || !strings.Contains(errs, "unknown key") {
		t.Errorf("show of a wrong one: code %d, %s", code, errs)
	}
	g.terminate()
}

// TestApplyWithoutPermission is a gateway as the unit has it: it may read its configuration and not write it. It
// still goes back, also after it was killed, and root puts the earlier file in place later.
func TestApplyWithoutPermission(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can run a gateway as somebody else; TestTrialWithoutPermission of gateway/reconfigure has the same without")
	}
	const nobody = 65534
	upstream := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	g := newProcess(t, upstream.Addr())
	g.user = nobody
	data := filepath.Join(g.dir, "data")
	err := errors.Join(os.Chmod(filepath.Dir(program), 0o755), os.Chmod(filepath.Dir(g.dir), 0o755), os.Mkdir(data, 0o700), os.Chown(data, nobody, nobody))
	for _, file := range []string{g.base, g.sensors} { // as in /etc/holdfast
		err = errors.Join(err, os.Chown(file, 0, nobody), os.Chmod(file, 0o640))
	}
	if err != nil {
		t.Fatal(err)
	}
	g.start(g.base, g.sensors)
	g.connected()
	before := g.read(g.base)
	wrong := g.changed("wrong.yaml", upstream.Addr(), brokertest.FreeAddress(t))
	lost := func() { // the trial, by a command that is gone as soon as the new configuration is in place
		t.Helper()
		c := exec.Command(program, "config", "apply", wrong, "-c", g.base, "--target", g.base, "--confirm-within", "5s")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		g.until("the trial", func(st status.Status) bool {
			return st.Config.Trial != nil && st.Config.Trial.Outcome == "" && g.read(g.base) == g.read(wrong)
		})
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	lost()
	st := g.until("the roll-back", func(st status.Status) bool { return st.Config.Trial.Outcome == status.RolledBack && well(st) })
	if !st.Config.Trial.Unwritten || !strings.Contains(strings.Join(st.Problems, "\n"), "put the earlier one in place with `sudo holdfast config rollback`") {
		t.Errorf("%+v %v", st.Config.Trial, st.Problems)
	}
	if g.read(g.base) == before {
		t.Error("the file was not written back")
	}
	g.kill()
	g.start(g.base, g.sensors)
	g.connected()
	if out, errs, code := run("config", "rollback", "-c", g.base); code != 0 || g.read(g.base) != before {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	if st := g.status(); st.Config.Trial.Unwritten {
		t.Errorf("%+v", st.Config.Trial)
	}
	info, err := os.Stat(g.base)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 || owner.Gid != nobody || info.Mode().Perm() != 0o640 {
		t.Errorf("the file belongs to %d:%d, %v", owner.Uid, owner.Gid, info.Mode())
	}
	// Killed while it is on trial.
	lost()
	g.kill()
	g.start(g.base, g.sensors)
	g.connected()
	g.terminate()
}

// TestCheckWarns: what is hardly meant goes to standard error, and the configuration is good all the same.
func TestCheckWarns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("device: {id: a}\nbridges: [{name: up, upstream: [\"mqtt://broker.example\"], out: [{filter: \"sensor/#\"}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := checkCommand()
	var out, errs bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetArgs([]string{"-c", file})
	if err := c.Execute(); err != nil || !strings.HasPrefix(out.String(), "ok: ") || strings.Contains(out.String(), "warning") ||
		!strings.HasPrefix(errs.String(), "warning: "+file+":2: bridges[up].out[0].filter: ") {
		t.Errorf("got %v, output %s, errors %s", err, &out, &errs)
	}
}
