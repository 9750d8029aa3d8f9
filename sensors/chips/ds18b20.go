package chips

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ds18b20 is the Maxim DS18B20 through the kernel's driver (Documentation/w1/slaves/w1_therm.rst).
func ds18b20() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "ds18b20", Doc: "temperature, through the kernel's 1-Wire bus",
			Chip: "Maxim DS18B20", Datasheet: "19-7487 rev 6; Documentation/w1/slaves/w1_therm.rst",
			Wiring:     "dtoverlay=w1-gpio; data on GPIO 4 with a pull-up of 4.7 kΩ to 3.3 V; VDD to 3.3 V, not parasitic",
			Buses:      []sensors.BusKind{sensors.BusW1},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -55, Max: 125}},
			Options: []sensors.Option{
				{Name: "id", Kind: sensors.OptionString, Doc: "the sensor's name in /sys/bus/w1/devices, such as 28-0316a2795bff; needed if there are several"},
			},
			Claims: func(p sensors.Place) ([]sensors.Claim, error) {
				id, _ := p.Options["id"].(string)
				return []sensors.Claim{sensors.ClaimThermometer(p.Bus, id, "id")}, nil
			},
			Timeout: 3 * time.Second, // a conversion takes 750 ms
		},
		Find: findDS18B20,
		Open: openDS18B20,
	}
}

type ds18b20Sensor struct {
	sys  fs.FS
	file string
	last float64 // °C; NaN before the first
}

func openDS18B20(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	id, _ := c.Options["id"].(string)
	if id == "" {
		if id, err = onlyDS18B20(sys); err != nil {
			return nil, err
		}
	}
	return openW1Probe(sys, id)
}

// openW1Probe finds a thermometer by its name on the bus.
func openW1Probe(sys fs.FS, id string) (*ds18b20Sensor, error) {
	s := &ds18b20Sensor{sys, path.Join(w1Devices, id, "temperature"), math.NaN()}
	if !fs.ValidPath(s.file) {
		return nil, fmt.Errorf("id %q is no name of a device", id)
	}
	if _, err := fs.Stat(sys, path.Dir(s.file)); err != nil {
		return nil, fmt.Errorf("%w: %s is not on the bus: check its wiring, or the id", bus.ErrAbsent, id)
	}
	return s, nil
}

func onlyDS18B20(sys fs.FS) (string, error) {
	found, err := fs.Glob(sys, "bus/w1/devices/28-*")
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", fmt.Errorf("%w: no DS18B20 on the 1-Wire bus: check wiring, and dtoverlay=w1-gpio in config.txt", bus.ErrAbsent)
	case len(found) > 1:
		for i := range found {
			found[i] = path.Base(found[i])
		}
		return "", fmt.Errorf("several sensors on the bus: set id to one of %q", found)
	}
	return path.Base(found[0]), nil
}

// powerOn is what the chip holds before its first conversion (data sheet, table 1), and what it
// returns if its supply failed during one.
const powerOn = 85.0

func (s *ds18b20Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	t, err := milliCelsius(s.sys, s.file)
	if err == nil && t == 0 {
		t, err = s.zero()
	}
	if err == nil && t == powerOn && !(math.Abs(s.last-powerOn) < 5) {
		t, err = milliCelsius(s.sys, s.file)
		if err == nil && t == powerOn {
			err = errors.New("85 °C, which is no measurement but the value after power on: check the supply")
		}
	}
	if err != nil {
		return nil, err
	}
	s.last = t
	return []sensors.Measurement{{Quantity: "temperature", Value: t, Unit: "°C"}}, nil
}

// zero measures again what was exactly 0 °C, with the whole scratchpad. A data line that is shorted to ground reads as
// nine zeros, whose checksum is right; a thermometer's configuration or count register is never 0 (data sheet, figure 8).
// The kernel's file w1_slave has the bytes, what it thinks of the checksum, and the temperature in m°C.
func (s *ds18b20Sensor) zero() (float64, error) {
	name := path.Join(path.Dir(s.file), "w1_slave")
	text, err := bus.ReadFile(s.sys, name)
	if err != nil {
		return 0, err
	}
	pad, rest, _ := strings.Cut(text, ":")
	_, milli, there := strings.Cut(rest, "t=")
	v, err := strconv.ParseInt(strings.TrimSpace(milli), 10, 32)
	switch {
	case strings.Trim(pad, "0 ") == "" && strings.Contains(pad, "0"):
		return 0, fmt.Errorf("%s: the scratchpad has nothing but zeros: %w", path.Base(path.Dir(s.file)), errShort)
	case !there || err != nil || !strings.Contains(rest, "YES"):
		return 0, fmt.Errorf("%w: /sys/%s: got %.80q, want nine bytes with a right checksum and t=", bus.ErrTemporary, name, text)
	}
	return float64(v) / 1000, nil
}

func (s *ds18b20Sensor) Close() error { return nil }

// milliCelsius reads a file that holds a temperature in m°C, and returns °C.
func milliCelsius(sys fs.FS, name string) (float64, error) {
	text, err := bus.ReadFile(sys, name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("/sys/%s: got %.20q, want a number of m°C", name, text)
	}
	return float64(v) / 1000, nil
}
