// Package reconfigure applies configuration changes to a running gateway: on SIGHUP, `holdfast reload`,
// `holdfast config apply`, or when the file changes and the configuration allows it.
//
// It promises that a configuration with mistakes changes nothing and that the mistakes are logged once; that a
// file is not loaded while it is being written, as far as that can be seen; and that the status shows the
// outcome of the last change. A configuration on trial is rolled back unless it works for long enough or is confirmed,
// also when the process ends meanwhile: each start uses a configuration that worked before, or that was
// confirmed. An Exchanger makes each part of the gateway prepare a configuration, and then apply it;
// it knows nothing else of them.
package reconfigure

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// Options are what Changes need of the gateway.
type Options struct {
	Source   *Source
	Exchange func(*config.Config) (changes []string, err error) // after an error nothing has changed
	Config   func() *config.Config                              // that the gateway uses
	Check    func(*config.Config) error                         // checks the files that it names
	Status   func() status.Status                               // how the gateway is doing
	Dir      string                                             // data_dir, where a trial is noted; empty if nothing is kept
	Look     func()                                             // called now and then, to check files that are not the configuration's
	Log      *slog.Logger
}

// Changes own the configuration that a gateway uses. Methods are safe for concurrent use.
type Changes struct {
	opts Options
	log  *slog.Logger

	work    sync.Mutex    // while anything is read or changed
	seen    *loaded       // the last one, good or not
	running *loaded       // of what the gateway uses
	trial   *trial        // nil for none
	tried   chan struct{} // one has begun

	mu        sync.Mutex
	last      *status.Change
	lastTrial *status.Trial // nil before the first one; in the end with its outcome
}

// New returns Changes of a gateway that uses what its source was loaded with.
func New(opts Options) *Changes {
	if opts.Source == nil {
		opts.Source = NewSource(nil, config.Options{})
	}
	started := opts.Source.started
	if started == nil {
		_, started, _ = opts.Source.load(nil)
	}
	return &Changes{
		opts: opts, log: opts.Log, seen: started, running: started, tried: make(chan struct{}, 1), lastTrial: opts.Source.ended,
	}
}

// Status returns where the configuration is from, and the outcome of the last change.
func (c *Changes) Status() status.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := status.Config{Files: append([]string{}, c.opts.Source.names...), Last: c.last, Trial: c.lastTrial}
	if s.Trial != nil && s.Trial.Unwritten && c.opts.Source.rolledBack() == nil { // it was written since
		t := *s.Trial
		t.Unwritten = false
		s.Trial = &t
	}
	return s
}

// ErrNotNow is what Exchange returns before and after the time in which something can be exchanged.
var ErrNotNow = errors.New("try again when it runs")

var errNoFiles = errors.New("the configuration of this gateway is in no file: there is nothing to read again")

// Reload loads the files and applies them. It returns what was exchanged, in words.
func (c *Changes) Reload(by status.ChangedBy) (changes []string, err error) {
	c.work.Lock()
	defer c.work.Unlock()
	if len(c.opts.Source.names) == 0 {
		return nil, errNoFiles
	}
	if c.trial != nil {
		c.log.Warn("the configuration is not read again", "by", by, "error", errOnTrial)
		return nil, errOnTrial
	}
	cfg, r, err := c.opts.Source.load(nil)
	return c.take(by, cfg, r, err)
}

// take applies what was loaded.
func (c *Changes) take(by status.ChangedBy, cfg *config.Config, r *loaded, err error) (changes []string, _ error) {
	if err == nil {
		changes, err = c.opts.Exchange(cfg)
	}
	if errors.Is(err, ErrNotNow) {
		c.log.Warn("the configuration is not read again", "by", by, "error", err)
		return nil, err
	}
	c.seen = r
	if err == nil {
		c.running = r
	}
	c.record(by, changes, err)
	return changes, err
}

// record notes the outcome of a change, and logs it.
func (c *Changes) record(by status.ChangedBy, changes []string, err error) {
	last := &status.Change{Time: time.Now(), By: by, Changes: append([]string{}, changes...)}
	switch {
	case err != nil:
		last.Error = err.Error()
		c.log.Error("nothing is changed: the configuration cannot be used", "by", by, "error", err)
	case len(changes) == 0:
		c.log.Info("the configuration was read again: nothing is different", "by", by)
	default:
		c.log.Info("the configuration was read again", "by", by, "changes", changes)
	}
	c.mu.Lock()
	c.last = last
	c.mu.Unlock()
}
