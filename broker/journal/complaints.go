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

// complaints logs repeated faults: one line in a minute for each message and cause, with how many were
// suppressed since. File names, which differ each time, do not distinguish causes. Safe for concurrent use.
type complaints struct {
	mu   sync.Mutex // only this
	seen map[string]*complaint
}

type complaint struct {
	told       time.Time
	suppressed int
}

var numbersInNames = regexp.MustCompile(`[0-9a-f]{16}|[0-9]+`)

func (c *complaints) tell(log *slog.Logger, message string, err error) {
	cause := numbersInNames.ReplaceAllString(err.Error(), "0")
	var errno syscall.Errno
	if errors.As(err, &errno) {
		cause = fmt.Sprint(int(errno))
	}
	key := message + "\x00" + cause
	c.mu.Lock()
	s := c.seen[key]
	if s != nil && time.Since(s.told) < complainEvery {
		s.suppressed++
		c.mu.Unlock()
		return
	}
	args := []any{"error", err}
	if s != nil && s.suppressed > 0 {
		args = append(args, "more_since_the_last", s.suppressed)
	}
	if s == nil && len(c.seen) >= mostComplains || c.seen == nil {
		c.seen = map[string]*complaint{}
	}
	c.seen[key] = &complaint{told: time.Now()}
	c.mu.Unlock()
	log.Error(message, args...)
}
