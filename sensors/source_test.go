package sensors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// station is a host with a broker.
type station struct {
	sensors.NoHost
	mu    sync.Mutex
	heard map[string]func([]byte)
	times int // subscriptions that were made
}

func (s *station) Subscribe(topic string, f func([]byte)) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard == nil {
		s.heard = map[string]func([]byte){}
	}
	s.heard[topic] = f
	s.times++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.heard, topic)
	}, nil
}

func (s *station) say(topic, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.heard[topic]; f != nil {
		f([]byte(text))
	}
}

// TestMessagesAreReadAsTheyCome: a topic is listened to for as long as its sensor is configured, whatever is said and
// not said there, and a reading has the time of its message, however long the interval is.
func TestMessagesAreReadAsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &station{}
		c := config("x", "mqtt", "", 20*time.Second)
		c.Options["topic"], c.Options["max_age"], c.Options["values"] = "x", 3*time.Second, map[string]string{"v": "v"}
		w := superviseFor(t, host, bus.NewSet(nil), chips.Drivers(), c)
		time.Sleep(time.Second)
		begun := time.Now()
		var want []string
		for i := range 50 {
			host.say("x", []string{`{"w":1}`, "{", `{"v":null}`, strings.Repeat("x", 1<<17), `{"v":"?"}`}[i%5])
			time.Sleep(700 * time.Millisecond)
			host.say("x", fmt.Sprintf(`{"v":%d}`, i))
			want = append(want, fmt.Sprintf("%d@%v", i, time.Since(begun)))
			time.Sleep(time.Duration(i) * time.Second) // at last longer than max_age
		}
		w.stop()
		if got := w.told("x", "v", begun); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if host.times != 1 || len(host.heard) != 0 {
			t.Errorf("subscribed %d times, %d are left", host.times, len(host.heard))
		}
		if s := w.states("x"); !slices.Contains(s, sensors.StateAbsent) || !slices.Contains(s, sensors.StateFailing) {
			t.Errorf("states %v", s)
		}
	})
}

// TestAFormulaOverPartialMessages has a value where the message has all that it needs, and fails nothing elsewhere.
func TestAFormulaOverPartialMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &station{}
		c := config("x", "mqtt", "", time.Second)
		c.Options["topic"], c.Options["values"] = "x", map[string]string{"t": "t", "h": "h"}
		f, err := sensors.NewFormula("x + max(h, t - t)", []sensors.Quantity{{Name: "t"}, {Name: "h"}})
		if err != nil {
			t.Fatal(err)
		}
		c.Quantities = map[string]sensors.Processing{"t": {Calibrate: sensors.Calibration{Formula: f}}}
		w := superviseFor(t, host, bus.NewSet(nil), chips.Drivers(), c)
		time.Sleep(time.Second)
		begun := time.Now()
		for _, text := range []string{`{"t":1,"h":2}`, `{"t":3}`, `{"h":4}`, `{"t":5,"h":null}`, `{"t":6,"h":7}`} {
			host.say("x", text)
			time.Sleep(time.Second)
		}
		w.stop()
		if got := w.told("x", "t", begun); !slices.Equal(got, []string{"3@0s", "13@4s"}) {
			t.Errorf("t: got %v", got)
		}
		if got := w.told("x", "h", begun); !slices.Equal(got, []string{"2@0s", "4@2s", "7@4s"}) {
			t.Errorf("h: got %v", got)
		}
		if got := w.states("x"); !slices.Equal(got, []sensors.State{sensors.StateOK}) {
			t.Errorf("states %v", got)
		}
	})
}

// TestWhatCameBeforeTheEndIsRead: messages that were acknowledged to their sender while the gateway ends are readings.
func TestWhatCameBeforeTheEndIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &station{}
		c := config("x", "mqtt", "", time.Second)
		c.Options["topic"] = "x"
		for range 100 {
			w := superviseFor(t, host, bus.NewSet(nil), chips.Drivers(), c)
			time.Sleep(time.Second)
			for i := range 20 {
				host.say("x", fmt.Sprint(i))
			}
			w.stop()
			if n := len(w.told("x", "value", time.Now())); n != 20 {
				t.Fatalf("%d of 20 messages were read", n)
			}
		}
	})
}

// TestUnreadableMessagesAreSaidOnceInAnInterval: a thousand of them are a thousand failures and few statuses.
func TestUnreadableMessagesAreSaidOnceInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &station{}
		c := config("x", "mqtt", "", 10*time.Second)
		c.Options["topic"] = "x"
		w := superviseFor(t, host, bus.NewSet(nil), chips.Drivers(), c)
		time.Sleep(time.Second)
		for i := range 1000 {
			host.say("x", fmt.Sprintf("no number %d", i))
			time.Sleep(50 * time.Millisecond)
			host.say("x", fmt.Sprint(i))
			time.Sleep(50 * time.Millisecond)
		}
		host.say("x", "the last one")
		time.Sleep(11 * time.Second)
		counts := w.s.Counts()["x"]
		w.stop()
		if n := len(w.states("x")); n < 10 || n > 30 {
			t.Errorf("%d statuses in 110 s, want about two in 10 s", n)
		}
		if counts.Taken != 1000 || counts.Failures < 1001 {
			t.Errorf("counts %+v, want 1000 readings and 1001 failures", counts)
		}
		if s := w.last("x"); s.State != sensors.StateFailing || !strings.Contains(s.Reason, "the last one") {
			t.Errorf("at the end: %+v", s)
		}
	})
}

func button(name string, every time.Duration, options map[string]any) sensors.Config {
	c := config(name, "gpio-input", "simulated", every)
	c.Options["line"], c.Options["active_low"], c.Options["bias"] = int64(17), true, bus.BiasPullUp
	for k, v := range options {
		c.Options[k] = v
	}
	return c
}

// press is a press by hand on a contact to ground that bounces for 3 ms each time.
func press(l *simulated.Line, d time.Duration) {
	for _, high := range []bool{false, true} {
		for range 3 {
			l.Set(high)
			time.Sleep(500 * time.Microsecond)
			l.Set(!high)
			time.Sleep(500 * time.Microsecond)
		}
		l.Set(high)
		if !high {
			time.Sleep(d)
		}
	}
}

// TestAnEdgeIsAReadingAtOnce: presses of a bouncing contact between two slots are read each once, in order, each at
// its own time; at the slots the level is read.
func TestAnEdgeIsAReadingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		line := pi.GPIO(17)
		line.Set(true)
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), button("b", time.Minute, nil))
		time.Sleep(time.Second)
		begun := time.Now()
		for range 20 {
			press(line, 40*time.Millisecond)
			time.Sleep(57 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		w.stop()
		var states, presses, releases []string
		for i := range time.Duration(20) {
			// A press bounces for 3 ms, and counts 5 ms later.
			at := i*103*time.Millisecond + 8*time.Millisecond
			states = append(states, fmt.Sprintf("1@%v", at), fmt.Sprintf("0@%v", at+43*time.Millisecond))
			presses = append(presses, fmt.Sprintf("%d@%v", i+1, at))
			releases = append(releases, fmt.Sprintf("%d@%v", i+1, at+43*time.Millisecond))
		}
		got := w.told("b", "state", begun)
		if len(got) != 42 || !strings.HasPrefix(got[0], "0@-") || !slices.Equal(got[1:41], states) || !strings.HasPrefix(got[41], "0@59") {
			t.Errorf("state: got %v, want the slot's, then %v, then the slot's", got, states)
		}
		if got := w.told("b", "pressed", begun); !slices.Equal(got, presses) {
			t.Errorf("pressed: got %v, want %v", got, presses)
		}
		if got := w.told("b", "released", begun); !slices.Equal(got, releases) {
			t.Errorf("released: got %v, want %v", got, releases)
		}
		for _, r := range w.readings["b"] {
			if slot := r.Time.Before(begun) || r.Time.Sub(begun) > 59*time.Second; r.Urgent == slot {
				t.Errorf("urgent %v: %+v", r.Urgent, r)
			}
		}
	})
}

// TestGestures: a long press counts while it is held, a double press with its second one, and a chord with its last line.
func TestGestures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		line, other := pi.GPIO(17), pi.GPIO(27)
		line.Set(true)
		other.Set(true)
		second := button("c", time.Hour, map[string]any{"debounce": time.Duration(0)})
		second.Options["line"] = int64(27) // which a chord shares
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), second, button("b", time.Hour, map[string]any{
			"debounce": time.Duration(0), "long": 2 * time.Second, "double": 400 * time.Millisecond, "chord": []int64{27},
		}))
		time.Sleep(time.Second)
		begun := time.Now()
		tap := func(l *simulated.Line, d, pause time.Duration) {
			l.Set(false)
			time.Sleep(d)
			l.Set(true)
			time.Sleep(pause)
		}
		tap(line, 5*time.Second, 5*time.Second)                               // long
		tap(line, 1999*time.Millisecond, 8001*time.Millisecond)               // not long
		tap(line, 100*time.Millisecond, 200*time.Millisecond)                 // at 20 s: a double
		tap(line, 100*time.Millisecond, 200*time.Millisecond)                 // with this
		tap(line, 100*time.Millisecond, time.Second)                          // and no second one with this
		tap(line, 100*time.Millisecond, 300*time.Millisecond)                 // at 21.7 s: exactly in time
		tap(line, 100*time.Millisecond, 30*time.Second-2200*time.Millisecond) // ends at 50 s
		line.Set(false)
		time.Sleep(time.Second)
		tap(other, 100*time.Millisecond, 100*time.Millisecond) // at 51 s: a chord
		tap(other, 100*time.Millisecond, 100*time.Millisecond) // and another one
		line.Set(true)
		time.Sleep(100 * time.Millisecond)
		other.Set(false)
		time.Sleep(500 * time.Millisecond)
		tap(line, time.Millisecond, time.Second) // the other way round
		w.stop()
		for quantity, want := range map[string][]string{
			"long":   {"1@2s"},
			"double": {"1@20.3s", "2@22.1s"},
			"chord":  {"1@51s", "2@51.2s", "3@52s"},
		} {
			if got := w.told("b", quantity, begun); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", quantity, got, want)
			}
		}
		if got := w.told("c", "pressed", begun); len(got) != 3 {
			t.Errorf("the other line: got %v", got)
		}
	})
}

// TestAChatteringLine: 100,000 edges a second become a few readings, the last of which is right, and each press is
// counted. Another button goes on.
func TestAChatteringLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		quiet := button("quiet", time.Minute, nil)
		quiet.Options["line"] = int64(27)
		pi.GPIO(27).Set(true)
		pi.GPIO(17).Set(true)
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), quiet, button("b", time.Minute, map[string]any{"debounce": time.Duration(0), "edges": true}))
		time.Sleep(time.Second)
		const n = 25_000 // presses, in 0.5 s
		for i := range n {
			if i == n/2 {
				press(pi.GPIO(27), time.Millisecond)
			}
			pi.GPIO(17).Set(false)
			time.Sleep(10 * time.Microsecond)
			pi.GPIO(17).Set(true)
			time.Sleep(10 * time.Microsecond)
		}
		pi.GPIO(17).Set(false)
		time.Sleep(time.Second)
		counts := w.s.Counts()["b"]
		w.stop()
		states, presses := w.told("b", "state", time.Now()), w.told("b", "pressed", time.Now())
		if n := len(states); n < 100 || n > 150 || !strings.HasPrefix(states[n-1], "1@") {
			t.Errorf("%d readings, the last %s", n, states[n-1])
		}
		if last := presses[len(presses)-1]; !strings.HasPrefix(last, fmt.Sprintf("%g@", float64(n+1))) {
			t.Errorf("pressed: %s, want %d", last, n+1)
		}
		activations := 0.0
		for _, r := range w.readings["b"] {
			if r.Quantity == "activations" {
				activations += r.Value
			}
		}
		if activations != n+1 || counts.LeftOut < 2*n-150 || counts.LeftOut > 2*n {
			t.Errorf("%g activations, want %d; %d left out, want nearly %d", activations, n+1, counts.LeftOut, 2*n)
		}
		if got := w.told("quiet", "pressed", time.Now()); len(got) != 0 { // it bounced for longer than it was pressed
			t.Logf("quiet: %v", got)
		}
	})
}

// TestALineThatFailsIsOpenedAnew, and its edges are events again.
func TestALineThatFailsIsOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		line := pi.GPIO(17)
		line.Set(true)
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), button("b", time.Second, nil))
		time.Sleep(2500 * time.Millisecond)
		line.Break(syscall.ENODEV)
		time.Sleep(time.Minute)
		if s := w.last("b"); s.State != sensors.StateAbsent {
			t.Errorf("while it is broken: %+v", s)
		}
		line.Break(nil)
		time.Sleep(time.Minute)
		begun := time.Now()
		press(line, 20*time.Millisecond)
		time.Sleep(time.Second)
		w.stop()
		if got := w.told("b", "pressed", begun); !slices.Equal(got, []string{"1@8ms"}) {
			t.Errorf("pressed: got %v", got)
		}
	})
}

// TestTheKernelLosesEdges: while nothing fetches them, the buffer overflows. The level is right afterwards, every
// press is counted, and what was lost is too.
func TestTheKernelLosesEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		line := pi.GPIO(17)
		line.Set(true)
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), button("b", 10*time.Second, map[string]any{"debounce": time.Duration(0)}))
		time.Sleep(time.Second)
		line.Stall()
		for range 3000 {
			line.Set(false)
			time.Sleep(100 * time.Microsecond)
			line.Set(true)
			time.Sleep(100 * time.Microsecond)
		}
		line.Set(false)
		line.Resume()
		time.Sleep(20 * time.Second)
		counts := w.s.Counts()["b"]
		w.stop()
		states, presses := w.told("b", "state", time.Now()), w.told("b", "pressed", time.Now())
		if !strings.HasPrefix(states[len(states)-1], "1@") || !strings.HasPrefix(presses[len(presses)-1], "3001@") {
			t.Errorf("got %v, %v", states[len(states)-1], presses[len(presses)-1])
		}
		if counts.LeftOut < 6001-1024-1 || counts.LeftOut > 6001 {
			t.Errorf("%d left out", counts.LeftOut)
		}
	})
}

// TestACounterTellsOfRarePulses at once, and of many at its interval: then no pulse is missing in the count.
func TestACounterTellsOfRarePulses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		c := config("rain", "counter", "simulated", time.Minute)
		c.Options["line"], c.Options["scale"], c.Options["unit"] = int64(4), 0.2, "mm"
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), c)
		time.Sleep(time.Second)
		begun := time.Now()
		for range 3 {
			time.Sleep(5 * time.Second)
			pi.GPIO(4).Set(true)
			pi.GPIO(4).Set(false)
		}
		time.Sleep(time.Second)
		if got := w.told("rain", "count", begun); len(got) != 4 || !slices.Equal(got[1:], []string{"1@5s", "2@10s", "3@15s"}) {
			t.Errorf("got %v", got)
		}
		pi.GPIO(4).Pulse(60_000, 10*time.Millisecond) // 10 min
		time.Sleep(2 * time.Minute)
		w.stop()
		got := w.told("rain", "count", begun)
		if n := len(got); n < 13 || n > 4+5+2*12 || !strings.HasPrefix(got[n-1], "60003@") {
			t.Errorf("%d readings in 12 min, the last %v", n, got[n-1])
		}
		if totals := w.told("rain", "total", begun); !strings.HasPrefix(totals[len(totals)-1], "12000.6") {
			t.Errorf("total %v", totals[len(totals)-1])
		}
	})
}

// TestExpanderPinsWithAnInterruptLine: a change is a reading at once, for each pin of the chip that shares the line,
// and also after the chip has lost its settings.
func TestExpanderPinsWithAnInterruptLine(t *testing.T) {
	for _, name := range []string{"mcp23017", "tca9555", "pcf8574"} {
		synctest.Test(t, func(t *testing.T) {
			pi := simulated.New(simulated.Options{})
			chip := place(t, pi, name, "simulated", 0x20)
			interrupt := pi.GPIO(22)
			chip.Interrupt(interrupt)
			var configs []sensors.Config
			for i, pin := range []int64{0, 7} {
				c := config(fmt.Sprint("p", i), name, "simulated", time.Minute)
				c.Options["pin"], c.Options["active_low"], c.Options["interrupt"] = pin, true, int64(22)
				configs = append(configs, c)
			}
			for _, in := range chip.Model.Inputs {
				chip.Set(in.Name, 1)
			}
			w := supervise(t, bus.NewSet(pi), chips.Drivers(), configs...)
			time.Sleep(time.Second)
			begun := time.Now()
			for range 3 {
				chip.Set("pin0", 0)
				time.Sleep(500 * time.Millisecond)
				chip.Set("pin7", 0)
				time.Sleep(500 * time.Millisecond)
				chip.Set("pin0", 1)
				chip.Set("pin7", 1)
				time.Sleep(9 * time.Second)
			}
			for i, want := range [][]string{{"1@0s", "0@1s", "1@10s", "0@11s", "1@20s", "0@21s"}, {"1@500ms", "0@1s", "1@10.5s", "0@11s", "1@20.5s", "0@21s"}} {
				if got := w.told(fmt.Sprint("p", i), "state", begun); len(got) < 1 || !slices.Equal(got[1:], want) {
					t.Errorf("%s: pin %d: got %v, want %v", name, i, got, want)
				}
			}
			chip.Fault(simulated.PowerCycle)
			time.Sleep(2 * time.Minute) // found at the slot
			begun = time.Now()
			chip.Set("pin7", 0)
			time.Sleep(time.Second)
			w.stop()
			if got := w.told("p1", "pressed", begun); len(got) == 0 || !strings.HasSuffix(got[len(got)-1], "@0s") {
				t.Errorf("%s: after its restart: got %v", name, got)
			}
		})
	}
}

// TestASerialLineStaysOpen through frames with a wrong checksum: the sensor is warm already, and reads again with the
// next good one. Once it is gone it is opened anew, and warms up.
func TestASerialLineStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip := place(t, pi, "pms5003", "simulated-uart-1", 0)
		set := bus.NewSet(pi)
		woken := 0
		set.Trace = func(tr bus.Transfer) {
			if strings.HasPrefix(string(tr.W), "\x42\x4D\xE4\x00\x01") {
				woken++
			}
		}
		w := supervise(t, set, chips.Drivers(), config("dust", "pms5003", "simulated-uart-1", 10*time.Second))
		time.Sleep(time.Minute)
		for range 5 {
			chip.Fault(simulated.BadCRC)
			time.Sleep(time.Minute)
			if s := w.last("dust"); s.State != sensors.StateFailing {
				t.Errorf("with wrong checksums: %+v", s)
			}
			chip.Fault(0)
			before := len(w.times("dust"))
			time.Sleep(11 * time.Second)
			if s, n := w.last("dust"), len(w.times("dust")); s.State != sensors.StateOK || n == before {
				t.Errorf("after it: %+v", s)
			}
		}
		if woken != 1 {
			t.Errorf("woken %d times, want once", woken)
		}
		chip.Fault(simulated.Unplugged)
		time.Sleep(time.Minute)
		chip.Fault(0)
		time.Sleep(3 * time.Minute)
		w.stop()
		if s := w.last("dust"); s.State != sensors.StateOK || woken < 2 {
			t.Errorf("after it was unplugged: %+v, woken %d times", s, woken)
		}
	})
}

// TestASourceThatFailsIsOpenedAnew: what it had before is published, and what fails it is said.
func TestASourceThatFailsIsOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		d, device := script("d", time.Second, func(context.Context, int) ([]sensors.Measurement, error) {
			m := volt(1)
			m[0].Time = at
			return append(m, volt(2)...), errors.New("gone")
		})
		open := d.Open
		d.Open = func(ctx context.Context, c sensors.Config, b *bus.Set) (sensors.Sensor, error) {
			s, err := open(ctx, c, b)
			c.Wake() // before anything is there
			return source{s}, err
		}
		w := supervise(t, bus.NewSet(nil), []sensors.Driver{d}, config("s", "d", "", time.Second))
		time.Sleep(500 * time.Millisecond)
		w.stop()
		if got := w.told("s", "v", at); !slices.Equal(got, []string{"1@0s"}) {
			t.Errorf("got %v, want the one with a time of its own", got)
		}
		if s := w.last("s"); s.State != sensors.StateFailing || device.closed != 1 {
			t.Errorf("got %+v, closed %d times", s, device.closed)
		}
	})
}

type source struct{ sensors.Sensor }

func (source) Take(context.Context) ([]sensors.Measurement, error) { return nil, nil }
func (source) LeftOut() uint64                                     { return 0 }
