package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// loopSize is the bytes of the file systems that are mounted. Their images are sparse.
const loopSize = 4 << 30

// run measures what o asks for. The report holds what there was before an error.
func run(ctx context.Context, o *options) (*Report, error) {
	r := &Report{}
	messages := newMessages()
	if o.hourly > 0 {
		var err error
		r.Hourly, err = measureHourly(ctx, o, messages)
		if err != nil {
			r.Hourly = nil
		}
		return r, err
	}
	for _, kind := range o.targets {
		err := onTarget(kind, o.dir, func(t *target) error {
			for _, e := range o.engines {
				if err := runQueue(ctx, t, e, messages, o, r); err != nil {
					return fmt.Errorf("%s on the %s: %w", e.name, t.name, err)
				}
			}
			return nil
		})
		if err != nil {
			return r, err
		}
	}
	if len(o.backlogs) == 0 {
		return r, nil
	}
	return r, onTarget("disk", o.dir, func(t *target) error {
		for _, size := range o.backlogs {
			for _, e := range o.engines {
				b, err := measureBacklog(ctx, t, e, size, messages)
				if err != nil {
					return fmt.Errorf("%s with %d MB of backlog: %w", e.name, size/1e6, err)
				}
				progress("%s, %d MB of backlog: drains %.0f MB/s", e.name, size/1e6, b.Drain)
				r.Backlog = append(r.Backlog, b)
			}
		}
		return nil
	})
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// onTarget sets up a target, calls f, and takes it down.
func onTarget(kind, dir string, f func(*target) error) (err error) {
	var t *target
	if kind == "disk" {
		t, err = newDirTarget(dir)
	} else {
		t, err = newMountedTarget(kind, dir, loopSize)
	}
	if err != nil {
		return err
	}
	return errors.Join(f(t), t.close())
}

// runQueue measures a new queue that grows, then the same while it is consumed as it is filled.
func runQueue(ctx context.Context, t *target, e engine, messages []message, o *options, r *Report) (err error) {
	dir := filepath.Join(t.dir, e.name)
	q, err := e.open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close(), os.RemoveAll(dir)) }()
	if slices.Contains(o.phases, "growing") {
		if err := runPhase(ctx, t, e, q, "growing", messages, o, r); err != nil {
			return err
		}
	}
	if !slices.Contains(o.phases, "steady") {
		return nil
	}
	consuming, cancel := context.WithCancel(ctx)
	consumed := make(chan error, 1)
	go func() { consumed <- q.consume(consuming) }()
	defer func() { cancel(); err = errors.Join(err, <-consumed) }()
	if err := fill(ctx, q, messages, o.prefill); err != nil {
		return err
	}
	for q.behind() && ctx.Err() == nil {
		pause(ctx, 10*time.Millisecond)
	}
	return runPhase(ctx, t, e, q, "steady", messages, o, r)
}

// runPhase measures each number of messages in flight. Beside ours, the bare disk is measured before
// and after, so that both meet the same other load.
func runPhase(ctx context.Context, t *target, e engine, q queue, phase string, messages []message, o *options, r *Report) error {
	for _, n := range o.inFlight {
		bare := func() (float64, error) {
			if e.name != ours {
				return 0, nil
			}
			return rawRate(ctx, t, batchBytes(n), o.length/2)
		}
		before, err := bare()
		if err != nil {
			return err
		}
		m, err := measure(ctx, t, q, n, messages, o.length)
		if err != nil {
			return err
		}
		after, err := bare()
		if err != nil {
			return err
		}
		m.Queue, m.Phase, m.Raw = e.name, phase, (before+after)/2
		progress("%s on the %s, %s, %d in flight: %.0f acks/s", e.name, t.name, phase, n, m.Acks)
		r.Results = append(r.Results, m)
	}
	return nil
}
