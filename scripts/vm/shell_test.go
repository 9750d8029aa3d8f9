package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/scripts/child"
)

// kernelMessage is what the kernel prints at the console, between any two characters of what others print.
const kernelMessage = "[  812.345678] virtio_net virtio0 eth0: <<link>> is up\n"

// realShell has a /bin/sh behind it, as the guest has. What that prints goes through change, if there is one.
func realShell(t *testing.T, change func(string) string) *shell {
	t.Helper()
	s := newShell(t.TempDir())
	s.within = context.WithTimeout
	cmd := exec.Command("/bin/sh", "-s")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in, cmd.Stdout, cmd.Stderr = in, s, os.Stderr
	if change != nil {
		cmd.Stdout = &frames{to: s, change: change}
	}
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		p.Kill()
	})
	return s
}

// frames hands each answer on as a whole, changed.
type frames struct {
	to     io.Writer
	b      bytes.Buffer
	change func(string) string
}

func (f *frames) Write(p []byte) (int, error) {
	f.b.Write(p)
	for {
		whole, after, ok := strings.Cut(f.b.String(), ">>\n")
		if !ok {
			return len(p), nil
		}
		f.b.Reset()
		f.b.WriteString(after)
		io.WriteString(f.to, f.change(whole+">>\n"))
	}
}

func TestShell(t *testing.T) {
	for _, c := range []struct{ name, command, want string }{
		{"nothing", "true", ""},
		{"a line", "echo one", "one"},
		{"lines and blanks", "printf '\\n  a\\n\\n b \\n'", "a\n\n b"},
		{"both outputs", "echo out; echo err >&2", "out\nerr"},
		{"several lines of a command", "for i in 1 2; do\necho $i\ndone", "1\n2"},
		{"quotes", `echo "it's" '"$HOME"'`, `it's "$HOME"`},
		{"a file", "cat <<'EOF'\na: \"$b\" `c` \\\n\nEOF", "a: \"$b\" `c` \\"},
		{"bytes", `printf '\0\377\r<<'`, "\x00\xff\r<<"},
		{"what looks like marks", "echo '<<x y>> <<<up>>>'", "<<x y>> <<<up>>>"},
		{"much", "seq 20000", numbers(20000)},
		{"its input is empty", "cat", ""},
		{"an exit in it", "echo a; exit 0; echo b", "a"},
		{"no line break at its end", "printf a", "a"},
		{"a directory of its own", "cd /; pwd", "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := realShell(t, nil)
			for range 2 {
				got, err := s.run(t.Context(), c.command)
				if err != nil || got != c.want {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
			}
			_, err := s.run(t.Context(), "echo why; exit 7")
			if f := (failure{}); !errors.As(err, &f) || f != (failure{7, "why"}) {
				t.Errorf("got %v, want exit code 7", err)
			}
		})
	}
	t.Run("a line that a terminal would cut", func(t *testing.T) {
		if _, err := realShell(t, nil).run(t.Context(), "echo "+strings.Repeat("x", 4000)); err == nil || !strings.Contains(err.Error(), "want at most 3000") {
			t.Errorf("got %v", err)
		}
	})
}

// numbers are what seq prints.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return strings.TrimSpace(b.String())
}

// TestLateOutput: an earlier command prints while a later one runs, into its file and past it onto the console.
func TestLateOutput(t *testing.T) {
	s := realShell(t, nil)
	fifo, done := filepath.Join(t.TempDir(), "fifo"), filepath.Join(t.TempDir(), "done")
	if got, err := s.run(t.Context(), "mkfifo "+fifo+" "+done); err != nil {
		t.Fatal(got, err)
	}
	if got, err := s.run(t.Context(), "( read x <"+fifo+"; echo much later than asked for; echo late >/proc/$$/fd/1; echo >"+done+" ) &\necho first"); err != nil || got != "first" {
		t.Fatalf("got %q, %v", got, err)
	}
	if got, err := s.run(t.Context(), "echo begin; echo >"+fifo+"; read x <"+done+"; echo end"); err != nil || got != "begin\nend" {
		t.Errorf("got %q, %v, want the second command's output alone", got, err)
	}
	if got, err := s.run(t.Context(), "echo third"); err != nil || got != "third" {
		t.Errorf("got %q, %v, want the third command's output alone", got, err)
	}
}

// TestAskAgain damages answers, and counts how often the command runs.
func TestAskAgain(t *testing.T) {
	damaged := 0
	s := realShell(t, func(answer string) string {
		if damaged++; damaged > 5 {
			return answer
		}
		at := len(answer) * damaged / 7
		return answer[:at] + kernelMessage + answer[at:]
	})
	runs := filepath.Join(t.TempDir(), "runs")
	got, err := s.run(t.Context(), "echo run >>"+runs+"; seq 100; exit 3")
	if f := (failure{}); !errors.As(err, &f) || f != (failure{3, numbers(100)}) || got != f.out {
		t.Errorf("got %q, %v", got, err)
	}
	if b, err := os.ReadFile(runs); err != nil || string(b) != "run\n" {
		t.Errorf("got %q, %v, want one run of the command", b, err)
	}
}

// guestScript is a guest whose shell is scripted: each command or repeated question that is typed is answered by react,
// which prints with print.
type guestScript struct {
	*shell
	mu    sync.Mutex
	typed []string // commands, "again" or "interrupt"
	react func(n int, what, token string)
}

func newGuestScript(within func(context.Context, time.Duration) (context.Context, context.CancelFunc)) *guestScript {
	g := &guestScript{shell: newShell("/run")}
	g.in, g.within = g, within
	return g
}

var (
	typedCommand = regexp.MustCompile(`(?s)^rm -f /run/answer-\*; \( (.*)\n\) </dev/null >/run/answer-([A-Z2-7]+) 2>&1; `)
	typedAgain   = regexp.MustCompile(`^\[ -e /run/answer-([A-Z2-7]+)\.code \] && `)
)

// Write takes what is typed.
func (g *guestScript) Write(p []byte) (int, error) {
	what, token := string(p), ""
	if m := typedCommand.FindStringSubmatch(what); m != nil {
		what, token = m[1], m[2]
	} else if m := typedAgain.FindStringSubmatch(what); m != nil {
		what, token = "again", m[1]
	} else if what == interrupt {
		what = "interrupt"
	}
	g.mu.Lock()
	g.typed = append(g.typed, what)
	n := len(g.typed)
	g.mu.Unlock()
	g.react(n, what, token)
	return len(p), nil
}

func (g *guestScript) print(text string) { g.shell.Write([]byte(text)) }

// answer is what the shell of the guest prints.
func answer(token string, code int, out string) string {
	a := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d\n%s", code, out))
	return fmt.Sprintf("\n<<%s %s %x %s>>\n", token, a, sha256.Sum256([]byte(a)), token)
}

// TestKernelMessages puts a message at each place of an answer.
func TestKernelMessages(t *testing.T) {
	for at := range len(answer(strings.Repeat("A", 26), 0, "groups gpio i2c")) {
		synctest.Test(t, func(t *testing.T) {
			g := newGuestScript(context.WithTimeout)
			g.react = func(n int, _, token string) {
				a := answer(token, 0, "groups gpio i2c")
				if n == 1 {
					a = a[:at] + kernelMessage + a[at:]
				}
				g.print(a)
			}
			if got, err := g.run(t.Context(), "id"); err != nil || got != "groups gpio i2c" {
				t.Errorf("message at %d: got %q, %v", at, got, err)
			}
			if len(g.typed) > 2 {
				t.Errorf("message at %d: got %q typed, want at most one question more", at, g.typed)
			}
		})
	}
}

// TestMessagesAlways: the guest never prints an answer as a whole.
func TestMessagesAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuestScript(context.WithTimeout)
		g.react = func(_ int, _, token string) {
			a := answer(token, 0, "groups")
			go g.print(a[:40] + kernelMessage + a[40:])
		}
		if _, err := g.run(t.Context(), "id"); err == nil || !strings.Contains(err.Error(), "50 answers were damaged") {
			t.Errorf("got %v", err)
		}
		if len(g.typed) != damagedMost {
			t.Errorf("got %d lines typed, want %d", len(g.typed), damagedMost)
		}
	})
}

// TestLateAnswer: a command takes longer than its budget, and its answer comes in the middle of the next one.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuestScript(context.WithTimeout)
		late := ""
		g.react = func(_ int, what, token string) {
			switch what {
			case "slow":
				late = answer(token, 0, "of the slow one")
			case "interrupt":
				time.AfterFunc(time.Minute, func() { g.print("garbage" + up) })
			case "next":
				time.AfterFunc(time.Second, func() { g.print("output on the console\n" + late[:30]) })
				time.AfterFunc(2*time.Second, func() { g.print(late + late[:30] + answer(token, 0, "of the next one") + late) })
			case "last":
				g.print(answer(token, 4, "of the last one"))
			}
		}
		if got, err := g.run(t.Context(), "slow"); got != "" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slow: got %q, %v, want a deadline", got, err)
		}
		if got, err := g.run(t.Context(), "next"); err != nil || got != "of the next one" {
			t.Errorf("next: got %q, %v", got, err)
		}
		_, err := g.run(t.Context(), "last")
		if f := (failure{}); !errors.As(err, &f) || f != (failure{4, "of the last one"}) {
			t.Errorf("last: got %v", err)
		}
	})
}

// TestSlowGuest: a guest gets a hundredth of its processor: answers come when the clock says that it is much too late.
func TestSlowGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuestScript(func(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*d)
		})
		again := 0
		g.react = func(_ int, what, token string) {
			if what == "again" {
				again++
				return // it has not ended
			}
			time.AfterFunc(10*time.Hour, func() { g.print(answer(token, 0, "slowly")) })
		}
		for range 2 {
			if got, err := g.run(t.Context(), "apt-get install"); err != nil || got != "slowly" {
				t.Errorf("got %q, %v", got, err)
			}
		}
		if again < 2 || again > 2*11 { // 30 s, 60 s, 2 min, ...
			t.Errorf("got %d questions in 20 hours, want some and few: they are typed ahead", again)
		}
	})
}

// TestShellEnds: the shell ends in the middle of a command, for good or with another one in its place.
func TestShellEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuestScript(context.WithTimeout)
		g.react = func(_ int, what, token string) {
			switch what {
			case "restart":
				g.print(answer(token, 0, "x")[:20] + up)
			case "fine":
				g.print(answer(token, 0, "fine"))
			}
		}
		if _, err := g.run(t.Context(), "restart"); !errors.Is(err, errRestarted) {
			t.Errorf("got %v", err)
		}
		if got, err := g.run(t.Context(), "fine"); err != nil || got != "fine" {
			t.Errorf("after a restart: got %q, %v", got, err)
		}
		if _, err := g.run(t.Context(), "hang"); err == nil || !strings.Contains(err.Error(), "did not come back") {
			t.Errorf("got %v, want that the shell is lost", err)
		}
		typed := len(g.typed)
		if _, err := g.run(t.Context(), "fine"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "fine: not run") || len(g.typed) != typed {
			t.Errorf("got %v and %q, want that nothing is typed any more", err, g.typed[typed:])
		}
	})
}

// TestShellIsGivenUp ends the test itself, and the guest.
func TestShellIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuestScript(context.WithTimeout)
		ctx, cancel := context.WithCancelCause(t.Context())
		g.react = func(int, string, string) { cancel(child.ErrEnded) }
		began := time.Now()
		if _, err := g.run(ctx, "uname"); !errors.Is(err, child.ErrEnded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 0 || len(g.typed) != 1 {
			t.Errorf("got %q in %v, want an end at once", g.typed, took)
		}
	})
}

// TestStarted waits for the shell of a guest that prints much before it.
func TestStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuestScript(context.WithTimeout)
		go func() {
			for range 5000 {
				g.print(strings.Repeat(kernelMessage, 20))
			}
			g.print("<<<up")
			time.Sleep(time.Minute)
			g.print(">>>\r\n")
		}()
		if err := g.started(t.Context(), time.Hour); err != nil {
			t.Error(err)
		}
		if n := len(g.b); n > keptMost {
			t.Errorf("got %d bytes kept, want at most %d", n, keptMost)
		}
		if err := g.started(t.Context(), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second shell: got %v, want none", err)
		}
	})
}
