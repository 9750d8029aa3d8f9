// The tests of this package run a Supervisor in a synctest bubble, in which an hour takes no time, over
// simulated chips or over scripted drivers:
//
//	w := supervise(t, set, drivers, configs...)     a supervisor that runs; w.stop() ends it
//	config("air", "bme280", "simulated", 10*time.Second)
//	                                                a sensor with its driver's defaults
//	d, device := script("d", time.Second, sense)    a driver whose n-th reading is sense(ctx, n); device counts
//	                                                what was opened and closed
//	volt(1.5)                                       what such a reading returns
//	superviseFor(t, host, set, ...)                 the same, with what a gateway does for the drivers
//	w.times("air"), w.states("air"), w.last("air")  when it was read, its states, its last status
//	w.onGrid("air", 6, 10*time.Second)              fails unless it was read so often, on the grid
//
// stalls (runtime_test.go) are times in which the process is not scheduled. The drivers themselves are tested
// in package chips.
package sensors_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// watch runs a supervisor in a bubble, where time passes when all goroutines wait.
type watch struct {
	t    *testing.T
	s    *sensors.Supervisor
	stop func()

	mu       sync.Mutex
	readings map[string][]sensors.Reading // by sensor
	statuses map[string][]sensors.Status
}

func supervise(t *testing.T, set *bus.Set, drivers []sensors.Driver, configs ...sensors.Config) *watch {
	return superviseFor(t, nil, set, drivers, configs...)
}

func superviseFor(t *testing.T, host sensors.Host, set *bus.Set, drivers []sensors.Driver, configs ...sensors.Config) *watch {
	w := &watch{t: t, readings: map[string][]sensors.Reading{}, statuses: map[string][]sensors.Status{}}
	s := sensors.NewSupervisor(configs, sensors.SupervisorOptions{
		Buses: set, Drivers: drivers, Host: host,
		Reading: func(r sensors.Reading) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.readings[r.Sensor] = append(w.readings[r.Sensor], r)
		},
		Status: func(s sensors.Status) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.statuses[s.Sensor] = append(w.statuses[s.Sensor], s)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	w.s = s
	go func() { ended <- s.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	return w
}

// times are when a sensor was read.
func (w *watch) times(sensor string) (at []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.readings[sensor] {
		if len(at) == 0 || r.Time != at[len(at)-1] {
			at = append(at, r.Time)
		}
	}
	return at
}

func (w *watch) states(sensor string) (s []sensors.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, st := range w.statuses[sensor] {
		s = append(s, st.State)
	}
	return s
}

func (w *watch) last(sensor string) sensors.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.statuses[sensor]
	if len(all) == 0 {
		return sensors.Status{}
	}
	return all[len(all)-1]
}

// told is what a sensor's readings of a quantity were, and when since begun.
func (w *watch) told(sensor, quantity string, begun time.Time) (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.readings[sensor] {
		if r.Quantity == quantity {
			all = append(all, fmt.Sprintf("%g@%v", r.Value, r.Time.Sub(begun)))
		}
	}
	return all
}

// onGrid checks that a sensor was read n times, every interval.
func (w *watch) onGrid(sensor string, n int, every time.Duration) {
	w.t.Helper()
	at := w.times(sensor)
	if len(at) != n {
		w.t.Errorf("%s: %d readings, want %d", sensor, len(at), n)
	}
	for i := 1; i < len(at); i++ {
		if d := at[i].Sub(at[i-1]) - every; d.Abs() > every/20 {
			w.t.Errorf("%s: reading %d came %v after the one before, want %v", sensor, i, at[i].Sub(at[i-1]), every)
		}
	}
}

func config(name, driver, bus string, every time.Duration) sensors.Config {
	c := sensors.Config{Name: name, Driver: driver, Bus: bus, Every: every, Options: map[string]any{}}
	for _, d := range chips.Drivers() {
		if d.Name == driver {
			c.Options = d.Defaults()
		}
	}
	return c
}

func place(t *testing.T, pi *simulated.Pi, model, bus string, addr uint16) *simulated.Chip {
	t.Helper()
	c, err := pi.Place(model, bus, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// script is a driver whose every call a test decides.
func script(name string, timeout time.Duration, sense func(ctx context.Context, n int) ([]sensors.Measurement, error)) (sensors.Driver, *scripted) {
	s := &scripted{sense: sense}
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: name, Quantities: []sensors.Quantity{{Name: "v", Unit: "V"}}, Timeout: timeout,
		},
		Open: func(context.Context, sensors.Config, *bus.Set) (sensors.Sensor, error) {
			s.opened++
			return s, nil
		},
	}, s
}

type scripted struct {
	sense                 func(ctx context.Context, n int) ([]sensors.Measurement, error)
	calls, opened, closed int
	at                    []time.Time
}

func (s *scripted) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	s.calls++
	s.at = append(s.at, time.Now())
	return s.sense(ctx, s.calls)
}

func (s *scripted) Close() error { s.closed++; return nil }

func volt(v float64) []sensors.Measurement {
	return []sensors.Measurement{{Quantity: "v", Value: v, Unit: "V"}}
}
