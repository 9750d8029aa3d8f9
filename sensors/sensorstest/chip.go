package sensorstest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/simulated"
)

// grace is how long a driver may take to notice that its time is over.
const grace = 100 * time.Millisecond

// chipSuite tests the driver of a chip against the chip's model.
type chipSuite struct {
	driver sensors.Driver
	config sensors.Config
	c      Case
	model  *simulated.Model
	inputs map[string]*simulated.Input // by quantity
}

func newChipSuite(t *testing.T, d sensors.Driver, c Case) *chipSuite {
	t.Helper()
	if c.Model == "" {
		c.Model = d.Name
	}
	m := simulated.FindModel(c.Model)
	if m == nil {
		t.Fatalf("no model %s", c.Model)
	}
	s := &chipSuite{driver: d, c: c, model: m, inputs: map[string]*simulated.Input{}}
	s.config = configure(d, "simulated-"+string(c.Kind), c.Options)
	if c.Kind == sensors.BusGPIO {
		s.config.Bus = "simulated"
		for name, offset := range c.Lines {
			s.config.Options[name] = int64(offset)
		}
	}
	for _, q := range d.Measures(s.config.Options) {
		name := c.Inputs[q.Name]
		if name == "" {
			name = q.Name
		}
		for i := range m.Inputs {
			if m.Inputs[i].Name == name {
				s.inputs[q.Name] = &m.Inputs[i]
			}
		}
	}
	if len(s.inputs) == 0 {
		t.Fatalf("no quantity of %s is an input of the model: name them in the case", d.Name)
	}
	return s
}

func (s *chipSuite) run(t *testing.T) {
	s.bubble(t, "range", (*chipBench).sweep)
	s.bubble(t, "slow clock", func(b *chipBench) { b.chip.Fault(simulated.SlowClock); b.sweep() })
	s.bubble(t, "nack", func(b *chipBench) { b.silent(simulated.NACK) })
	s.bubble(t, "unplugged", func(b *chipBench) { b.silent(simulated.Unplugged) })
	s.bubble(t, "hang", (*chipBench).hang)
	s.bubble(t, "cancelled", (*chipBench).cancelled)
	s.bubble(t, "power cycle", (*chipBench).powerCycle)
	if s.model.Faults&simulated.WrongID != 0 {
		s.bubble(t, "wrong id", func(b *chipBench) { b.refuses(simulated.WrongID, sensors.Permanent) })
	}
	if s.model.Faults&simulated.BadCRC != 0 {
		s.bubble(t, "bad crc", func(b *chipBench) { b.refuses(simulated.BadCRC, sensors.Temporary) })
	}
	if s.model.Faults&simulated.StuckBusy != 0 {
		s.bubble(t, "stuck busy", (*chipBench).stuck)
	}
}

// chipBench is a bench with the chip under test.
type chipBench struct {
	*bench
	suite *chipSuite
	chip  *simulated.Chip
}

// bubble runs one test on a machine of its own, in time that passes when all goroutines wait. It fails if
// a goroutine is left at the end.
func (s *chipSuite) bubble(t *testing.T, name string, test func(*chipBench)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &chipBench{bench: newBench(t, s.driver, s.config), suite: s}
			var err error
			if s.c.Kind == sensors.BusGPIO {
				b.chip, err = b.pi.Wire(s.c.Model, s.c.Lines)
			} else {
				b.chip, err = b.pi.Place(s.c.Model, s.config.Bus, s.config.Address)
			}
			if err != nil {
				t.Fatal(err)
			}
			b.level(0.4)
			test(b)
			b.end()
		})
	})
}

// span is what the model and the driver's row both allow of an input.
func (s *chipSuite) span(quantity string) (low, high float64) {
	in := s.inputs[quantity]
	low, high = in.Min, in.Max
	if _, converted := s.c.Convert[quantity]; converted {
		return low, high
	}
	for _, q := range s.driver.Measures(s.config.Options) {
		if q.Name == quantity && (q.Min != 0 || q.Max != 0) {
			low, high = math.Max(low, q.Min), math.Min(high, q.Max)
		}
	}
	return low, high
}

// level sets every input to a part of its range.
func (b *chipBench) level(part float64) {
	for quantity, in := range b.suite.inputs {
		low, high := b.suite.span(quantity)
		b.chip.Set(in.Name, low+part*(high-low))
	}
}

// right compares values with what is physically there.
func (b *chipBench) right(got map[string]float64, where string) {
	b.t.Helper()
	for quantity, in := range b.suite.inputs {
		want, tolerance := b.chip.Input(in.Name), in.Step
		if c, ok := b.suite.c.Convert[quantity]; ok {
			want = c.Value(want)
			if c.Tolerance != 0 {
				tolerance = c.Tolerance
			}
		}
		v, measured := got[quantity]
		if !measured || math.Abs(v-want) > tolerance {
			b.t.Errorf("%s: %s is %v (measured: %v), want %v within %v", where, quantity, v, measured, want, tolerance)
		}
	}
}

// good takes a reading that has to succeed. While the chip warms up it is tried again.
func (b *chipBench) good(where string) {
	b.t.Helper()
	var got map[string]float64
	var err error
	for range b.suite.c.Settle + 1 {
		if got, err = b.attempt(); err == nil || sensors.ClassOf(err) != sensors.Temporary || b.suite.c.Settle == 0 {
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", where, err)
	}
	b.right(got, where)
}

// sweep reads values across the range, each after another one, so that a stale one is seen, and as
// often through one device.
func (b *chipBench) sweep() {
	for _, part := range []float64{0.5, 0, 1, 0.25, 0.001, 0.999, 0.75, 0.1, 0.9} {
		b.level(part)
		b.good(percent(part))
	}
	// Zero is a value like any other, and so is what is just below.
	for quantity, in := range b.suite.inputs {
		low, high := b.suite.span(quantity)
		for _, v := range []float64{0, -10 * in.Step, -1} {
			if v > low && v < high {
				b.chip.Set(in.Name, v)
				b.good("near zero")
			}
		}
	}
}

func percent(part float64) string { return fmt.Sprintf("at %g %% of the range", 100*part) }

// silent lets the chip not answer before it is opened, then between readings, and come back.
func (b *chipBench) silent(f simulated.Faults) {
	absent := func(where string) {
		b.t.Helper()
		got, err := b.attempt()
		if err == nil || sensors.ClassOf(err) != sensors.Absent {
			b.t.Errorf("%s: got %v, %v, want an error of class absent", where, got, err)
		}
	}
	b.chip.Fault(f)
	absent("before it is opened")
	b.chip.Fault(0)
	b.good("connected")
	b.chip.Fault(f)
	absent("between readings")
	b.chip.Fault(0)
	b.level(0.7)
	// A driver that has not noticed may refuse once, but must not return anything else.
	if got, err := b.attempt(); err == nil {
		b.right(got, "back")
	}
	b.good("back")
}

// refuses sets a fault that every reading must report, and that is over at once.
func (b *chipBench) refuses(f simulated.Faults, class sensors.Class) {
	b.good("before")
	b.close() // an id is read when the chip is opened
	b.chip.Fault(f)
	for range 3 {
		if got, err := b.attempt(); err == nil || sensors.ClassOf(err) != class {
			b.t.Errorf("%v: got %v, %v, want an error of class %s", f, got, err, class)
		}
	}
	b.chip.Fault(0)
	b.good("after")
}

// stuck makes a measurement that never ends: the reading ends with its time.
func (b *chipBench) stuck() {
	b.good("before")
	b.chip.Fault(simulated.StuckBusy)
	b.level(0.8)
	begun, waited := time.Now(), b.waited
	got, err := b.attempt()
	if err == nil || sensors.ClassOf(err) != sensors.Temporary {
		b.t.Errorf("got %v, %v, want an error of class temporary", got, err)
	}
	if took := time.Since(begun) - (b.waited - waited); took > b.driver.Timeout+grace {
		b.t.Errorf("took %v, want at most %v", took, b.driver.Timeout+grace)
	}
	b.chip.Fault(0)
	b.good("after")
}

// hang makes a transfer that does not end in time: a late result is no reading.
func (b *chipBench) hang() {
	b.good("before")
	b.chip.Fault(simulated.Hang)
	time.AfterFunc(b.driver.Timeout+time.Minute, func() { b.chip.Fault(0) })
	if got, err := b.attempt(); err == nil {
		b.t.Errorf("got %v, a minute late", got)
	}
	b.chip.Fault(0)
	b.level(0.6)
	b.good("after")
}

// cancelled ends readings before they begin and in the middle.
func (b *chipBench) cancelled() {
	took := b.duration()
	for _, after := range []time.Duration{0, took / 10, took / 3, took / 2, took * 9 / 10} {
		for _, opened := range []bool{false, true} {
			if b.close(); opened {
				b.good("before")
			}
			ctx, cancel := context.WithCancel(context.Background())
			if after == 0 {
				cancel()
			}
			stop := time.AfterFunc(after, cancel)
			begun := time.Now()
			got, err := b.read(ctx)
			late := time.Since(begun) - after
			stop.Stop()
			cancel()
			switch {
			case after == 0 && !errors.Is(err, context.Canceled):
				b.t.Errorf("cancelled before it began: got %v, %v", got, err)
			case late > grace:
				b.t.Errorf("cancelled after %v, ended %v later, want at most %v", after, late, grace)
			case err == nil:
				b.right(got, "cancelled, and good nevertheless")
			}
		}
	}
	b.good("after")
}

// duration is how long a reading takes, with opening the device.
func (b *chipBench) duration() time.Duration {
	b.good("first")
	b.close()
	begun := time.Now()
	b.good("to be measured")
	return time.Since(begun)
}

// powerCycle takes the power away for a moment, at many places of a reading. What comes of it is an
// error, or right.
func (b *chipBench) powerCycle() {
	took := b.duration()
	const steps = 24
	for i := range steps {
		for _, opened := range []bool{false, true} {
			if b.close(); opened {
				b.level(0.3)
				b.good("before")
			}
			b.level(0.9)
			cut := time.AfterFunc(took*time.Duration(i)/steps, func() { b.chip.Fault(simulated.PowerCycle) })
			got, err := b.attempt()
			if err == nil {
				b.right(got, "power cycle during a reading")
			}
			if cut.Stop() {
				continue
			}
			b.level(0.2)
			if got, err := b.attempt(); err == nil {
				b.right(got, "after a power cycle")
			}
			b.good("after a power cycle")
		}
	}
}
