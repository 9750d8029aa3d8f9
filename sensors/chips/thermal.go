package chips

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// cpu and thermal read thermal zones of the kernel (Documentation/driver-api/thermal/sysfs-api.rst).
func cpu() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "cpu", Doc: "temperature, from the kernel's thermal zone",
			Chip: "the processor", Datasheet: "Documentation/driver-api/thermal/sysfs-api.rst",
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 150}},
			Options: []sensors.Option{
				{Name: "zone", Kind: sensors.OptionString, Doc: "type of the thermal zone, as in /sys/class/thermal/*/type; the first if not given"},
			},
			Timeout: time.Second,
		},
		Find: named("class/thermal/thermal_zone*/type", "zone"),
		Open: func(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			zones, err := thermalZones(c, buses)
			if err != nil {
				return nil, err
			}
			zone := stringOption(c, "zone")
			for _, s := range zones {
				if zone == "" || s.name == zone {
					s.channels[0].Quantity = sensors.Quantity{Name: "temperature", Unit: "°C", Min: -40, Max: 150}
					return s, nil
				}
			}
			return nil, noZone(zone, zones)
		},
	}
}

func thermal() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "thermal", Doc: "temperatures of the kernel's thermal zones, by their types",
			Chip: "the processor and what the board measures beside it", Datasheet: "Documentation/driver-api/thermal/sysfs-api.rst",
			Options: []sensors.Option{
				{Name: "zones", Kind: sensors.OptionStrings, Doc: "types of the zones, as in /sys/class/thermal/*/type; all if not given"},
			},
			Timeout: time.Second,
		},
		QuantitiesOf: func(map[string]any) []sensors.Quantity { return nil }, // the kernel knows
		Open: func(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			zones, err := thermalZones(c, buses)
			if err != nil {
				return nil, err
			}
			wanted := stringsOption(c, "zones")
			for _, w := range wanted {
				if !slices.ContainsFunc(zones, func(z *kernelSensor) bool { return z.name == w }) {
					return nil, noZone(w, zones)
				}
			}
			all := &several{}
			for _, z := range zones {
				if len(wanted) == 0 || slices.Contains(wanted, z.name) {
					z.channels[0].Name = "temperature_" + inTopic(z.name)
					all.sensors = append(all.sensors, z)
					all.names = append(all.names, z.channels[0])
				}
			}
			if len(all.sensors) == 0 {
				return nil, noZone("", zones)
			}
			unique(all.names)
			for i, z := range all.sensors {
				z.channels[0] = all.names[i]
			}
			return all, nil
		},
	}
}

func noZone(zone string, zones []*kernelSensor) error {
	var seen []string
	for _, z := range zones {
		seen = append(seen, z.name)
	}
	return fmt.Errorf("%w: no thermal zone of type %q: there are %q", bus.ErrAbsent, zone, seen)
}

// thermalZones returns all zones that are there, each as a sensor of its own.
func thermalZones(c sensors.Config, buses *bus.Set) (zones []*kernelSensor, err error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	types, err := fs.Glob(sys, "class/thermal/thermal_zone*/type")
	if err != nil {
		return nil, err
	}
	for _, file := range types {
		kind, err := bus.ReadFile(sys, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being removed
		}
		if err != nil {
			return nil, err
		}
		zones = append(zones, &kernelSensor{sys: sys, identity: file, name: kind, channels: []channel{{
			Quantity: sensors.Quantity{Name: "temperature", Unit: "°C", Min: -40, Max: 150},
			files:    []string{path.Join(path.Dir(file), "temp")}, decode: scaled(1e-3),
		}}})
	}
	return zones, nil
}

// several are devices that are read one after the other, as one sensor.
type several struct {
	sensors []*kernelSensor
	names   []channel
}

func (s *several) Quantities() (q []sensors.Quantity) {
	for _, one := range s.sensors {
		q = append(q, one.Quantities()...)
	}
	return q
}

func (s *several) Sense(ctx context.Context) (all []sensors.Measurement, err error) {
	for _, one := range s.sensors {
		m, err := one.Sense(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, m...)
	}
	return all, nil
}

func (s *several) Close() error { return nil }
