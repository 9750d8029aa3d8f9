package reconfigure

import (
	"context"
	"time"

	"holdfast/gateway/status"
)

// Files are polled, not watched with inotify: polling also sees files that are replaced, linked elsewhere or
// mounted over, on every file system; and it costs no wake-up, because the gateway wakes up for
// certificates and passwords anyway.
const (
	lookEvery = 10 * time.Second
	// lookAgain is the same while one of them changes.
	lookAgain = 500 * time.Millisecond
	// settled is how long they have to stay as they are after a change.
	settled = 2 * time.Second
	// settledMiddle is the same where one ends in the middle of a line: it may be on its way over a bad link.
	settledMiddle = time.Minute
)

// fresh is the content of changed files, and the time since when it is stable.
type fresh struct {
	*loaded
	since time.Time
}

// Run applies files that have changed, until ctx ends. It always returns nil.
func (c *Changes) Run(ctx context.Context) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	others := time.Now()
	var f fresh
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.tried:
		}
		if time.Since(others) >= lookEvery {
			c.opts.Look()
			others = time.Now()
		}
		next := lookEvery
		if f = c.poll(f); f.loaded != nil {
			next = lookAgain
		}
		if c.checkTrial() {
			next = checkEvery
		}
		timer.Reset(next)
	}
}

// poll compares the files with what was loaded last, and returns fresh content until it has been
// used. A file that is being written may be cut off at a place where it still has a meaning.
func (c *Changes) poll(f fresh) fresh {
	c.work.Lock()
	defer c.work.Unlock()
	if c.trial != nil || c.seen.now() || len(c.opts.Source.names) == 0 || !c.opts.Config().Watch {
		return fresh{}
	}
	if !f.now() {
		_, r, _ := c.opts.Source.load(nil)
		return fresh{r, time.Now()}
	}
	still := time.Since(f.since)
	if still < settled || still < settledMiddle && !f.whole {
		return f
	}
	cfg, r, err := c.opts.Source.load(nil)
	switch r.sum {
	case c.seen.sum: // only touched
		c.seen = r
	case f.sum:
		_, _ = c.take(status.ByWatch, cfg, r, err) // which logs an error itself
	default: // changed within one tick of the file system's clock
		return fresh{r, time.Now()}
	}
	return fresh{}
}
