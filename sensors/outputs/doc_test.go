// The tests of this package run a Controller on a bench: a simulated Pi in a synctest bubble, whose relays
// are active low and off while no program drives their lines.
//
//	onBench(t, func(b *bench) { ... }, relay("pump", 2))   a controller with a relay at line 2; withDrivers has a
//	                                                       table of drivers of its own
//	b.set("pump", 1)                                       a command that is carried out at once
//	b.send("pump", cmd).last()                             a command, and the newest answer to it
//	b.refused("pump", cmd, "interlock")                    a command that is refused, and why
//	b.state("pump")                                        the newest state that was published
//	b.on(2), b.driven(2)                                   what the line does to its relay now, and every level it had
package outputs_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// relay is an output on a simulated line, active low as most relay boards are.
func relay(name string, line int64) outputs.Config {
	return outputs.Config{
		Name: name, Driver: "gpio-output", Bus: "simulated",
		Options: map[string]any{"line": line, "active_low": true, "drive": bus.DrivePushPull},
	}
}

// bench runs a controller in a bubble, where time passes when all goroutines wait.
type bench struct {
	t  *testing.T
	pi *simulated.Pi
	c  *outputs.Controller

	mu       sync.Mutex
	states   map[string][]outputs.State
	statuses map[string][]sensors.Status
	log      *slog.Logger // nil discards
	stop     func()
}

func onBench(t *testing.T, f func(b *bench), configs ...outputs.Config) {
	t.Helper()
	withDrivers(t, nil, f, configs...)
}

func withDrivers(t *testing.T, drivers []outputs.Driver, f func(b *bench), configs ...outputs.Config) {
	t.Helper()
	withLog(t, nil, drivers, f, configs...)
}

func withLog(t *testing.T, log *slog.Logger, drivers []outputs.Driver, f func(b *bench), configs ...outputs.Config) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, log: log, pi: simulated.New(simulated.Options{}), states: map[string][]outputs.State{}, statuses: map[string][]sensors.Status{}}
		for line := range 8 {
			b.pi.GPIO(line).Set(true) // the relays' pull-up resistors: off
		}
		b.start(drivers, configs...)
		f(b)
		b.stop()
	})
}

func (b *bench) start(drivers []outputs.Driver, configs ...outputs.Config) {
	b.c = outputs.New(configs, outputs.Options{
		Buses: bus.NewSet(b.pi), Drivers: drivers, Log: b.log,
		State: func(s outputs.State) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.states[s.Output] = append(b.states[s.Output], s)
		},
		Status: func(s sensors.Status) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.statuses[s.Sensor] = append(b.statuses[s.Sensor], s)
		},
	})
	b.c.Secure()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { b.c.Run(ctx); close(ended) }()
	b.stop = func() { cancel(); <-ended }
	synctest.Wait()
}

// answers are the answers to one command so far.
type answers struct {
	mu  sync.Mutex
	all []outputs.Result
}

func (a *answers) last() outputs.Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return outputs.Result{}
	}
	return a.all[len(a.all)-1]
}

func (b *bench) send(name string, cmd outputs.Command) *answers {
	a := &answers{}
	b.c.Command(name, cmd, func(r outputs.Result) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.all = append(a.all, r)
	})
	synctest.Wait()
	return a
}

// set sends a command that has to be carried out at once.
func (b *bench) set(name string, value float64) {
	b.t.Helper()
	if r := b.send(name, outputs.Command{Value: value}).last(); r.Outcome != outputs.Done {
		b.t.Fatalf("%s to %v: %+v", name, value, r)
	}
}

// refused sends a command that has to be refused, for a reason.
func (b *bench) refused(name string, cmd outputs.Command, reason string) {
	b.t.Helper()
	if r := b.send(name, cmd).last(); r.Outcome != outputs.Refused || !strings.Contains(r.Reason, reason) {
		b.t.Errorf("%s %+v: got %+v, want it refused for %q", name, cmd, r, reason)
	}
}

func (b *bench) state(name string) outputs.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.states[name]
	if len(all) == 0 {
		return outputs.State{}
	}
	return all[len(all)-1]
}

// on reports whether the relay at a line, which is active low, is on.
func (b *bench) on(line int) bool { return !b.pi.GPIO(line).High() }

// driven is every level that the machine has driven a line to.
func (b *bench) driven(line int) (high []bool) {
	for _, e := range b.pi.GPIO(line).History() {
		if e.Driven {
			high = append(high, e.High)
		}
	}
	return high
}
