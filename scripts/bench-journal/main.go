// Bench-journal measures holdfast's journal side by side with other durable logs, in one run, on the
// machine's disk and on simulated cards.
//
// It promises that all of them do the same work under the same load: messages of 256 bytes, N in
// flight, each acknowledged only when it is durable, and that it cleans up behind itself, also when
// interrupted. It does not promise quiet figures on a busy machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	dir      string
	only     string
	inFlight string
	targets  string
	phases   string
	length   time.Duration
	profile  string
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == helperArg {
		size, err := strconv.ParseInt(os.Args[4], 10, 64)
		if err == nil {
			err = serveStorage(os.Args[2], os.Args[3], size)
		}
		exit(err)
	}
	var o options
	flag.StringVar(&o.dir, "dir", ".", "`directory` to work in, on the disk to be measured")
	flag.StringVar(&o.only, "only", "", "queues to measure, as `a,b`; empty means all")
	flag.StringVar(&o.inFlight, "n", "1,10,100,320,1000", "messages in flight, as `a,b`")
	flag.StringVar(&o.targets, "targets", "disk", "where to measure, as `a,b`")
	flag.StringVar(&o.phases, "phases", "growing,steady", "as `a,b`")
	flag.DurationVar(&o.length, "t", 5*time.Second, "how long each measurement takes")
	flag.StringVar(&o.profile, "profile", "", "write `PREFIX`.cpu and PREFIX.mem, for go tool pprof")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, &o)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-journal:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o *options) (err error) {
	var ns []int
	for _, s := range strings.Split(o.inFlight, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-n %q: want positive numbers with commas between them", o.inFlight)
		}
		ns = append(ns, n)
	}
	if o.profile != "" {
		f, err := os.Create(o.profile + ".cpu")
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer func() {
			pprof.StopCPUProfile()
			f.Close()
			if f, err := os.Create(o.profile + ".mem"); err == nil {
				_ = pprof.Lookup("allocs").WriteTo(f, 0)
				f.Close()
			}
		}()
	}
	var results []Result
	for _, kind := range strings.Split(o.targets, ",") {
		r, err := runKind(ctx, kind, ns, o)
		if err != nil {
			return err
		}
		results = append(results, r...)
	}
	writeTable(os.Stdout, results)
	return nil
}

func runKind(ctx context.Context, kind string, ns []int, o *options) (results []Result, err error) {
	var t *target
	switch kind {
	case "disk":
		t, err = newDirTarget(o.dir)
	case "loop", "card":
		t, err = newMountedTarget(kind, o.dir, 4<<30)
	default:
		err = fmt.Errorf("-targets %q: want disk, loop and card", kind)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	return runTarget(ctx, t, ns, o)
}

func runTarget(ctx context.Context, t *target, ns []int, o *options) ([]Result, error) {
	messages := newMessages()
	var all []Result
	for _, e := range engines() {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), e.name) {
			continue
		}
		dir := filepath.Join(t.dir, e.name)
		q, err := e.open(dir)
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", e.name, t.name, err)
		}
		results, err := runQueue(ctx, t, q, ns, messages, o, e.name == "holdfast")
		if err = errors.Join(err, q.close(), os.RemoveAll(dir)); err != nil {
			return nil, fmt.Errorf("%s on %s: %w", e.name, t.name, err)
		}
		for i := range results {
			results[i].Queue = e.name
		}
		all = append(all, results...)
	}
	return all, nil
}

// runQueue measures a fresh queue that grows, then one that is consumed as it is filled.
func runQueue(ctx context.Context, t *target, q queue, ns []int, messages []message, o *options, withRaw bool) (results []Result, err error) {
	phase := func(name string) error {
		for _, n := range ns {
			var before, after float64
			if withRaw {
				if before, err = rawRate(ctx, t, batchBytes(n), o.length/4); err != nil {
					return err
				}
			}
			r, err := measure(ctx, t, q, n, messages, o.length)
			if err != nil {
				return err
			}
			if withRaw {
				if after, err = rawRate(ctx, t, batchBytes(n), o.length/4); err != nil {
					return err
				}
			}
			r.Phase, r.Raw = name, (before+after)/2
			results = append(results, r)
			fmt.Fprintf(os.Stderr, "%s %s %d: %.0f acks/s\n", t.name, name, n, r.Acks)
		}
		return nil
	}
	phases := strings.Split(o.phases, ",")
	if slices.Contains(phases, "growing") {
		if err := phase("growing"); err != nil {
			return nil, err
		}
	}
	if !slices.Contains(phases, "steady") {
		return results, nil
	}
	consuming, cancel := context.WithCancel(ctx)
	consumed := make(chan error, 1)
	go func() { consumed <- q.consume(consuming) }()
	defer func() { cancel(); err = errors.Join(err, <-consumed) }()
	// Enough to go round in space that was used before.
	if err := fill(ctx, q, messages, 64<<20/payloadSize); err != nil {
		return nil, err
	}
	for q.behind() && ctx.Err() == nil {
		pause(ctx, 10*time.Millisecond)
	}
	err = phase("steady")
	return results, err
}
