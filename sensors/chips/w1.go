package chips

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// w1 reads all thermometers of the kernel's 1-Wire buses at once (Documentation/w1/slaves/w1_therm.rst).
func w1() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "w1", Doc: "temperatures of all thermometers on 1-Wire, which convert at the same time",
			Chip: "Maxim DS18B20, DS18S20, DS1822, DS1825, DS28EA00", Datasheet: "Documentation/w1/slaves/w1_therm.rst",
			Wiring: "dtoverlay=w1-gpio; data on GPIO 4 with a pull-up of 4.7 kΩ to 3.3 V, less for long cables; VDD to 3.3 V, not parasitic",
			Buses:  []sensors.BusKind{sensors.BusW1},
			Options: []sensors.Option{
				{Name: "ids", Kind: sensors.OptionStrings, Doc: "names in /sys/bus/w1/devices, such as 28-0316a2795bff; all that are there if not given. One that is missing fails them all: use ds18b20 for each where that matters"},
				{Name: "names", Kind: sensors.OptionMap, Doc: "quantities by id, such as 28-0316a2795bff: inlet; otherwise temperature_ and the id"},
			},
			Claims: func(p sensors.Place) (all []sensors.Claim, err error) {
				ids, _ := p.Options["ids"].([]string)
				for _, id := range ids {
					all = append(all, sensors.ClaimThermometer(p.Bus, id, "ids"))
				}
				if len(ids) == 0 {
					all = []sensors.Claim{{What: sensors.AllThermometers(p.Bus)}}
				}
				return all, nil
			},
			Timeout: 5 * time.Second, // for the common conversion and all readings, or for each that converts by itself
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			ids, _ := options["ids"].([]string)
			if len(ids) == 0 {
				return nil // what is there tells
			}
			return w1Quantities(ids, mapOption(options, "names"))
		},
		Open: openW1,
	}
}

// w1Families are the thermometers' family codes.
var w1Families = []string{"10", "22", "28", "3b", "42"}

const w1Devices = "bus/w1/devices"

func w1Quantities(ids []string, names map[string]string) (q []sensors.Quantity) {
	for _, id := range ids {
		name := names[id]
		if name == "" {
			name = "temperature_" + inTopic(id)
		}
		q = append(q, sensors.Quantity{Name: name, Unit: "°C", Min: -55, Max: 125})
	}
	return q
}

type w1Sensor struct {
	sys        fs.FS
	quantities []sensors.Quantity
	probes     []*ds18b20Sensor
	bulk       []string              // files of the buses that convert all at once; nil if this user may not use them
	read       []sensors.Measurement // of the reading that has begun
	begun      time.Time
}

// w1Stale is how long a reading may take for each thermometer, because the bus was not free, before it begins anew.
const w1Stale = 3 * time.Second

func openW1(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	ids := slices.Clone(stringsOption(c, "ids"))
	if len(ids) == 0 {
		for _, family := range w1Families {
			found, err := fs.Glob(sys, path.Join(w1Devices, family+"-*"))
			if err != nil {
				return nil, err
			}
			for _, dir := range found {
				ids = append(ids, path.Base(dir))
			}
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: no thermometer on the 1-Wire bus: check wiring, and dtoverlay=w1-gpio in config.txt", bus.ErrAbsent)
	}
	s := &w1Sensor{sys: sys, quantities: w1Quantities(ids, mapOption(c.Options, "names"))}
	for _, id := range ids {
		probe, err := openW1Probe(sys, id)
		if err != nil {
			return nil, err
		}
		s.probes = append(s.probes, probe)
	}
	s.bulk, err = fs.Glob(sys, path.Join(w1Devices, "w1_bus_master*", "therm_bulk_read"))
	return s, err
}

func (s *w1Sensor) Quantities() []sensors.Quantity { return s.quantities }

// Sense reads all thermometers. Without a common conversion each of them needs up to 750 ms for its own: then a call
// reads one, so that each has the deadline, however many there are, and the bus is free for others in between.
func (s *w1Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if len(s.read) == 0 || time.Since(s.begun) > time.Duration(len(s.probes))*w1Stale {
		s.read, s.begun = nil, time.Now()
		if err := s.convert(ctx); err != nil {
			return nil, err
		}
	}
	for len(s.read) < len(s.probes) {
		i := len(s.read)
		m, err := s.probes[i].Sense(ctx)
		if err != nil {
			s.read = nil
			return nil, fmt.Errorf("%s: %w", s.quantities[i].Name, err)
		}
		s.read = append(s.read, sensors.Measurement{Quantity: s.quantities[i].Name, Value: m[0].Value, Unit: "°C"})
		if len(s.bulk) == 0 && len(s.read) < len(s.probes) {
			return nil, &sensors.NotYet{Why: fmt.Sprintf("%d of %d thermometers are read", len(s.read), len(s.probes))}
		}
	}
	all := s.read
	s.read = nil
	return all, nil
}

// convert starts a conversion in every thermometer of every bus, and waits for the slowest. A kernel older than 5.8
// cannot: then each converts as it is read.
func (s *w1Sensor) convert(ctx context.Context) error {
	for _, file := range s.bulk {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := bus.WriteFile(s.sys, file, "trigger\n"); errors.Is(err, bus.ErrPermission) {
			s.bulk = nil // not allowed to this user: each converts as it is read
			return nil
		} else if err != nil {
			return err
		}
	}
	for _, file := range s.bulk {
		// -1: at least one still converts; 1: done, and not all were read; 0: nothing is pending.
		if err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
			text, err := bus.ReadFile(s.sys, file)
			return !strings.HasPrefix(text, "-"), err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *w1Sensor) Close() error { return nil }
