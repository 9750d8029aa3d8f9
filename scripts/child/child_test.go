package child

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(exec.Command("/bin/sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestStop(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"ends by itself", "exit 3", "exit status 3"},
		{"ends when asked to", "exec sleep 1000", "signal: terminated"},
		{"asked to, it ends well", "trap 'exit 0' TERM; echo; while :; do sleep 0.01; done", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", c.script)
			ready := make(chan struct{}, 1)
			cmd.Stdout = signalling(ready)
			p, err := Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(c.script, "echo") {
				<-ready
			} else if strings.Contains(c.script, "exit") {
				<-p.Ended
			}
			got := ""
			if err := p.Stop(time.Hour); err != nil {
				got = err.Error()
			}
			if got != c.want || p.Alive() {
				t.Errorf("got %q, alive %t; want %q and an end", got, p.Alive(), c.want)
			}
		})
	}
}

type signalling chan struct{}

func (s signalling) Write(p []byte) (int, error) {
	select {
	case s <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	ready := make(signalling, 1)
	cmd := exec.Command("/bin/sh", "-c", "trap '' TERM; echo; while :; do sleep 0.01; done")
	cmd.Stdout = ready
	cmd.WaitDelay = time.Second // its sleep may hold the pipe
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	if err := p.Stop(time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want a kill", err)
	}
}

func TestReady(t *testing.T) {
	p := start(t, "exec sleep 1000")
	calls := 0
	_, err := p.Ready(time.Hour, time.Millisecond, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("got %v after %d calls, want success at the third", err, calls)
	}
	never := errors.New("never")
	if _, err := p.Ready(0, time.Hour, func() error { return never }); !errors.Is(err, never) {
		t.Errorf("got %v, want the last error", err)
	}
	p.Kill()
	if _, err := p.Ready(time.Hour, time.Hour, func() error { return never }); !errors.Is(err, ErrEnded) {
		t.Errorf("got %v, want that the process has ended", err)
	}
}

func TestCost(t *testing.T) {
	p := start(t, "exec sleep 1000")
	if rss, err := p.RSS(); err != nil || rss < 4<<10 || rss > 1<<30 {
		t.Errorf("RSS: got %d, %v", rss, err)
	}
	if peak, err := p.PeakRSS(); err != nil || peak < 4<<10 || peak > 1<<30 {
		t.Errorf("peak: got %d, %v", peak, err)
	}
	if cpu, err := p.CPU(); err != nil || cpu < 0 {
		t.Errorf("CPU: got %v, %v", cpu, err)
	}
	p.Kill()
	if _, err := p.RSS(); err == nil {
		t.Error("RSS of a process that has ended: got no error")
	}
	if _, err := p.CPU(); err == nil {
		t.Error("CPU of a process that has ended: got no error")
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		stat string
		want time.Duration
		ok   bool
	}{
		{"17 (holdfast) S 1 17 17 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 0 0", 2 * time.Second, true},
		{"17 (a name) with) S 1 17 17 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 9 0 100 0 0", 30 * time.Millisecond, true},
		{"17 (holdfast) S 1 17", 0, false},
		{"17 (holdfast) S 1 17 17 0 -1 4194560 100 0 0 0 x 50 0 0", 0, false},
		{"", 0, false},
	} {
		if got, err := parseCPU(c.stat); got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: got %v, %v, want %v", c.stat, got, err, c.want)
		}
	}
	for _, c := range []struct {
		status string
		want   int64
		ok     bool
	}{
		{"Name:\tx\nVmHWM:\t   99 kB\nVmRSS:\t   12 kB\nRssAnon:\t 3 kB\n", 12 << 10, true},
		{"VmRSS:\t 4 kB", 4 << 10, true},
		{"Name:\tx\nState:\tZ (zombie)\n", 0, false},
		{"Name:\tx\nVmRSS:\n", 0, false},
	} {
		if got, err := parseMemory(c.status, "VmRSS"); got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: got %v, %v, want %v", c.status, got, err, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	if path, err := Find("sh"); err != nil || !strings.HasSuffix(path, "/sh") {
		t.Errorf("got %q, %v", path, err)
	}
	if _, err := Find("no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program is not installed") {
		t.Errorf("got %v, want the remedy", err)
	}
}

func TestTail(t *testing.T) {
	var tail Tail
	for range 10_000 {
		if n, err := tail.Write([]byte("0123456789")); n != 10 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	if s := tail.String(); !strings.HasSuffix(s, "0123456789") || len(s) > tailSize || len(s) < tailSize/2 {
		t.Errorf("got %d bytes, want the last ones and at most %d", len(s), tailSize)
	}
	if n, err := tail.Write([]byte(strings.Repeat("x", 1<<20) + "end")); n != 1<<20+3 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if s := tail.String(); !strings.HasSuffix(s, "xend") || len(s) > tailSize {
		t.Errorf("after a long write: got %d bytes", len(s))
	}
}

// TestWithin scripts processes whose threads wait for a processor, second by second.
func TestWithin(t *testing.T) {
	// Each returns how long its threads have waited after so many seconds.
	type script func(second int) map[int]time.Duration
	for _, c := range []struct {
		name   string
		budget time.Duration
		script script
		want   time.Duration // of the clock
	}{
		{"has the machine for itself", 10 * time.Second, func(int) map[int]time.Duration { return map[int]time.Duration{1: 0} }, 10 * time.Second},
		{"no figures", 10 * time.Second, func(int) map[int]time.Duration { return nil }, 10 * time.Second},
		{"waited before", 10 * time.Second, func(int) map[int]time.Duration { return map[int]time.Duration{1: time.Hour} }, 10 * time.Second},
		{"has nine tenths taken away", 10 * time.Second, func(s int) map[int]time.Duration {
			return map[int]time.Duration{1: time.Duration(s) * 900 * time.Millisecond}
		}, 100 * time.Second},
		{"two threads wait at the same time", 10 * time.Second, func(s int) map[int]time.Duration {
			return map[int]time.Duration{1: time.Duration(s) * 500 * time.Millisecond, 2: time.Duration(s) * 500 * time.Millisecond}
		}, 20 * time.Second},
		{"waits for long and is then counted at once", 40 * time.Second, func(s int) map[int]time.Duration {
			return map[int]time.Duration{1: time.Duration(s/30) * 29 * time.Second}
		}, 359 * time.Second}, // it has one second in thirty, and a wait counts as had until it is over
		{"the thread that waited has ended", 10 * time.Second, func(s int) map[int]time.Duration {
			if s <= 5 {
				return map[int]time.Duration{1: 0, 7: time.Duration(s) * time.Second}
			}
			return map[int]time.Duration{1: 0}
		}, 15 * time.Second},
		{"its number is used again", 10 * time.Second, func(s int) map[int]time.Duration {
			if s <= 5 {
				return map[int]time.Duration{7: time.Minute + time.Duration(s)*time.Second}
			}
			return map[int]time.Duration{7: 0}
		}, 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := within(t.Context(), c.budget, nil, func() map[int]time.Duration { return c.script(int(time.Since(began) / time.Second)) })
				defer cancel()
				<-ctx.Done()
				var late *Late
				if cause := context.Cause(ctx); !errors.As(cause, &late) || !errors.Is(cause, context.DeadlineExceeded) || late.Had < c.budget {
					t.Errorf("got cause %v, want a deadline of %v", cause, c.budget)
				}
				if got := time.Since(began); got != c.want {
					t.Errorf("got a deadline after %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestWithinEnds(t *testing.T) {
	p := start(t, "exec sleep 1000")
	ctx, cancel := p.Within(t.Context(), time.Hour)
	defer cancel()
	if ctx.Err() != nil {
		t.Fatal(ctx.Err())
	}
	p.Kill()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, ErrEnded) {
		t.Errorf("got %v, want that the process has ended", cause)
	}
	parent, stop := context.WithCancel(t.Context())
	ctx, cancel = start(t, "exec sleep 1000").Within(parent, time.Hour)
	defer cancel()
	stop()
	<-ctx.Done()
}

// TestDelays reads the kernel's figures of a process that exists.
func TestDelays(t *testing.T) {
	p := start(t, "exec sleep 1000")
	if got := p.delays(); len(got) != 1 {
		t.Errorf("got %v, want one thread", got)
	}
}
