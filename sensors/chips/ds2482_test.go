package chips_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

func TestDS2482WithSeveralSensors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip := place(t, pi, "ds2482-pair", "simulated", 0x18)
		_, err := open(t, "ds2482", pi, nil)
		if sensors.ClassOf(err) != sensors.Permanent || !strings.Contains(err.Error(), `["28-0000000000aa" "28-0316a2795bff"]`) {
			t.Errorf("several: got %v, want both ids", err)
		}
		first, err := open(t, "ds2482", pi, map[string]any{"id": "28-0000000000aa"})
		if err != nil {
			t.Fatal(err)
		}
		// The second lives on the line: its reading holds the bus.
		second, err := open(t, "ds2482", pi, map[string]any{"id": "28-0316a2795bff"})
		if err != nil {
			t.Fatal(err)
		}
		chip.Set("temperature", -10.125)
		if _, err := first.Sense(context.Background()); !errors.As(err, new(*sensors.NotYet)) {
			t.Errorf("got %v, want it to free the bus while it converts", err)
		}
		begun := time.Now()
		if got := sense(t, second)["temperature"]; got != -0.125 {
			t.Errorf("got %v, want -0.125", got)
		}
		if took := time.Since(begun); took < 700*time.Millisecond {
			t.Errorf("a conversion with the line's supply took %v", took)
		}
		if got := patiently(t, first); got != -10.125 {
			t.Errorf("got %v, want -10.125", got)
		}
		for id, class := range map[string]sensors.Class{"28-0000000000ab": sensors.Absent, "28-0000000000AA": ""} {
			_, err := open(t, "ds2482", pi, map[string]any{"id": id})
			if err != nil && sensors.ClassOf(err) != class || (err == nil) != (class == "") {
				t.Errorf("id %s: got %v, want %v", id, err, class)
			}
		}
		if _, err := open(t, "ds2482", pi, map[string]any{"channel": int64(2)}); err == nil || !strings.Contains(err.Error(), "DS2482-800") {
			t.Errorf("channel: got %v", err)
		}
	})
	d := driver(t, "ds2482")
	for _, id := range []string{"28-0316a2795bf", "10-0316a2795bff", "28-0316a2795bfg", "28-0316a2795bff00", ""} {
		if err := d.Check(sensors.Config{Options: map[string]any{"id": id}}); err == nil {
			t.Errorf("id %q: no error", id)
		}
	}
}

// TestDS2482Tells85DegreesFrom85Degrees: what is measured is a reading, what is there after power-on is
// none.
func TestDS2482Tells85DegreesFrom85Degrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip := place(t, pi, "ds2482", "simulated", 0x18)
		s, err := open(t, "ds2482", pi, nil)
		if err != nil {
			t.Fatal(err)
		}
		chip.Set("temperature", 85)
		if got := patiently(t, s); got != 85 {
			t.Errorf("got %v, want 85", got)
		}
		if _, err := s.Sense(context.Background()); !errors.As(err, new(*sensors.NotYet)) {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond)
		chip.Fault(simulated.PowerCycle)
		if m, err := sensors.SenseWait(context.Background(), s); !errors.Is(err, bus.ErrTemporary) {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

func TestADS1x15Differences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, step := range map[string]float64{"ads1015": 0.001, "ads1115": 0.0001} {
			pi := simulated.New(simulated.Options{})
			chip := place(t, pi, name, "simulated", 0x48)
			for i, v := range []float64{0.2, 1.5, 3.3, 0.25} {
				chip.Set("voltage"+string(rune('0'+i)), v)
			}
			for channel, want := range map[string]float64{"0": 0.2, "2": 3.3, "0-1": -1.3, "0-3": -0.05, "1-3": 1.25, "2-3": 3.05} {
				for _, full := range []float64{0.256, 1, 4.096, 6.144} {
					s, err := open(t, name, pi, map[string]any{"channel": channel, "range": full})
					if err != nil {
						t.Fatal(err)
					}
					m, err := s.Sense(context.Background())
					// The next larger range is used: 1.024 V for 1 V.
					if most := max(full, 0.256); (want > most*1.024 || want < -most*1.024) && !errors.Is(err, sensors.ErrPermanent) {
						t.Errorf("%s, %s at ±%v V: got %v, %v", name, channel, full, m, err)
					} else if want < most && want > -most && (err != nil || m[0].Value-want > 2*step || want-m[0].Value > 2*step) {
						t.Errorf("%s, %s at ±%v V: got %v, %v, want %v", name, channel, full, m, err, want)
					}
				}
			}
		}
	})
}
