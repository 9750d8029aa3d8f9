package config

import (
	"slices"
	"strings"
	"testing"

	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// TestHomes: names that people try lead to the driver that is meant, and to its overlay.
func TestHomes(t *testing.T) {
	opts := Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()}
	l := newLoader(opts.complete())
	known := map[string][]string{}
	for _, d := range opts.Drivers {
		known["sensors"] = append(known["sensors"], d.Name)
	}
	for _, d := range opts.Outputs {
		known["outputs"] = append(known["outputs"], d.Name)
	}
	seen := map[string]bool{}
	for _, h := range homes {
		if !slices.Contains(known[h.section], h.driver) {
			t.Errorf("%s: there is no driver %s", h.names, h.driver)
		}
		for _, name := range strings.Fields(h.names) {
			if seen[h.section+name] || slices.Contains(known[h.section], name) {
				t.Errorf("%s has two homes", name)
			}
			seen[h.section+name] = true
			if hint := l.otherDriver(name, h.section, known[h.section]); !strings.HasPrefix(hint, ": ") || !strings.Contains(hint, "use ") {
				t.Errorf("%s: %q", name, hint)
			}
		}
	}
	for _, tt := range []struct{ section, name, want string }{
		{"sensors", "dht22", "dtoverlay=dht11,gpiopin=4"},
		{"sensors", "DHT22", "use driver iio"},
		{"sensors", "dht20", "use aht20"},
		{"sensors", "sht31", "use sht3x"},
		{"sensors", "SCD41", "use scd4x"},
		{"sensors", "ds18s20", "use w1"},
		{"sensors", "bmp085", "use bmp180"},
		{"sensors", "mpu-6500", "use mpu9250"},
		{"sensors", "mpu6500", "use mpu9250"},
		{"sensors", "scd30", "a driver of the kernel reads it: use iio"},
		{"sensors", "lm75", "dtoverlay=i2c-sensor,lm75"},
		{"sensors", "button", "use gpio-input"},
		{"sensors", "gpio", "use gpio-input"},
		{"outputs", "gpio", "use gpio-output"},
		{"sensors", "gpio-output", "a driver of outputs"},
		{"outputs", "bme280", "a driver of sensors"},
		{"sensors", "bme820", `did you mean "bme280"`},
		{"sensors", "pi4", "want ads1015"},
	} {
		if got := l.otherDriver(tt.name, tt.section, known[tt.section]); !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: %q, want %q", tt.section, tt.name, got, tt.want)
		}
	}
}
