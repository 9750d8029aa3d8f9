// Command bridge compares holdfast with Mosquitto as a gateway to the same kind of upstream, side by
// side in one run: what gets through, what it costs, and what is left of it after cuts and kills.
//
// The upstream is this program, which stands for a broker on another machine. A message counts as lost if its PUBACK came and it did not
// arrive, and as disordered if it arrived for the first time behind a later one of its publisher.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

type options struct {
	program string
	dir     string
	length  time.Duration
	backlog int
	deep    int // of ours alone
	only    string
	lossy   int // messages over a link that loses packets

	isolated bool // in a network namespace of its own
	listen   func() (net.Listener, error)
}

func main() {
	var o options
	flag.StringVar(&o.program, "program", "bin/holdfast", "`FILE` of holdfast")
	flag.StringVar(&o.dir, "dir", "bin", "`DIR` on the disk to be measured")
	flag.DurationVar(&o.length, "t", 5*time.Second, "how long each measurement takes")
	flag.IntVar(&o.backlog, "backlog", 1_000_000, "messages to pile up and drain")
	flag.IntVar(&o.deep, "deep", 0, "messages of a second, deeper backlog of holdfast alone, such as 10000000")
	flag.StringVar(&o.only, "only", "", "measurements, with commas between them: throughput, latency, backlog, flaps, kills, loss")
	flag.IntVar(&o.lossy, "lossy", 500, "messages over a link that loses 30 % of all packets")
	flag.BoolVar(&o.isolated, "isolated", false, "in a network namespace of its own: it calls itself with that")
	quick := flag.Bool("quick", false, "a rough look: -t 1s -backlog 20000")
	flag.Parse()
	if *quick {
		o.length, o.backlog, o.lossy = time.Second, 20_000, 100
	}
	o.listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-bridge:", err)
		os.Exit(1)
	}
}

func (o *options) wants(what string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), what)
}

func run(o *options) error {
	if err := exec.Command(o.program, "--version").Run(); err != nil {
		return fmt.Errorf("%s: %w: run `make build`", o.program, err)
	}
	r := &report{w: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	if !o.isolated {
		fmt.Printf("%d-byte messages, QoS 1, at most %d without PUBACK and %d under way; CPU is the gateway's\n\n", payloadSize, window, underWay)
	}
	steps := []struct {
		name string
		f    func(*options, *report) error
	}{{"throughput", compareThroughput}, {"latency", compareLatency}, {"backlog", compareBacklogs}, {"flaps", compareFlaps}, {"kills", compareKills}, {"loss", compareLoss}}
	var failed []error
	for _, s := range steps {
		if !o.wants(s.name) {
			continue
		}
		if err := s.f(o, r); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
		r.w.Flush()
		fmt.Println()
	}
	if len(r.verdicts) > 0 {
		fmt.Println("Targets:")
	}
	for _, v := range r.verdicts {
		fmt.Println(" ", v)
	}
	return errors.Join(append(failed, r.broken...)...)
}
