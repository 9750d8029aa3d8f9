package chips_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

// TestVL53L0XWithoutATarget: nothing to be seen is no failure, and long_range sees more.
func TestVL53L0XWithoutATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		place(t, pi, "vl53l0x", "simulated", 0x29).Set("signal", 0.15)
		for long, want := range map[bool]float64{false: 0, true: 1} {
			s, err := open(t, "vl53l0x", pi, map[string]any{"long_range": long})
			if err != nil {
				t.Fatal(err)
			}
			m, err := sensors.SenseWait(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			distance := false
			for _, v := range m {
				distance = distance || v.Quantity == "distance"
				if v.Quantity == "target" && v.Value != want {
					t.Errorf("long range %v: got %v", long, m)
				}
			}
			if distance != long {
				t.Errorf("long range %v: got %v", long, m)
			}
		}
	})
}

// TestDustSensorSleepsBetweenReadings looks at what goes over the wire: it is woken, left alone for the
// warm-up, read and put to sleep.
func TestDustSensorSleepsBetweenReadings(t *testing.T) {
	for name, c := range map[string]struct {
		wake, sleep string
		active      []string
	}{
		"pms5003": {"\x42\x4D\xE4\x00\x01\x01\x74", "\x42\x4D\xE4\x00\x00\x01\x73", []string{"\x42\x4D\xE1\x00\x01\x01\x71"}},
		"sds011":  {"\xAA\xB4\x06\x01\x01", "\xAA\xB4\x06\x01\x00", []string{"\xAA\xB4\x02\x01\x00", "\xAA\xB4\x08\x01\x00"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			pi := simulated.New(simulated.Options{})
			place(t, pi, name, "simulated", 0)
			buses := bus.NewSet(pi)
			var told []string
			buses.Trace = func(tr bus.Transfer) {
				switch w := string(tr.W); {
				case w == "":
				case strings.HasPrefix(w, c.wake):
					told = append(told, "wake")
				case strings.HasPrefix(w, c.sleep):
					told = append(told, "sleep")
				case slices.ContainsFunc(c.active, func(a string) bool { return strings.HasPrefix(w, a) }):
				default:
					told = append(told, "?")
				}
			}
			d := driver(t, name)
			config := sensors.Config{Name: "s", Driver: name, Bus: "simulated", Every: 5 * time.Minute, Options: map[string]any{
				"sleep": true, "warm_up": 30 * time.Second, "factory": false,
			}}
			s, err := d.Open(t.Context(), config, buses)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				begun := time.Now()
				if _, err := sensors.SenseWait(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < 29*time.Second || took > 35*time.Second {
					t.Errorf("%s: took %v, want 30s and a frame", name, took)
				}
				time.Sleep(5 * time.Minute)
			}
			if got := strings.Join(told, " "); got != "wake sleep wake sleep wake sleep" {
				t.Errorf("%s: was told %s", name, got)
			}
		})
	}
}

// TestOptionsThatDoNotFitTogether are found when the configuration is read.
func TestOptionsThatDoNotFitTogether(t *testing.T) {
	for _, c := range []struct {
		driver  string
		options map[string]any
		want    string // "" is right
	}{
		{"bme680", map[string]any{"heater_temperature": int64(100)}, "heater_temperature"},
		{"bme680", map[string]any{"heater_time": 5 * time.Second}, "heater_time"},
		{"bme680", map[string]any{"heater_temperature": int64(0)}, ""},
		{"mcp3008", map[string]any{"quantity": "Soil moisture"}, "quantity"},
		{"mcp3008", map[string]any{"scale": 0.0}, "scale"},
		{"mcp3008", map[string]any{"quantity": "soil_moisture"}, ""},
		{"vl53l0x", map[string]any{"budget": time.Millisecond}, "budget"},
		{"vl53l0x", map[string]any{"budget": 20 * time.Millisecond}, ""},
		{"pms5003", map[string]any{"sleep": true}, "every"},
		{"sds011", map[string]any{"warm_up": time.Hour}, "warm_up"},
		{"sds011", map[string]any{}, ""},
		{"max31865", map[string]any{"mains": int64(55)}, "mains"},
		{"max31865", map[string]any{"mains": int64(60)}, ""},
	} {
		d := driver(t, c.driver)
		config := sensors.Config{Every: 10 * time.Second, Options: map[string]any{}}
		for _, o := range d.Options {
			config.Options[o.Name] = o.Default
		}
		for name, v := range c.options {
			config.Options[name] = v
		}
		err := d.Check(config)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %v: got %v", c.driver, c.options, err)
		}
	}
}

// TestOwnChipsIdentifyThemselves, and do not take another chip for theirs.
func TestOwnChipsIdentifyThemselves(t *testing.T) {
	names := map[string]string{
		"bme680": "BME680", "ina226": "INA226", "ina3221": "INA3221", "lis3dh": "LIS3DH", "sht4x": "SHT4x",
		"tsl2591": "TSL2591", "veml7700": "VEML7700", "vl53l0x": "VL53L0X",
	}
	for name, want := range names {
		synctest.Test(t, func(t *testing.T) {
			d := driver(t, name)
			identify := func(model string) string {
				pi := simulated.New(simulated.Options{})
				place(t, pi, model, "simulated", d.Addresses[0])
				dev, err := bus.NewSet(pi).I2CDevice("simulated", d.Addresses[0])
				if err != nil {
					t.Fatal(err)
				}
				dev.Begin(t.Context())
				chip, _ := d.Identify(dev)
				return chip
			}
			for other := range names {
				if got := identify(other); (got == want) != (other == name) || got != want && got != "" {
					t.Errorf("%s looks at a %s: got %q", name, other, got)
				}
			}
		})
	}
}
