package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/broker/journal"
)

// Hourly is what one reading a second costs a card in an hour, in bytes, scaled up from the time that
// was measured. Idle is the same file system with nothing on it.
type Hourly struct {
	CommitEvery time.Duration
	Space       string // new or recycled
	Device      float64
	Idle        float64
	Journal     float64 // handed to the file system by the journal: the rest of Device is the file system's own
	Commits     float64
	Flushes     float64
}

// measureHourly runs all cases side by side, each on a file system of its own.
func measureHourly(ctx context.Context, o *options, messages []message) (all []Hourly, err error) {
	for _, every := range []time.Duration{time.Second, 10 * time.Second} {
		for _, space := range []string{"new", "recycled"} {
			all = append(all, Hourly{CommitEvery: every, Space: space})
		}
	}
	var idle float64
	errs := make([]error, len(all)+1)
	var ended sync.WaitGroup
	for i := range errs {
		ended.Go(func() {
			t, err := newMountedTarget("loop", o.dir, loopSize)
			if err != nil {
				errs[i] = err
				return
			}
			defer func() { errs[i] = errors.Join(errs[i], t.close()) }()
			if i < len(all) {
				errs[i] = all[i].run(ctx, t, o, messages)
			} else {
				idle, errs[i] = idleBytes(ctx, t, o.hourly)
			}
		})
	}
	ended.Wait()
	for i := range all {
		all[i].Idle = idle
	}
	return all, errors.Join(errs...)
}

func idleBytes(ctx context.Context, t *target, length time.Duration) (float64, error) {
	from, err := settled(ctx, t)
	if err != nil {
		return 0, err
	}
	pause(ctx, length)
	to, err := synced(t)
	return float64(to.bytes-from.bytes) * float64(time.Hour) / float64(length), errors.Join(err, ctx.Err())
}

func (h *Hourly) run(ctx context.Context, t *target, o *options, messages []message) (err error) {
	fs, err := journal.NewDirFS(filepath.Join(t.dir, "journal"))
	if err != nil {
		return err
	}
	j, err := journal.Open(journal.Options{FS: fs, CommitEvery: h.CommitEvery})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	r, err := j.OpenReader("bridge/bench")
	if err != nil {
		return err
	}
	q := &holdfast{j, r, []journal.Owed{{Reader: r, QoS: 1}}}
	consuming, cancel := context.WithCancel(ctx)
	consumed := make(chan error, 1)
	go func() { consumed <- q.consume(consuming) }()
	defer func() { cancel(); err = errors.Join(err, <-consumed) }()
	if h.Space == "recycled" {
		if err := fill(ctx, q, messages, o.prefill); err != nil {
			return err
		}
	}
	from, err := settled(ctx, t)
	if err != nil {
		return err
	}
	stats := j.Stats()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range int(o.hourly / time.Second) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		m := messages[i%len(messages)].Message
		m.Payload = m.Payload[:o.reading]
		if err := j.Append(journal.Entry{Message: &m, Owed: q.owed, Lazy: true}); err != nil {
			return err
		}
	}
	to, err := synced(t)
	if err != nil {
		return err
	}
	now, scale := j.Stats(), float64(time.Hour)/float64(o.hourly)
	h.Device = float64(to.bytes-from.bytes) * scale
	h.Flushes = float64(to.flushes-from.flushes) * scale
	h.Journal = float64(now.Written-stats.Written) * scale
	h.Commits = float64(now.Commits-stats.Commits) * scale
	return nil
}

// settled waits until the file system has written what it puts off, 5 s for its journal.
func settled(ctx context.Context, t *target) (deviceCounters, error) {
	pause(ctx, 6*time.Second)
	return synced(t)
}

func synced(t *target) (deviceCounters, error) {
	if err := t.sync(); err != nil {
		return deviceCounters{}, err
	}
	return t.counters()
}

var errNotRoot = errors.New("only root may mount")

// mountable reports whether a file system can be mounted on a loop device here.
func mountable() error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("no loop devices: %w", err)
	}
	return nil
}
