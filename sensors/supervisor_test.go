package sensors_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// TestOneHungBusAndOneFailingSensorDelayNoOther uses the real drivers over simulated chips.
func TestOneHungBusAndOneFailingSensorDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		configs := []sensors.Config{
			config("hung", "bme280", "simulated-1", time.Second),
			config("beside", "ads1115", "simulated-1", time.Second),
			config("failing", "ads1115", "simulated-2", time.Second),
			config("neighbour", "bme280", "simulated-2", time.Second),
			config("other", "bme280", "simulated-3", time.Second),
			config("board", "cpu", "simulated", 2*time.Second),
			config("soil", "ds18b20", "simulated", 3*time.Second),
		}
		if err := pi.Populate(chips.Drivers(), configs...); err != nil {
			t.Fatal(err)
		}
		pi.Chip("simulated-2", 0x48).Fault(simulated.NACK)
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), configs...)
		time.Sleep(60 * time.Second)
		hung := pi.Chip("simulated-1", 0x76)
		hung.Fault(simulated.Hang)
		time.Sleep(300 * time.Second)
		w.onGrid("neighbour", 360, time.Second)
		w.onGrid("other", 360, time.Second)
		w.onGrid("board", 180, 2*time.Second)
		w.onGrid("soil", 120, 3*time.Second)
		if n := len(w.times("hung")); n != 60 {
			t.Errorf("hung: %d readings, want those before", n)
		}
		for name, want := range map[string]string{"hung": "no answer within 1s: the bus hangs", "beside": "the bus hangs in a reading of hung"} {
			if s := w.last(name); s.State != sensors.StateFailing || s.Class != sensors.Temporary || s.Reason != want {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if s := w.last("failing"); s.State != sensors.StateAbsent || len(w.states("failing")) != 1 || len(w.times("failing")) != 0 {
			t.Errorf("failing: %+v, %d statuses, %d readings", s, len(w.states("failing")), len(w.times("failing")))
		}
		hung.Fault(0)
		time.Sleep(3 * time.Second)
		for _, name := range []string{"hung", "beside"} {
			if s := w.last(name); s.State != sensors.StateOK || s.Reason != "" {
				t.Errorf("%s after the release: %+v", name, s)
			}
		}
		hung.Fault(simulated.Hang)
		time.Sleep(10 * time.Second)
		w.stop() // does not wait for the bus
		hung.Fault(0)
		time.Sleep(time.Second)
	})
}

// TestAStuckChipDoesNotDelayItsBus: a chip that does not become ready costs the others no more than the
// worker's patience, however long its own deadline is.
func TestAStuckChipDoesNotDelayItsBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		stuck := config("stuck", "bme280", "simulated", time.Second)
		stuck.Timeout = 30 * time.Second
		second := config("second", "ads1115", "simulated", time.Second)
		second.Options["channel"] = "1"
		configs := []sensors.Config{stuck, config("first", "ads1115", "simulated", time.Second), second}
		if err := pi.Populate(chips.Drivers(), configs...); err != nil {
			t.Fatal(err)
		}
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), configs...)
		time.Sleep(10500 * time.Millisecond)
		pi.Chip("simulated", 0x76).Fault(simulated.StuckBusy)
		time.Sleep(time.Minute)
		w.stop()
		for _, name := range []string{"first", "second"} {
			at := w.times(name)
			if len(at) < 70 || len(w.states(name)) != 1 {
				t.Errorf("%s: %d readings, states %v", name, len(at), w.states(name))
			}
			for i := 1; i < len(at); i++ {
				if d := at[i].Sub(at[i-1]); d > 1200*time.Millisecond {
					t.Errorf("%s: reading %d came %v after the one before", name, i, d)
				}
			}
		}
		if s := w.last("stuck"); s.State != sensors.StateFailing || s.Class != sensors.Temporary {
			t.Errorf("stuck: %+v", s)
		}
	})
}

func TestUnpluggedSensorComesBackWithRightValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip := place(t, pi, "bme280", "simulated", 0x76)
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), config("air", "bme280", "simulated", 10*time.Second))
		time.Sleep(time.Minute)
		chip.Fault(simulated.Unplugged)
		time.Sleep(time.Hour)
		n := len(w.times("air"))
		chip.Fault(0)
		time.Sleep(5 * time.Minute)
		w.stop()
		if n != 6 || len(w.times("air")) < n+20 {
			t.Errorf("%d readings before, %d at the end", n, len(w.times("air")))
		}
		want := []sensors.State{sensors.StateOK, sensors.StateAbsent, sensors.StateOK}
		if !slices.Equal(w.states("air"), want) {
			t.Errorf("states %v, want %v", w.states("air"), want)
		}
		var humidity []float64
		for _, r := range w.readings["air"] {
			if r.Quantity == "humidity" {
				humidity = append(humidity, r.Value)
			}
		}
		for _, h := range humidity {
			if math.Abs(h-humidity[0]) > 10 {
				t.Errorf("humidity %v: the chip was not set up again", h)
			}
		}
	})
}

func TestFailuresAreRetriedWithBackoffAndANewDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := script("d", time.Second, func(_ context.Context, n int) ([]sensors.Measurement, error) {
			switch {
			case n == 2:
				panic("driver is broken")
			case n == 3:
				return volt(math.NaN()), nil
			case n == 4:
				return []sensors.Measurement{{Quantity: "w", Value: 1, Unit: "W"}}, nil
			case n > 4 && n < 20:
				return volt(1), fmt.Errorf("%w: unplugged", bus.ErrAbsent)
			}
			return volt(1), nil
		})
		w := supervise(t, nil, []sensors.Driver{d}, config("s", "d", "", 10*time.Second))
		time.Sleep(time.Hour)
		w.stop()
		if s.opened != 19 || s.closed != 19 {
			t.Errorf("opened %d and closed %d times, want a new device after each of 18 failures", s.opened, s.closed)
		}
		for n := 2; n < 19; n++ { // calls are counted from 1
			wait := s.at[n].Sub(s.at[n-1])
			most := min(time.Minute, time.Second<<(n-2))
			if wait < most/2 || wait > most {
				t.Errorf("failure %d was followed after %v, want %v to %v", n-1, wait, most/2, most)
			}
		}
		want := []sensors.State{sensors.StateOK, sensors.StateFailing, sensors.StateFailing, sensors.StateFailing, sensors.StateAbsent, sensors.StateOK}
		if !slices.Equal(w.states("s"), want) {
			t.Errorf("states %v, want %v", w.states("s"), want)
		}
		all := w.statuses["s"]
		if all[1].Since != all[3].Since || all[3].Since == all[4].Since || all[4].LastGood != all[0].LastGood {
			t.Errorf("since and last good: %+v", all)
		}
		for i, r := range w.readings["s"] {
			if r.Value != 1 {
				t.Errorf("reading %d: %+v", i, r)
			}
		}
	})
}

func TestMissedReadingsAreNotMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := script("d", 10*time.Second, func(_ context.Context, n int) ([]sensors.Measurement, error) {
			if n == 3 {
				time.Sleep(5500 * time.Millisecond)
			}
			return volt(1), nil
		})
		w := supervise(t, nil, []sensors.Driver{d}, config("s", "d", "", time.Second))
		time.Sleep(20 * time.Second)
		w.stop()
		at := w.times("s")
		if len(at) != 15 {
			t.Errorf("%d readings in 20 s with a pause of 5.5 s, want 15", len(at))
		}
		for i, a := range at {
			if off := a.Sub(at[0]) % time.Second; i != 2 && off != 0 {
				t.Errorf("reading %d is %v off the grid", i, off)
			}
		}
	})
}

func TestALateAnswerIsNotAReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := script("d", time.Second, func(ctx context.Context, n int) ([]sensors.Measurement, error) {
			switch n {
			case 1: // ignores its deadline
				time.Sleep(time.Minute)
			case 2: // notices it
				<-ctx.Done()
				return volt(9), context.Cause(ctx)
			case 3: // notices it, and says nothing
				<-ctx.Done()
			}
			if n <= 3 {
				return volt(9), nil
			}
			return volt(1), nil
		})
		w := supervise(t, nil, []sensors.Driver{d}, config("s", "d", "", time.Second))
		time.Sleep(2 * time.Minute)
		w.stop()
		if len(w.readings["s"]) == 0 || s.opened != 4 {
			t.Errorf("%d readings, opened %d times", len(w.readings["s"]), s.opened)
		}
		for _, r := range w.readings["s"] {
			if r.Value != 1 {
				t.Errorf("late answer became a reading: %+v", r)
			}
		}
		if st := w.statuses["s"][0]; st.State != sensors.StateFailing || !strings.Contains(st.Reason, "no answer within 1s") {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRunEndsDuringAReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := script("d", time.Hour, func(ctx context.Context, _ int) ([]sensors.Measurement, error) {
			<-ctx.Done()
			return nil, errors.New("interrupted")
		})
		w := supervise(t, nil, []sensors.Driver{d}, config("s", "d", "", time.Second))
		time.Sleep(time.Minute)
		w.stop()
		if len(w.statuses["s"]) != 0 || s.closed != 1 {
			t.Errorf("the end became a failure: %+v, closed %d times", w.statuses["s"], s.closed)
		}
	})
}
