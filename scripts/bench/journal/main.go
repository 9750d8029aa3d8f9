// Command journal measures holdfast's journal side by side with other durable logs, in one run, on the
// machine's disk and on simulated cards.
//
// It promises that all of them do the same work under the same load: messages of 256 bytes, N in
// flight, each acknowledged only when it is durable, and that it cleans up behind itself, also when
// interrupted. It does not promise quiet figures on a busy machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) == 5 && os.Args[1] == helperArg {
		size, err := strconv.ParseInt(os.Args[4], 10, 64)
		if err == nil {
			err = serveStorage(os.Args[2], os.Args[3], size)
		}
		exit(err)
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		exit(nil)
	}
	if err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = profiled(o.profile, func() error {
		report, err := run(ctx, o)
		return errors.Join(err, publish(report, o))
	})
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

// publish shows what was measured, all of it or what there was before an error.
func publish(r *Report, o *options) error {
	r.check()
	r.write(os.Stdout)
	if o.json != "" {
		b, err := json.MarshalIndent(r, "", "\t")
		if err == nil {
			err = os.WriteFile(o.json, append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if o.svg == "" || len(r.Results) == 0 {
		return nil
	}
	f, err := os.Create(o.svg)
	if err != nil {
		return err
	}
	target := r.Results[len(r.Results)-1].Target
	for _, m := range r.Results {
		if m.Target == "card" {
			target = m.Target
		}
	}
	return errors.Join(plot(f, r.Results, target), f.Close())
}

func profiled(prefix string, f func() error) error {
	if prefix == "" {
		return f()
	}
	cpu, err := os.Create(prefix + ".cpu")
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return errors.Join(err, cpu.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	mem, err1 := os.Create(prefix + ".mem")
	if err1 == nil {
		err1 = errors.Join(pprof.Lookup("allocs").WriteTo(mem, 0), mem.Close())
	}
	return errors.Join(err, cpu.Close(), err1)
}
