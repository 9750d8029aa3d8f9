package chips_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/sensorstest"
	"holdfast/sensors/simulated"
)

func TestEveryDriver(t *testing.T) { sensorstest.All(t, chips.Drivers()) }

func TestBME280LostItsSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip := place(t, pi, "bme280", "simulated", 0x76)
		s, err := open(t, "bme280", pi, nil)
		if err != nil {
			t.Fatal(err)
		}
		sense(t, s)
		chip.Fault(simulated.PowerCycle) // between two readings: no transfer has failed
		if m, err := s.Sense(context.Background()); !errors.Is(err, sensors.ErrRestarted) {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

func TestADS1115WaitsForASlowChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int64{8, 128, 860} {
			for channel, other := range map[string]string{"0": "3", "3": "0", "0-1": "2"} {
				pi := simulated.New(simulated.Options{})
				place(t, pi, "ads1115", "simulated", 0x48).Fault(simulated.SlowClock)
				a, err := open(t, "ads1115", pi, map[string]any{"channel": channel, "rate": rate})
				if err != nil {
					t.Fatal(err)
				}
				b, err := open(t, "ads1115", pi, map[string]any{"channel": other, "rate": rate})
				if err != nil {
					t.Fatal(err)
				}
				want := sense(t, a)["voltage"]
				sense(t, b) // leaves another value in the conversion register
				if got := sense(t, a)["voltage"]; math.Abs(got-want) > 0.001 {
					t.Errorf("channel %s at %d/s: got %v, want %v: the conversion before", channel, rate, got, want)
				}
			}
		}
		pi := simulated.New(simulated.Options{})
		place(t, pi, "ads1115", "simulated", 0x48)
		s, err := open(t, "ads1115", pi, map[string]any{"range": 0.256})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.Sense(context.Background()); err == nil || !strings.Contains(err.Error(), "range") {
			t.Errorf("beyond the range: got %v, %v", m, err)
		}
	})
}

func TestDS18B20(t *testing.T) {
	const dir = "bus/w1/devices/28-00000a/"
	pi := simulated.New(simulated.Options{})
	files := pi.Files()
	files.Remove("bus/w1")
	if _, err := open(t, "ds18b20", pi, nil); !errors.Is(err, bus.ErrAbsent) {
		t.Errorf("none: %v", err)
	}
	files.Set(dir+"temperature", "83000")
	s, err := open(t, "ds18b20", pi, nil)
	if err != nil {
		t.Fatal(err)
	}
	sense(t, s)
	files.Set(dir+"temperature", "85000")
	if got := sense(t, s)["temperature"]; got != 85 {
		t.Errorf("85 °C after 83 °C: got %v", got)
	}
	files.Set("bus/w1/devices/28-00000b/temperature", "2")
	if _, err := open(t, "ds18b20", pi, nil); err == nil || !strings.Contains(err.Error(), "28-00000b") {
		t.Errorf("several: %v", err)
	}
	if s, err = open(t, "ds18b20", pi, map[string]any{"id": "28-00000b"}); err != nil {
		t.Fatal(err)
	}
	if got := sense(t, s)["temperature"]; got != 0.002 {
		t.Errorf("chosen by id: got %v", got)
	}
	for _, id := range []string{"28-00000c", "../../../etc"} {
		if _, err := open(t, "ds18b20", pi, map[string]any{"id": id}); err == nil {
			t.Errorf("id %s: no error", id)
		}
	}
}

func TestCPUZone(t *testing.T) {
	pi := simulated.New(simulated.Options{})
	for name, text := range map[string]string{"zone0/type": "gpu", "zone0/temp": "40000", "zone1/type": "cpu-thermal", "zone1/temp": "51234"} {
		pi.Files().Set("class/thermal/thermal_"+name, text)
	}
	s, err := open(t, "cpu", pi, map[string]any{"zone": "cpu-thermal"})
	if err != nil {
		t.Fatal(err)
	}
	if got := sense(t, s)["temperature"]; got != 51.234 {
		t.Errorf("got %v", got)
	}
	if _, err := open(t, "cpu", pi, map[string]any{"zone": "soc"}); !errors.Is(err, bus.ErrAbsent) || !strings.Contains(err.Error(), "cpu-thermal") {
		t.Errorf("no such zone: %v", err)
	}
}
