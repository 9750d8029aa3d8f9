package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options say what is measured. The zero value of a list means nothing.
type options struct {
	dir      string
	engines  []engine
	inFlight []int
	targets  []string
	phases   []string
	backlogs []int64 // bytes of payload
	length   time.Duration
	prefill  uint64 // messages that go through a queue before its space counts as used
	hourly   time.Duration
	reading  int // bytes of payload
	json     string
	svg      string
	profile  string
}

func parseOptions(args []string) (*options, error) {
	o := &options{}
	var all []string
	for _, e := range engines() {
		all = append(all, e.name)
	}
	f := flag.NewFlagSet("bench-journal", flag.ContinueOnError)
	quick := f.Bool("quick", false, "a rough look in less than three minutes: -n 1,100,320 -t 500ms -targets card,disk -backlog 100MB, where they are not set")
	only := f.String("only", "", "`queues` to measure, with commas between them; empty means all: "+strings.Join(all, ", "))
	inFlight := f.String("n", "1,10,100,320,1000", "messages in flight, `counts` with commas between them")
	targets := f.String("targets", "disk,loop,card", "where to measure: the `storage` that -dir is on, a journaled ext4 on a loop device, the same on a simulated SD card; the last two as root only")
	phases := f.String("phases", "growing,steady", "new space, or space that is used again; `phases` with a comma between them")
	backlog := f.String("backlog", "1GB", "`sizes` of backlog to open and drain on the disk, such as 1GB,10GB; empty means none")
	f.StringVar(&o.dir, "dir", ".", "`directory` to work in, on the disk to be measured")
	f.DurationVar(&o.length, "t", 5*time.Second, "how long each measurement takes")
	f.DurationVar(&o.hourly, "hourly", 0, "measure only what one reading a second costs flash in an hour, over `minutes` such as 5m")
	f.IntVar(&o.reading, "reading", payloadSize, "`bytes` of payload of the readings that -hourly takes")
	f.StringVar(&o.json, "json", "", "`file` to write all figures to")
	f.StringVar(&o.svg, "svg", "", "`file` to write the plot to, of the card or else the last target")
	f.StringVar(&o.profile, "profile", "", "write `PREFIX`.cpu and PREFIX.mem, for go tool pprof")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q: want options only; -h lists them", f.Arg(0))
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.prefill = 96 << 20 / payloadSize
	if *quick {
		o.prefill /= 2
		for name, value := range map[string]string{"n": "1,100,320", "t": "500ms", "targets": "card,disk", "backlog": "100MB"} {
			if !set[name] {
				_ = f.Set(name, value) // values that parse
			}
		}
	}
	for _, s := range split(*inFlight) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 8000 {
			return nil, fmt.Errorf("-n %q: want numbers from 1 to 8000 with commas between them", *inFlight)
		}
		o.inFlight = append(o.inFlight, n)
	}
	for _, s := range split(*backlog) {
		size, err := parseSize(s)
		if err != nil {
			return nil, fmt.Errorf("-backlog %q: %w", s, err)
		}
		o.backlogs = append(o.backlogs, size)
	}
	var err1, err2, err3 error
	o.targets, err1 = choose("targets", *targets, []string{"disk", "loop", "card"})
	o.phases, err2 = choose("phases", *phases, []string{"growing", "steady"})
	chosen, err3 := choose("only", *only, all)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, err
		}
	}
	for _, e := range engines() {
		if *only == "" || slices.Contains(chosen, e.name) {
			o.engines = append(o.engines, e)
		}
	}
	if o.length < 100*time.Millisecond {
		return nil, fmt.Errorf("-t %v: want at least 100ms", o.length)
	}
	if o.reading < 1 || o.reading > payloadSize {
		return nil, fmt.Errorf("-reading %d: want 1 to %d bytes", o.reading, payloadSize)
	}
	if o.hourly != 0 && o.hourly < time.Minute {
		return nil, fmt.Errorf("-hourly %v: want at least 1m", o.hourly)
	}
	if err := mountable(); err != nil {
		if set["targets"] && *targets != "disk" || o.hourly != 0 {
			return nil, fmt.Errorf("%w: run as root, or with -targets disk", err)
		}
		fmt.Fprintf(os.Stderr, "bench-journal: %v: measuring the disk only; as root there is more to see\n", err)
		o.targets = []string{"disk"}
	}
	return o, nil
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func choose(name, list string, from []string) ([]string, error) {
	for _, s := range split(list) {
		if !slices.Contains(from, s) {
			return nil, fmt.Errorf("-%s %q: want some of %s", name, s, strings.Join(from, ", "))
		}
	}
	return split(list), nil
}

func parseSize(s string) (int64, error) {
	for suffix, unit := range map[string]int64{"GB": 1e9, "MB": 1e6} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			if n, err := strconv.ParseInt(digits, 10, 32); err == nil && n > 0 {
				return n * unit, nil
			}
		}
	}
	return 0, fmt.Errorf("want a size such as 100MB or 10GB")
}
