package outputs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
)

func TestAnActiveLowRelayNeverBlinks(t *testing.T) {
	c := relay("pump", 1)
	onBench(t, func(b *bench) {
		b.set("pump", 1)
		b.set("pump", 0)
		b.stop()
		b.start(nil, c) // the line was let go of, and is taken again
		if got, want := b.driven(1), []bool{true, false, true, true}; !slices.Equal(got, want) {
			t.Errorf("driven %v, want %v: off, on, off; and off again at the second start", got, want)
		}
		for _, e := range b.pi.GPIO(1).History()[:2] {
			if !e.High {
				t.Errorf("low at the start: %+v", e)
			}
		}
	}, c)
}

func TestSafeAtStartAndStop(t *testing.T) {
	fan := relay("fan", 2)
	fan.Safe = 1
	onBench(t, func(b *bench) {
		if b.on(1) || !b.on(2) {
			t.Errorf("at the start: pump %v, fan %v", b.on(1), b.on(2))
		}
		b.set("pump", 1)
		b.set("fan", 0)
		b.stop()
		if b.on(1) || !b.on(2) {
			t.Errorf("at the end: pump %v, fan %v", b.on(1), b.on(2))
		}
		if s := b.state("pump"); s.By != outputs.ByStop || s.Value != 0 || !s.Known {
			t.Errorf("state %+v", s)
		}
		b.refused("pump", outputs.Command{Value: 1}, "stopping")
	}, relay("pump", 1), fan)
}

func TestLease(t *testing.T) {
	c := relay("heater", 1)
	c.Lease = time.Minute
	onBench(t, func(b *bench) {
		b.set("heater", 1)
		published := len(b.states["heater"])
		for range 5 { // renewed in time
			time.Sleep(50 * time.Second)
			b.set("heater", 1)
		}
		if n := len(b.states["heater"]); n != published || !b.on(1) {
			t.Errorf("renewals: on %v, %d states published", b.on(1), n-published)
		}
		time.Sleep(59 * time.Second)
		if !b.on(1) {
			t.Error("off before the lease ended")
		}
		time.Sleep(2 * time.Second)
		if s := b.state("heater"); b.on(1) || s.By != outputs.ByLease || s.Value != 0 {
			t.Errorf("after the lease: on %v, %+v", b.on(1), s)
		}
		if r := b.send("heater", outputs.Command{Value: 1, Lease: 5 * time.Second}).last(); time.Until(r.Until) != 5*time.Second {
			t.Errorf("got %+v", r)
		}
		time.Sleep(6 * time.Second)
		if b.on(1) {
			t.Error("on after a shorter lease")
		}
		b.refused("heater", outputs.Command{Value: 1, Lease: 2 * time.Minute}, "at most 1m0s")
	}, c)
}

func TestMinOnAndMinOff(t *testing.T) {
	c := relay("compressor", 1)
	c.MinOn, c.MinOff = time.Minute, 3*time.Minute
	onBench(t, func(b *bench) {
		a := b.send("compressor", outputs.Command{Value: 1, ID: "a"}) // a start counts as the moment it went off
		if r := a.last(); r.Outcome != outputs.Waiting || time.Until(r.Until) != 3*time.Minute {
			t.Errorf("got %+v", r)
		}
		if s := b.state("compressor"); !s.Waiting || s.WaitingFor != 1 || s.Value != 0 {
			t.Errorf("state %+v", s)
		}
		time.Sleep(3*time.Minute + time.Second)
		if r := a.last(); r.Outcome != outputs.Done || !b.on(1) || b.state("compressor").ID != "a" {
			t.Errorf("got %+v, on %v, %+v", r, b.on(1), b.state("compressor"))
		}
		off := b.send("compressor", outputs.Command{Value: 0})
		on := b.send("compressor", outputs.Command{Value: 1})
		if off.last().Outcome != outputs.Refused || on.last().Outcome != outputs.Done || b.state("compressor").Waiting {
			t.Errorf("a later command takes the place of one that waits: %+v, %+v", off.last(), on.last())
		}
		b.send("compressor", outputs.Command{Value: 0})
		time.Sleep(50 * time.Second)
		if !b.on(1) {
			t.Error("off before min_on")
		}
		time.Sleep(10 * time.Second)
		if b.on(1) {
			t.Error("on after min_on")
		}
		wait := b.send("compressor", outputs.Command{Value: 1})
		b.stop()
		if r := wait.last(); r.Outcome != outputs.Refused || b.on(1) {
			t.Errorf("at the end: %+v", r)
		}
	}, c)
}

func TestMaxOn(t *testing.T) {
	c := relay("valve", 1)
	c.MaxOn, c.MinOn = 10*time.Minute, time.Hour
	onBench(t, func(b *bench) {
		b.set("valve", 1)
		time.Sleep(9 * time.Minute)
		b.set("valve", 1) // does not make it longer
		time.Sleep(61 * time.Second)
		if s := b.state("valve"); b.on(1) || s.By != outputs.ByMaxOn {
			t.Errorf("on %v, %+v", b.on(1), s)
		}
	}, c)
}

func TestInterlock(t *testing.T) {
	up, down := relay("up", 1), relay("down", 2)
	up.Interlock = []string{"down"}
	onBench(t, func(b *bench) {
		b.set("up", 1)
		b.refused("down", outputs.Command{Value: 1}, "interlock: up is on")
		b.set("up", 0)
		b.set("down", 1)
		b.refused("up", outputs.Command{Value: 1}, "interlock: down is on")
		// One whose hardware is gone is not known to be off.
		b.set("down", 0)
		b.pi.GPIO(1).Break(errors.New("broken"))
		b.refused("up", outputs.Command{Value: 1}, "broken")
		b.refused("down", outputs.Command{Value: 1}, "interlock: up is on, or not known to be off")
		b.pi.GPIO(1).Break(nil)
		time.Sleep(2 * time.Minute)
		b.set("down", 1)
	}, up, down)
}

func TestLinkLoss(t *testing.T) {
	c := relay("heater", 1)
	c.Link, c.LinkTimeout = "cloud", 30*time.Second
	onBench(t, func(b *bench) {
		b.set("heater", 1)
		b.set("lamp", 1)
		b.c.LinkLost("heater")
		synctest.Wait()
		if s := b.state("heater"); b.on(1) || !b.on(2) || s.By != outputs.ByLink || !strings.Contains(s.Why, "cloud was lost for 30s") {
			t.Errorf("heater %v, lamp %v, %+v", b.on(1), b.on(2), s)
		}
		b.set("heater", 1) // from a user on the site
	}, c, relay("lamp", 2))
}

func TestWhatIsRefused(t *testing.T) {
	onBench(t, func(b *bench) {
		for _, v := range []float64{0.5, -1, 2} {
			b.refused("pump", outputs.Command{Value: v}, "on or off")
		}
		b.refused("nobody", outputs.Command{Value: 1}, "no output of this name")
		if len(b.driven(1)) != 1 {
			t.Errorf("driven %v", b.driven(1))
		}
	}, relay("pump", 1))
}

func TestAFaultBringsTheSafeValueBack(t *testing.T) {
	onBench(t, func(b *bench) {
		b.set("pump", 1)
		b.pi.GPIO(1).Break(errors.New("broken"))
		b.refused("pump", outputs.Command{Value: 0}, "broken")
		if s := b.state("pump"); s.Known || s.By != outputs.ByFault || s.Why != "broken" {
			t.Errorf("state %+v", s)
		}
		b.refused("pump", outputs.Command{Value: 0}, "the hardware is failing: simulated, line 1: broken")
		b.pi.GPIO(1).Break(nil)
		time.Sleep(time.Minute)
		if s := b.state("pump"); !s.Known || s.Value != 0 || s.By != outputs.ByFault || b.on(1) {
			t.Errorf("state %+v", s)
		}
		b.set("pump", 1)
		states := []sensors.State{}
		for _, s := range b.statuses["pump"] {
			states = append(states, s.State)
		}
		if want := []sensors.State{sensors.StateOK, sensors.StateFailing, sensors.StateOK}; !slices.Equal(slices.Compact(states), want) {
			t.Errorf("statuses %v, want %v", states, want)
		}
	}, relay("pump", 1))
}

// odd is hardware that a test spoils.
type odd struct {
	mu    sync.Mutex
	value float64
	hang  chan struct{}
	opens int
	close int
}

func (o *odd) Set(_ context.Context, v float64) error {
	o.mu.Lock()
	hang := o.hang
	o.mu.Unlock()
	if hang != nil {
		<-hang
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.value = v
	return nil
}

func (o *odd) Get(context.Context) (float64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.value == 13 {
		panic("thirteen")
	}
	return o.value, nil
}

func (o *odd) Close() error { o.mu.Lock(); defer o.mu.Unlock(); o.close++; return nil }

func (o *odd) driver() outputs.Driver {
	return outputs.Driver{
		Spec: sensors.Spec{
			Name: "odd", Timeout: time.Second,
		},
		Open: func(_ context.Context, _ outputs.Config, _ *bus.Set, v float64) (outputs.Device, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.opens++
			o.value = v
			return o, nil
		},
	}
}

func TestAHungBusDelaysNoOtherAndIsLeftAlone(t *testing.T) {
	o := &odd{}
	withDrivers(t, append(outputs.Drivers(), o.driver()), func(b *bench) {
		hang := make(chan struct{})
		o.mu.Lock()
		o.hang = hang
		o.mu.Unlock()
		begun := time.Now()
		a := b.send("odd", outputs.Command{Value: 1})
		b.set("pump", 1)
		if took := time.Since(begun); took != 0 {
			t.Errorf("the other one took %v", took)
		}
		time.Sleep(5 * time.Second)
		if r := a.last(); r.Outcome != outputs.Refused || !strings.Contains(r.Reason, "the bus hangs") {
			t.Errorf("got %+v", r)
		}
		b.refused("odd", outputs.Command{Value: 0}, "the bus hangs")
		if o.opens != 1 || o.close != 0 {
			t.Errorf("touched while it hangs: %d opens, %d closes", o.opens, o.close)
		}
		o.mu.Lock()
		o.hang = nil
		o.mu.Unlock()
		close(hang)
		time.Sleep(time.Second)
		if s := b.state("odd"); o.opens != 2 || o.close != 1 || o.value != 0 || !s.Known {
			t.Errorf("after it: %d opens, %d closes, value %v, %+v", o.opens, o.close, o.value, s)
		}
		b.set("odd", 1)
	}, outputs.Config{Name: "odd", Driver: "odd"}, relay("pump", 1))
}

// A chip that lost its power in silence is found, and brought to its safe value.
func TestAnOutputThatIsMovedByOthersIsFound(t *testing.T) {
	for _, moved := range []float64{0, 13} {
		o := &odd{}
		withDrivers(t, []outputs.Driver{o.driver()}, func(b *bench) {
			b.set("odd", 1)
			o.mu.Lock()
			o.value = moved
			o.mu.Unlock()
			time.Sleep(11 * time.Second)
			if s := b.state("odd"); s.By != outputs.ByFault || !s.Known || o.opens != 2 {
				t.Errorf("%v: %+v", moved, s)
			}
			if why := b.state("odd").Why; !strings.Contains(why, "lost its power") && !strings.Contains(why, "thirteen") {
				t.Errorf("%v: why %q", moved, why)
			}
		}, outputs.Config{Name: "odd", Driver: "odd"})
	}
}

func TestManyCommandsAreAllAnswered(t *testing.T) {
	onBench(t, func(b *bench) {
		var mu sync.Mutex
		answered := map[outputs.Outcome]int{}
		var work sync.WaitGroup
		for i := range 200 {
			work.Go(func() {
				b.c.Command("pump", outputs.Command{Value: float64(i % 2), ID: fmt.Sprint(i)}, func(r outputs.Result) {
					mu.Lock()
					defer mu.Unlock()
					answered[r.Outcome]++
				})
			})
		}
		work.Wait()
		b.stop()
		synctest.Wait()
		if n := answered[outputs.Done] + answered[outputs.Refused]; n != 200 || answered[outputs.Done] == 0 {
			t.Errorf("answers %v", answered)
		}
		if b.on(1) {
			t.Error("on after the end")
		}
	}, relay("pump", 1))
}

// TestOutputsComeAndGo: one that changes is safe first, and the others do not move at all.
func TestOutputsComeAndGo(t *testing.T) {
	up, down, fan := relay("up", 1), relay("down", 2), relay("fan", 3)
	up.Interlock = []string{"down"}
	onBench(t, func(b *bench) {
		b.set("up", 1)
		b.set("fan", 1)
		b.set("lamp", 1)
		fan.Safe = 1
		b.c.Change([]string{"up", "fan", "nobody"}, []outputs.Config{down, fan})
		synctest.Wait()
		if b.on(1) || b.on(2) || !b.on(3) || !b.on(4) {
			t.Errorf("up %v, down %v, fan %v, lamp %v", b.on(1), b.on(2), b.on(3), b.on(4))
		}
		if got, want := b.driven(3), []bool{true, false, true, false}; !slices.Equal(got, want) {
			t.Errorf("the fan was driven %v, want %v: off, on, its former safe value, its new one", got, want)
		}
		if got, want := b.driven(4), []bool{true, false}; !slices.Equal(got, want) {
			t.Errorf("the lamp was driven %v, want %v", got, want)
		}
		if s := b.state("up"); s.By != outputs.ByStop || !strings.Contains(s.Why, "configuration") {
			t.Errorf("state %+v", s)
		}
		b.refused("up", outputs.Command{Value: 1}, "no output of this name")
		b.set("down", 1) // the interlock went with up
		b.c.Change(nil, []outputs.Config{up})
		b.refused("up", outputs.Command{Value: 1}, "interlock: down is on")
		b.stop()
		b.c.Change([]string{"lamp"}, []outputs.Config{relay("late", 5)})
		if len(b.driven(5)) != 0 {
			t.Error("an output was opened after the end")
		}
	}, up, fan, relay("lamp", 4))
}
