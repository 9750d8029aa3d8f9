package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"syscall"
	"time"
)

const (
	complainEvery = time.Minute
	mostComplains = 100 // that are remembered
)

// logger is the log of the options. It limits the lines of repeated faults. Safe for concurrent use.
type logger struct {
	*slog.Logger

	mu   sync.Mutex // guards the rest; no other is taken under it
	seen map[string]*complaint
}

type complaint struct {
	logged     time.Time
	suppressed int
}

var numbersInNames = regexp.MustCompile(`[0-9a-f]{16}|[0-9]+`)

// complain logs a fault that may come again and again: one line in a minute for each message and cause, with how many
// were suppressed since. File names, which differ each time, do not distinguish causes.
func (l *logger) complain(message string, err error) {
	cause := numbersInNames.ReplaceAllString(err.Error(), "0")
	var errno syscall.Errno
	if errors.As(err, &errno) {
		cause = fmt.Sprint(int(errno))
	}
	key := message + "\x00" + cause
	l.mu.Lock()
	s := l.seen[key]
	if s != nil && time.Since(s.logged) < complainEvery {
		s.suppressed++
		l.mu.Unlock()
		return
	}
	args := []any{"error", err}
	if s != nil && s.suppressed > 0 {
		args = append(args, "more_since_the_last", s.suppressed)
	}
	if s == nil && len(l.seen) >= mostComplains || l.seen == nil {
		l.seen = map[string]*complaint{}
	}
	l.seen[key] = &complaint{logged: time.Now()}
	l.mu.Unlock()
	l.Error(message, args...)
}
