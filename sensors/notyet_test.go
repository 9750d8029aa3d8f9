package sensors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// slow is a chip whose measurement takes 700 ms, during which its driver does not hold the bus.
type slow struct {
	started time.Time
	closed  *int
}

func (s *slow) Sense(context.Context) ([]sensors.Measurement, error) {
	if s.started.IsZero() {
		s.started = time.Now()
	}
	if left := 700*time.Millisecond - time.Since(s.started); left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "measuring"}
	}
	s.started = time.Time{}
	return []sensors.Measurement{{Quantity: "temperature", Value: 1, Unit: "°C"}}, nil
}

func (s *slow) Close() error { *s.closed++; return nil }

func TestASlowChipKeepsItsDeviceAndLeavesItsBusToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		quick := sensors.Driver{
			Spec: sensors.Spec{
				Name: "quick", Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C"}}, Timeout: time.Second,
			},
			Open: func(context.Context, sensors.Config, *bus.Set) (sensors.Sensor, error) { return instant{}, nil },
		}
		late := quick
		late.Name = "late"
		late.Open = func(context.Context, sensors.Config, *bus.Set) (sensors.Sensor, error) {
			return &slow{closed: &closed}, nil
		}
		w := supervise(t, bus.NewSet(nil), []sensors.Driver{quick, late},
			config("quick", "quick", "i2c-1", 100*time.Millisecond), config("late", "late", "i2c-1", 2*time.Second))
		time.Sleep(20*time.Second + 150*time.Millisecond)
		w.stop()
		w.onGrid("quick", 202, 100*time.Millisecond)
		w.onGrid("late", 10, 2*time.Second)
		if s := w.states("late"); len(s) != 1 || s[0] != sensors.StateOK || closed != 1 {
			t.Errorf("states %v, closed %d times, want ok and once, at the end", s, closed)
		}
	})
}

type instant struct{}

func (instant) Sense(context.Context) ([]sensors.Measurement, error) {
	return []sensors.Measurement{{Quantity: "temperature", Value: 2, Unit: "°C"}}, nil
}
func (instant) Close() error { return nil }

func TestSenseWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, closed := time.Now(), 0
		m, err := sensors.SenseWait(context.Background(), &slow{closed: &closed})
		if err != nil || len(m) != 1 || time.Since(begun) != 700*time.Millisecond {
			t.Errorf("got %v, %v after %v", m, err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		if m, err := sensors.SenseWait(ctx, &slow{closed: &closed}); !errors.Is(err, context.DeadlineExceeded) || m != nil {
			t.Errorf("got %v, %v", m, err)
		}
	})
}
