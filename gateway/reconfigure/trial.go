package reconfigure

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/broker/backoff"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// Application is a request to apply a configuration.
type Application struct {
	File string `json:"file"` // of the configuration, in whose place it is; empty for the last one
	Text []byte `json:"text"`
	Name string `json:"name"` // of the text, for messages
	// Within is the time in which it has to work or be confirmed; 0 confirms it at once.
	Within time.Duration `json:"within_ns"`
}

// Applied is its outcome.
type Applied struct {
	File    string   `json:"file"` // that is to be replaced, absolute
	Changes []string `json:"changes"`
}

// Undone is the outcome of a rollback.
type Undone struct {
	File    string   `json:"file"`
	Changes []string `json:"changes"`
	// Earlier is the SHA-256 of the text that the caller has to put in place, because the gateway may not write there;
	// empty if nothing is to do. The text itself is in FILE.old: a privileged caller does not take it from the gateway.
	Earlier string `json:"earlier_sha256,omitempty"`
}

const (
	checkEvery   = time.Second
	longestTrial = 24 * time.Hour
	// longestHold bounds how long everything has to work without a break.
	longestHold = time.Minute
)

// trial is a configuration that the gateway uses and that is not confirmed.
type trial struct {
	*marker
	name   string // of the file, as the source has it
	within time.Duration
	begun  time.Time // with the monotonic clock: the machine's may be wrong
	want   wanted
	before *config.Config // that the gateway used: going back depends on no file
	was    *loaded        // of it
	well   time.Time      // since when everything is; zero if it is not

	why   string          // it is given up; empty if not
	wait  backoff.Backoff // between attempts to go back
	again time.Time       // when the next one is
}

// Apply applies a configuration that is not in its place yet: the caller may write there and puts
// it there next. With Within it is on trial then. After an error nothing has changed.
func (c *Changes) Apply(a Application) (Applied, error) {
	c.work.Lock()
	defer c.work.Unlock()
	s := c.opts.Source
	name, err := s.find(a.File)
	switch {
	case err != nil:
		return Applied{}, err
	case c.trial != nil:
		return Applied{}, errOnTrial
	case s.rolledBack() != nil:
		return Applied{}, errors.New("the file of a configuration that was rolled back is still in its place: first `sudo holdfast config rollback`")
	case a.Within != 0 && (a.Within < time.Second || a.Within > longestTrial):
		return Applied{}, fmt.Errorf("got %v for the confirmation, want 1s to 24h", a.Within)
	case a.Within != 0 && c.opts.Dir == "":
		return Applied{}, errors.New("a gateway with --simulate keeps nothing, and cannot try a configuration: leave out the time for its confirmation")
	}
	_, now, err := s.load(nil)
	if err != nil || now.sum != c.running.sum {
		return Applied{}, errors.New("the gateway does not use what is in its files now: call `holdfast reload`, or mend them, first")
	}
	earlier, err := s.text(name, maxFile, nil)
	if err != nil {
		return Applied{}, err
	}
	switch {
	case bytes.Equal(a.Text, earlier):
		return Applied{}, fmt.Errorf("the gateway uses that already: %s says the same", absolute(name))
	case len(a.Text) > maxFile:
		return Applied{}, fmt.Errorf("%s is larger than %d KiB", a.Name, maxFile>>10)
	}
	cfg, r, err := s.load(map[string][]byte{name: a.Text})
	if err == nil {
		err = c.opts.Check(cfg)
	}
	if err != nil {
		return Applied{}, called(err, name, a.Name)
	}
	t := &trial{
		marker: &marker{
			Version: markerVersion, File: absolute(name), Digest: digest(a.Text), Earlier: earlier, Begun: time.Now(),
			Renamed: renamed(c.opts.Config(), cfg),
			path:    filepath.Join(c.opts.Dir, markerName),
		},
		name: name, within: a.Within, begun: time.Now(), want: want(c.opts.Status(), cfg), before: c.opts.Config(), was: c.running,
		wait: backoff.Backoff{Min: checkEvery, Max: time.Minute},
	}
	if a.Within > 0 {
		if err := t.write(); err != nil {
			return Applied{}, fmt.Errorf("the trial cannot be noted in data_dir: %w", err)
		}
	}
	changes, err := c.opts.Exchange(cfg)
	if err != nil {
		if a.Within > 0 {
			err = errors.Join(err, t.remove())
		}
		return Applied{}, err
	}
	c.uses(r)
	c.record(status.ByApply, changes, nil)
	if a.Within > 0 {
		c.trial = t
		c.showTrial(&status.Trial{File: t.File, Begun: t.Begun, Ends: t.Begun.Add(a.Within)})
		c.log.Warn("a configuration is on trial", "file", t.File, "within", a.Within)
		select {
		case c.tried <- struct{}{}:
		default:
		}
	}
	return Applied{File: absolute(name), Changes: append([]string{}, changes...)}, nil
}

var errOnTrial = errors.New("a configuration is on trial: first `holdfast config confirm` or `holdfast config rollback`")

// called gives mistakes in a file the name under which the caller has its text.
func called(err error, file, name string) error {
	var all config.Errors
	if name == "" || !errors.As(err, &all) {
		return err
	}
	all = slices.Clone(all)
	for i := range all {
		if all[i].File == file {
			all[i].File = name
		}
	}
	return all
}

// uses notes the configuration in use. The next poll compares it with the files.
func (c *Changes) uses(r *loaded) {
	unseen := *r
	unseen.stamps = nil
	c.running, c.seen = r, &unseen
}

// Confirm ends a trial: the configuration stays.
func (c *Changes) Confirm() error {
	c.work.Lock()
	defer c.work.Unlock()
	if c.trial == nil {
		return errNoTrial
	}
	return c.confirm("holdfast config confirm")
}

var errNoTrial = errors.New("no configuration is on trial")

func (c *Changes) confirm(reason string) error {
	t := c.trial
	if t.why != "" {
		return fmt.Errorf("it is being rolled back: %s", t.why)
	}
	text, err := config.ReadFile(t.name, maxFile)
	if err != nil || !t.holds(text) {
		return fmt.Errorf("%s does not hold the configuration that is on trial: put it there", t.File)
	}
	if err := t.remove(); err != nil {
		return fmt.Errorf("that it is confirmed cannot be noted: %w", err)
	}
	c.trial = nil
	c.showTrial(&status.Trial{File: t.File, Begun: t.Begun, Outcome: status.Confirmed, Reason: reason})
	c.log.Info("the configuration is confirmed", "file", t.File, "by", reason)
	return nil
}

// Rollback ends a trial: the gateway uses the earlier configuration.
func (c *Changes) Rollback() (Undone, error) {
	c.work.Lock()
	defer c.work.Unlock()
	if c.trial != nil {
		file, changes, err := c.trial.File, []string(nil), error(nil)
		if changes, err = c.rollback("holdfast config rollback"); err != nil {
			return Undone{}, err
		}
		undone := Undone{File: file, Changes: append([]string{}, changes...)}
		if m := c.opts.Source.rolledBack(); m != nil {
			undone.Earlier = digest(m.Earlier)
		}
		return undone, nil
	}
	if m := c.opts.Source.rolledBack(); m != nil {
		return Undone{File: m.File, Changes: []string{}, Earlier: digest(m.Earlier)}, nil
	}
	return Undone{}, fmt.Errorf("%w; what a file held before the last `holdfast config apply` is beside it, with .old behind its name: apply that", errNoTrial)
}

// rollback returns to the earlier configuration. After an error it is tried again; the next start uses the earlier
// one in any case.
func (c *Changes) rollback(why string) (changes []string, err error) {
	t := c.trial
	unwritten := c.opts.Source.rolledBack() != nil
	if t.why == "" {
		t.why = why
		unwritten = c.opts.Source.restore(t.marker, why, c.log)
	}
	cfg := *t.before
	cfg.Bridges = slices.Clone(cfg.Bridges)
	t.rename(&cfg)
	if changes, err = c.opts.Exchange(&cfg); err != nil {
		t.again = time.Now().Add(t.wait.Local())
		c.showTrial(&status.Trial{File: t.File, Begun: t.Begun, Ends: t.Begun.Add(t.within), Missing: []string{"going back: " + err.Error()}})
		c.log.Error("cannot return to the previous configuration: trying again; a restart does it as well", "error", err)
		return nil, err
	}
	c.trial = nil
	c.uses(t.was)
	c.record(status.ByRollback, changes, nil)
	c.showTrial(&status.Trial{File: t.File, Begun: t.Begun, Outcome: status.RolledBack, Reason: t.why, Unwritten: unwritten})
	return changes, nil
}

// checkTrial checks on a trial, and ends it if it is time. It reports whether there still is one.
func (c *Changes) checkTrial() bool {
	c.work.Lock()
	defer c.work.Unlock()
	if c.trial != nil {
		c.assess()
	}
	return c.trial != nil
}

func (c *Changes) assess() {
	t := c.trial
	now := time.Now()
	if t.why != "" {
		if !now.Before(t.again) {
			_, _ = c.rollback(t.why) // which logs
		}
		return
	}
	st := c.opts.Status()
	missing := t.want.missing(&st)
	if len(missing) > 0 {
		t.well = time.Time{}
	} else if t.well.IsZero() {
		t.well = now
	}
	hold := min(t.within/2, longestHold)
	if len(missing) == 0 && t.want.byHand != "" {
		missing = []string{t.want.byHand}
	} else if len(missing) == 0 && now.Sub(t.well) >= hold {
		err := c.confirm("what worked before has worked for " + hold.String())
		if err == nil {
			return
		}
		missing = []string{err.Error()}
	}
	if now.Sub(t.begun) >= t.within {
		why := fmt.Sprintf("not confirmed within %v", t.within)
		if len(missing) > 0 {
			why += ": " + strings.Join(missing, "; ")
		}
		_, _ = c.rollback(why)
		return
	}
	c.showTrial(&status.Trial{File: t.File, Begun: t.Begun, Ends: t.Begun.Add(t.within), Missing: missing})
}

// showTrial shows the trial's progress in the status.
func (c *Changes) showTrial(t *status.Trial) {
	c.mu.Lock()
	c.lastTrial = t
	c.mu.Unlock()
}
