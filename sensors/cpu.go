package sensors

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"time"

	"holdfast/sensors/bus"
)

// cpu reads a thermal zone of the kernel (Documentation/driver-api/thermal/sysfs-api.rst).
func cpu() Driver {
	return Driver{
		Name: "cpu", Doc: "temperature, from the kernel's thermal zone",
		Chip: "the processor", Datasheet: "Documentation/driver-api/thermal/sysfs-api.rst",
		Quantities: []Quantity{{"temperature", "°C", -40, 150}},
		Options: []Option{
			{Name: "zone", Kind: OptionString, Doc: "type of the thermal zone, as in /sys/class/thermal/*/type; the first if not given"},
		},
		Timeout: time.Second,
		Open:    openCPU,
	}
}

type cpuSensor struct {
	sys  fs.FS
	file string
}

func openCPU(_ context.Context, c Config, buses *bus.Set) (Sensor, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	zone, _ := c.Options["zone"].(string)
	types, err := fs.Glob(sys, "class/thermal/thermal_zone*/type")
	if err != nil {
		return nil, err
	}
	var seen []string
	for _, name := range types {
		kind, err := bus.ReadFile(sys, name)
		if err != nil {
			return nil, err
		}
		if zone == "" || kind == zone {
			return &cpuSensor{sys, path.Join(path.Dir(name), "temp")}, nil
		}
		seen = append(seen, kind)
	}
	return nil, fmt.Errorf("%w: no thermal zone of type %q: there are %q", bus.ErrAbsent, zone, seen)
}

func (s *cpuSensor) Sense(ctx context.Context) ([]Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	t, err := milliCelsius(s.sys, s.file)
	if err != nil {
		return nil, err
	}
	return []Measurement{{"temperature", t, "°C"}}, nil
}

func (s *cpuSensor) Close() error { return nil }
