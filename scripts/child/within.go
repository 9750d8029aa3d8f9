package child

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Within returns a context that ends when the process has had d, or has ended. What a process has had is the time that
// has passed, less the time that its threads wanted to compute while others had the processor. A process that
// sleeps, or that is stopped, has the time that passes; so a deadline comes on every machine.
//
// Waiting is what the kernel counts in /proc/PID/task/TID/schedstat. A kernel that does not count it reports 0, and
// the deadline is then one of the clock.
func (p *Process) Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return within(ctx, d, p.Ended, p.delays)
}

// sampling is how often Within looks at a process; a thread that lives shorter is not seen.
const sampling = time.Second

func within(ctx context.Context, d time.Duration, ended <-chan struct{}, delays func() map[int]time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		began := time.Now()
		m := newMeter(began, delays())
		tick := time.NewTicker(sampling)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if had := m.had(time.Now(), delays()); had >= d {
					cancel(&Late{Had: had, Passed: time.Since(began)})
					return
				}
			case <-ended:
				cancel(ErrEnded)
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// Late is the cause when a process has had the time of [Process.Within].
type Late struct {
	Had    time.Duration // of the process
	Passed time.Duration // of the clock
}

func (l *Late) Error() string {
	return fmt.Sprintf("not done after %v (%v by the clock)", l.Had.Round(time.Second), l.Passed.Round(time.Second))
}

// Is makes it a deadline of its kind.
func (l *Late) Is(target error) bool { return target == context.DeadlineExceeded }

// meter adds up the time that a process has had: what has passed, less the wait of the thread that waited longest.
// Waits of several threads are not added, for they may have waited at the same time.
type meter struct {
	began   time.Time
	last    map[int]time.Duration // what the kernel counted for each thread when it was read
	waited  map[int]time.Duration // of each thread since began
	longest time.Duration         // of waited, also of threads that have ended
}

func newMeter(now time.Time, delays map[int]time.Duration) *meter {
	return &meter{began: now, last: delays}
}

// had takes what the kernel has counted by now. The kernel adds a wait when it is over, so the result can be less than
// the one before.
func (m *meter) had(now time.Time, delays map[int]time.Duration) time.Duration {
	waited := map[int]time.Duration{}
	for thread, delay := range delays {
		if delay < m.last[thread] { // another thread has got the number
			m.waited[thread], m.last[thread] = 0, 0
		}
		waited[thread] = m.waited[thread] + delay - m.last[thread]
		m.longest = max(m.longest, waited[thread])
	}
	m.last, m.waited = delays, waited
	passed := now.Sub(m.began)
	return passed - min(passed, m.longest)
}

// delays reads the second number of schedstat, in ns, of each thread (Documentation/scheduler/sched-stats.rst).
func (p *Process) delays() map[int]time.Duration {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.PID))
	delays := map[int]time.Duration{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		thread, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if f := strings.Fields(string(b)); err == nil && len(f) >= 2 {
			if ns, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				delays[thread] = time.Duration(ns)
			}
		}
	}
	return delays
}
