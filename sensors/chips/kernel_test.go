package chips_test

import (
	"context"
	"errors"
	"fmt"
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

// A device that was unplugged and comes back under another number is found again, and one that took
// its number is not taken for it.
func TestKernelDevicesAreFoundByName(t *testing.T) {
	for driver, dir := range map[string]string{"iio": "bus/iio/devices/iio:device", "hwmon": "class/hwmon/hwmon"} {
		file := map[string]string{"iio": "in_temp_input", "hwmon": "temp1_input"}[driver]
		pi := simulated.New(simulated.Options{})
		files := pi.Files()
		put(files, dir+"0", "sht3x", map[string]string{file: "21000"})
		find := func() (sensors.Sensor, error) { return open(t, driver, pi, map[string]any{"device": "sht3x"}) }
		s, err := find()
		if err != nil {
			t.Fatal(err)
		}
		if got := sense(t, s)["temperature"]; got != 21 {
			t.Errorf("%s: got %v", driver, got)
		}
		files.Remove(dir + "0")
		put(files, dir+"0", "lm75", map[string]string{file: "99000"})
		if m, err := s.Sense(context.Background()); !errors.Is(err, bus.ErrAbsent) {
			t.Errorf("%s: another device has its number: got %v, %v", driver, m, err)
		}
		if _, err := find(); !errors.Is(err, bus.ErrAbsent) || !strings.Contains(err.Error(), "lm75") {
			t.Errorf("%s: it is gone: %v", driver, err)
		}
		put(files, dir+"4", "sht3x", map[string]string{file: "-22000"})
		if s, err = find(); err != nil {
			t.Fatal(err)
		}
		if got := sense(t, s)["temperature"]; got != -22 {
			t.Errorf("%s: after the replug: got %v", driver, got)
		}
		// The place distinguishes two of a name.
		put(files, dir+"1", "sht3x", map[string]string{file: "5000", "uevent": "OF_FULLNAME=/soc/i2c@7e804000/sht3x@45"})
		if _, err := find(); err == nil || !strings.Contains(err.Error(), "sht3x@45") {
			t.Errorf("%s: two: %v", driver, err)
		}
		if s, err = open(t, driver, pi, map[string]any{"device": "sht3x", "at": "sht3x@45"}); err != nil {
			t.Fatal(err)
		}
		if got := sense(t, s)["temperature"]; got != 5 {
			t.Errorf("%s: chosen by place: got %v", driver, got)
		}
	}
}

func TestIIOChannels(t *testing.T) {
	pi := simulated.New(simulated.Options{})
	put(pi.Files(), "bus/iio/devices/iio:device2", "everything", map[string]string{
		"in_voltage0_raw": "1000", "in_voltage1_raw": "2000", "in_voltage_scale": "0.5", // shared by the kind
		"in_voltage1_scale": "2", "in_voltage1_label": "Tank level", // its own goes first
		"in_voltage0-voltage1_raw": "-200", "in_voltage-voltage_scale": "4", // a difference
		"in_accel_x_raw": "-512", "in_accel_scale": "0.01", "in_accel_x_calibbias": "7",
		"in_concentration_co2_raw": "800", "in_concentration_co2_scale": "0.0001",
		"in_illuminance_input": "345.6", "in_illuminance_raw": "1", // what is processed goes first
		"in_temp_raw": "100", "in_temp_offset": "-50", "in_temp_scale": "10",
		"in_timestamp_type": "le:s64/64>>0", "sampling_frequency": "10", "in_unheardof_raw": "1",
	})
	s, err := open(t, "iio", pi, map[string]any{"device": "everything"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"voltage0": 0.5, "voltage_tank_level": 4, "voltage0-voltage1": -0.8, "acceleration_x": -5.12,
		"co2": 800, "illuminance": 345.6, "temperature": 0.5,
	}
	got := sense(t, s)
	for q, v := range want {
		if d := got[q] - v; d > 1e-9 || d < -1e-9 {
			t.Errorf("%s: got %v, want %v", q, got[q], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	units := map[string]string{}
	for _, q := range s.(sensors.Measurer).Quantities() {
		units[q.Name] = q.Unit
	}
	if units["voltage0"] != "V" || units["co2"] != "ppm" || units["acceleration_x"] != "m/s²" {
		t.Errorf("units %v", units)
	}
	if _, err := open(t, "iio", pi, map[string]any{"device": "everything", "channels": []string{"humidity"}}); err == nil || !strings.Contains(err.Error(), "voltage_tank_level") {
		t.Errorf("no such channel: %v", err)
	}
}

// The bus is asked to convert once, the driver waits for it, and then reads all.
func TestW1ConvertsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		files := pi.Files()
		files.Remove("bus/w1")
		var ready time.Time
		var asked []string
		const bulk = "bus/w1/devices/w1_bus_master1/therm_bulk_read"
		files.OnWrite(bulk, func(data string) error {
			asked = append(asked, data)
			ready = time.Now().Add(750 * time.Millisecond)
			return nil
		})
		files.Func(bulk, func() (string, error) {
			if time.Now().Before(ready) {
				return "-1", nil
			}
			return "1", nil
		})
		for _, id := range []string{"28-01", "28-02", "10-03"} {
			files.Func("bus/w1/devices/"+id+"/temperature", func() (string, error) {
				if time.Now().Before(ready) {
					t.Errorf("%s read before it has converted", id)
				}
				return "2" + id[len(id)-1:] + "500", nil
			})
		}
		s, err := open(t, "w1", pi, map[string]any{"names": map[string]string{"28-02": "outlet"}})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		for range 2 {
			got := sense(t, s)
			if got["temperature_28-01"] != 21.5 || got["outlet"] != 22.5 || got["temperature_10-03"] != 23.5 || len(got) != 3 {
				t.Errorf("got %v", got)
			}
		}
		if took := time.Since(begun); took > 1600*time.Millisecond || !slices.Equal(asked, []string{"trigger", "trigger"}) {
			t.Errorf("two readings of three took %v, asked %q", took, asked)
		}
		// A chip that answers with its value after power on fails the reading, and says which.
		files.Set("bus/w1/devices/28-02/temperature", "85000")
		if m, err := s.Sense(context.Background()); err == nil || !strings.Contains(err.Error(), "outlet: 85 °C") {
			t.Errorf("got %v, %v", m, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if m, err := s.Sense(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

// Where the common conversion is not there or not allowed, each thermometer needs 750 ms for its own. However many there
// are, every call ends in the driver's deadline, and the bus is free in between.
func TestW1ReadsManyThatConvertByThemselves(t *testing.T) {
	for name, bulk := range map[string]bool{"an older kernel": false, "not allowed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pi := simulated.New(simulated.Options{})
				files := pi.Files()
				files.Remove("bus/w1")
				if bulk {
					files.Set("bus/w1/devices/w1_bus_master1/therm_bulk_read", "0") // and nothing may be written
				}
				const n = 24
				want := map[string]float64{}
				for i := range n {
					id := fmt.Sprintf("28-%02x", i)
					files.Func("bus/w1/devices/"+id+"/temperature", func() (string, error) {
						time.Sleep(765 * time.Millisecond) // and 80 bits of 65 µs, and resets
						return fmt.Sprint(1000*i - 5500), nil
					})
					want["temperature_"+id] = float64(i) - 5.5
				}
				s, err := open(t, "w1", pi, nil)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					var m []sensors.Measurement
					for calls := 0; ; calls++ {
						ctx, cancel := context.WithTimeout(t.Context(), driver(t, "w1").Timeout)
						m, err = s.Sense(ctx)
						late := ctx.Err()
						cancel()
						var later *sensors.NotYet
						if !errors.As(err, &later) {
							break
						}
						if late != nil || calls > n {
							t.Fatalf("call %d: %v after its time", calls, late)
						}
						time.Sleep(later.After)
					}
					if err != nil || len(m) != n {
						t.Fatalf("got %d, %v, want %d temperatures", len(m), err, n)
					}
					for _, v := range m {
						if v.Value != want[v.Quantity] {
							t.Errorf("got %v, want %v", v, want[v.Quantity])
						}
					}
				}
			})
		})
	}
}

// A configuration of a Sense HAT or a BME680 runs on a simulated Pi, whose kernel is as far from the ABI as the real one.
func TestSimulatedKernelDriversKeepTheirDeviations(t *testing.T) {
	for _, device := range []string{"bme680", "hts221", "htu21"} {
		pi := simulated.New(simulated.Options{})
		c := config("air", "iio", "simulated", time.Second)
		c.Options["device"] = device
		if err := pi.Populate(chips.Drivers(), c); err != nil {
			t.Fatal(err)
		}
		s, err := open(t, "iio", pi, c.Options)
		if err != nil {
			t.Fatal(err)
		}
		got := sense(t, s)
		if temp, rh := got["temperature"], got["humidity"]; temp < 10 || temp > 35 || rh < 40 || rh > 90 {
			t.Errorf("%s: got %v, want the air of a greenhouse", device, got)
		}
	}
}
