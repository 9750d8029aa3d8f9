package sensors_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// TestSensorsComeAndGo: the others keep their grid, and a line that one had is free for the next.
func TestSensorsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		door, window := config("door", "gpio-input", "simulated", time.Second), config("window", "gpio-input", "simulated", time.Second)
		door.Options["line"], window.Options["line"] = int64(4), int64(4)
		air, tank := config("air", "bme280", "simulated", time.Second), config("tank", "ads1115", "simulated", time.Second)
		all := []sensors.Config{air, tank, door, window, config("board", "cpu", "simulated", time.Second)}
		if err := pi.Populate(chips.Drivers(), all...); err != nil {
			t.Fatal(err)
		}
		w := supervise(t, bus.NewSet(pi), chips.Drivers(), air, door)
		time.Sleep(10 * time.Second)
		for range 20 {
			w.s.Change([]string{"door"}, []sensors.Config{window, tank})
			time.Sleep(time.Second)
			w.s.Change([]string{"window", "tank", "nobody"}, []sensors.Config{door, all[4]})
			time.Sleep(time.Second)
			w.s.Change([]string{"board"}, nil)
		}
		w.stop()
		w.onGrid("air", 50, time.Second)
		for _, name := range []string{"door", "window", "tank", "board"} {
			if s := w.last(name); s.State != sensors.StateOK || len(w.times(name)) < 20 {
				t.Errorf("%s: %+v, %d readings", name, s, len(w.times(name)))
			}
		}
		w.s.Change([]string{"air"}, []sensors.Config{tank}) // nothing runs any more
	})
}

// TestASensorInACallGoes: a call that ends with its context is waited for; one that does not is left
// alone, reports nothing any more, and its device is closed when it has ended.
func TestASensorInACallGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf, deafDevice := script("deaf", 10*time.Second, func(context.Context, int) ([]sensors.Measurement, error) {
			<-release
			return []sensors.Measurement{{Quantity: "v", Value: 1, Unit: "V"}}, nil
		})
		slow, slowDevice := script("slow", 10*time.Second, func(ctx context.Context, _ int) ([]sensors.Measurement, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		drivers := append(chips.Drivers(), deaf, slow)
		one := sensors.Config{Name: "slow", Driver: "slow", Bus: "simulated", Every: time.Second}
		two := sensors.Config{Name: "deaf", Driver: "deaf", Bus: "simulated-2", Every: time.Second}
		w := supervise(t, bus.NewSet(nil), drivers, one, two)
		time.Sleep(time.Second)
		begun := time.Now()
		w.s.Change([]string{"slow"}, nil)
		if took := time.Since(begun); took != 0 || slowDevice.closed != 1 {
			t.Errorf("took %v, %d devices closed", took, slowDevice.closed)
		}
		w.s.Change([]string{"deaf"}, []sensors.Config{one})
		if took := time.Since(begun); took > time.Second || deafDevice.closed != 0 {
			t.Errorf("took %v, %d devices closed in the middle of a call", took, deafDevice.closed)
		}
		time.Sleep(20 * time.Second)
		if len(w.states("deaf")) != 0 {
			t.Errorf("one that is removed reports %v", w.states("deaf"))
		}
		close(release)
		synctest.Wait()
		if deafDevice.closed != 1 || len(w.times("deaf")) != 0 {
			t.Errorf("%d devices closed, %d readings", deafDevice.closed, len(w.times("deaf")))
		}
		w.stop()
	})
}
