package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shell runs commands one after the other in a shell that is typed at and read from, as the guest's is at its serial
// port. What else comes out of that port, messages of the kernel and what an earlier command still prints, is never
// taken for an answer.
//
// Each command has a token. Its output and exit code go to files of that name; the shell prints them as one answer:
//
//	<<TOKEN BASE64 SHA256 TOKEN>>
//
// An answer with something in the middle of it does not have its sum, and is asked for again; the command does not run
// again. So is one that does not come for a while: its marks may be what was damaged.
type shell struct {
	in     io.Writer
	dir    string // for the files, where the shell is
	within func(context.Context, time.Duration) (context.Context, context.CancelFunc)

	mu   sync.Mutex
	b    []byte // what was printed and not used yet
	more chan struct{}
	lost error // why the shell takes no commands any more
}

const (
	commandBudget = 10 * time.Minute // of the guest's time: far more than it takes
	askAgain      = 30 * time.Second // later twice as long each time
	damagedMost   = 50               // answers to one command with something in the middle
	keptMost      = 1 << 20          // bytes that were printed and not used
	lineMost      = 3000             // bytes of a command in one line: a terminal takes 4095 with what is around it
	up            = "<<<up>>>\n"     // printed by a shell that starts
	interrupt     = "\x03"
)

// newShell is given in and within before its first command: they are those of a machine that prints to it already.
func newShell(dir string) *shell {
	return &shell{dir: dir, more: make(chan struct{}, 1)}
}

// Write takes what is printed.
func (s *shell) Write(p []byte) (int, error) {
	s.mu.Lock()
	for _, c := range p {
		if c != '\r' {
			s.b = append(s.b, c)
		}
	}
	s.b = s.b[max(0, len(s.b)-keptMost):]
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// take calls find with what was printed until it reports how many bytes of that are used. Where nothing comes for a
// while it calls again, if there is one.
func (s *shell) take(ctx context.Context, find func(printed string) (used int), again func() error) error {
	wait := askAgain
	quiet := time.NewTimer(wait)
	defer quiet.Stop()
	for {
		s.mu.Lock()
		used := find(string(s.b))
		s.b = s.b[used:]
		s.mu.Unlock()
		if used > 0 {
			return nil
		}
		select {
		case <-s.more:
		case <-quiet.C:
			if again != nil {
				if err := again(); err != nil {
					return err
				}
			}
			wait *= 2
			quiet.Reset(wait)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// started waits until a shell says that it is there.
func (s *shell) started(ctx context.Context, budget time.Duration) error {
	ctx, cancel := s.within(ctx, budget)
	defer cancel()
	return s.take(ctx, func(printed string) int {
		if i := strings.Index(printed, up); i >= 0 {
			return i + len(up)
		}
		return 0
	}, nil)
}

// run runs a command and returns what it printed. Exit codes other than 0 are errors, of type [failure]. A command that is not
// done within its budget is interrupted.
func (s *shell) run(ctx context.Context, command string) (string, error) {
	if s.lost != nil {
		return "", fmt.Errorf("%s: not run: %w", command, s.lost)
	}
	token := rand.Text()
	file := s.dir + "/answer-" + token
	// The marks are put together by printf, so that an echo of what is typed has none. A file of its own keeps what is
	// left of an earlier command out of this answer; the last command's are of no use any more.
	for line := range strings.Lines(command) {
		if len(line) > lineMost {
			return "", fmt.Errorf("%s: got a line of %d bytes, want at most %d: a terminal takes no more", command, len(line), lineMost)
		}
	}
	show := fmt.Sprintf(`[ -e %[1]s.code ] && { a=$(cat %[1]s.code %[1]s | base64 -w 0); printf '\n<<%%s %%s %%s %%s>>\n' %[2]s "$a" "$(printf %%s "$a" | sha256sum | cut -c -64)" %[2]s; }`+"\n", file, token)
	text := fmt.Sprintf("rm -f %[1]s/answer-*; ( %[2]s\n) </dev/null >%[3]s 2>&1; echo $? >%[3]s.part; mv %[3]s.part %[3]s.code; ", s.dir, command, file) + show
	budget, cancel := s.within(ctx, commandBudget)
	defer cancel()
	if _, err := io.WriteString(s.in, text); err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	damaged, restarted := 0, false
	for {
		body := ""
		err := s.take(budget, func(printed string) (used int) {
			if body, used = between(printed, "<<"+token+" ", " "+token+">>"); used == 0 {
				if i := strings.Index(printed, up); i >= 0 {
					restarted, used = true, i+len(up)
				}
			}
			return used
		}, func() error { _, err := io.WriteString(s.in, show); return err })
		if err != nil {
			return "", fmt.Errorf("%s: %w", command, errors.Join(err, s.recover(ctx)))
		}
		if restarted {
			return "", fmt.Errorf("%s: %w", command, errRestarted)
		}
		out, code, err := decode(body)
		if err == nil {
			if code != 0 {
				return out, fmt.Errorf("%s: %w", command, failure{code, out})
			}
			return out, nil
		}
		if damaged++; damaged == damagedMost {
			return "", fmt.Errorf("%s: %d answers were damaged, the last one: %w", command, damaged, err)
		}
		if _, err := io.WriteString(s.in, show); err != nil {
			return "", fmt.Errorf("%s: %w", command, err)
		}
	}
}

// recover ends the command that runs, and the shell with it, as the terminal does it. Another one takes its place.
func (s *shell) recover(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	s.mu.Lock()
	s.b = nil
	s.mu.Unlock()
	if _, s.lost = io.WriteString(s.in, interrupt); s.lost == nil {
		s.lost = s.started(ctx, commandBudget)
	}
	if s.lost != nil {
		s.lost = fmt.Errorf("the shell did not come back after an interrupt: %w", s.lost)
	}
	return s.lost
}

var errRestarted = errors.New("the shell has ended under it; another one has taken its place")

// failure is a command that has ended with another exit code than 0.
type failure struct {
	code int
	out  string
}

func (f failure) Error() string { return fmt.Sprintf("exit code %d: %s", f.code, f.out) }

// between returns what is between the last begin before the first end behind it, and how much of text is used then; 0 if
// they are not there.
func between(text, begin, end string) (body string, used int) {
	i := strings.Index(text, begin)
	if i < 0 {
		return "", 0
	}
	j := strings.Index(text[i:], end)
	if j < 0 {
		return "", 0
	}
	body = text[i:][:j]
	return body[strings.LastIndex(body, begin)+len(begin):], i + j + len(end)
}

// decode takes an answer apart.
func decode(body string) (out string, code int, err error) {
	encoded, sum, ok := strings.Cut(body, " ")
	if !ok {
		return "", 0, fmt.Errorf("got %q, want base64 and a sum", body)
	}
	if got := sha256.Sum256([]byte(encoded)); hex.EncodeToString(got[:]) != sum {
		return "", 0, fmt.Errorf("got %q, which is not of the sum %q", encoded, sum)
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", 0, err
	}
	digits, out, ok := strings.Cut(string(b), "\n")
	if code, err = strconv.Atoi(digits); err != nil || !ok {
		return "", 0, fmt.Errorf("got %q, want an exit code and a line break first", b)
	}
	return strings.TrimSpace(out), code, nil
}
