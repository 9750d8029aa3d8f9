package chips

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ina3221 is the Texas Instruments INA3221 (data sheet SBOS576B): voltage up to 26 V, current by the
// voltage across a shunt (up to ±163.8 mV), and power, in three channels. The voltage is that of the
// load's side.
func ina3221() sensors.Driver {
	d := sensors.Driver{
		Spec: sensors.Spec{
			Name: "ina3221", Doc: "voltage, current and power of up to three channels",
			Chip: "Texas Instruments INA3221", Datasheet: "SBOS576B",
			Wiring: "VS 3.3 V (2.7 to 5.5 V); SDA, SCL with pull-ups to 3.3 V; a shunt between IN+ and IN- of each channel, up to 26 V; A0 at GND 0x40, VS 0x41, SDA 0x42, SCL 0x43",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x40, 0x41, 0x42, 0x43},
			Options: []sensors.Option{
				{Name: "channels", Kind: sensors.OptionString, Default: "1,2,3", Doc: "those in use",
					Allowed: []string{"1,2,3", "1,2", "1,3", "2,3", "1", "2", "3"}},
				{Name: "average", Kind: sensors.OptionInt, Default: int64(16), Min: 1, Max: 256, Doc: "conversions of 1.1 ms to average: 1, 4, 16, 64, 128 or 256; others are rounded up"},
			},
			Timeout: 2 * time.Second,
		},
		Identify: identifyINA("INA3221", 0x3220, 0),
		Open:     openINA3221,
	}
	for n := 1; n <= 3; n++ {
		d.Quantities = append(d.Quantities,
			sensors.Quantity{Name: fmt.Sprint("voltage_", n), Unit: "V", Max: 32.76}, sensors.Quantity{Name: fmt.Sprint("current_", n), Unit: "A", Min: -16384, Max: 16384},
			sensors.Quantity{Name: fmt.Sprint("power_", n), Unit: "W", Min: -540e3, Max: 540e3})
		d.Options = append(d.Options, sensors.Option{Name: fmt.Sprintf("shunt_%d", n), Kind: sensors.OptionFloat, Default: 0.1,
			Min: 0.00001, Max: 100, Doc: fmt.Sprintf("resistance of channel %d's shunt, in Ω", n)})
	}
	all := d.Quantities
	d.QuantitiesOf = func(options map[string]any) (q []sensors.Quantity) {
		return slices.DeleteFunc(slices.Clone(all), func(q sensors.Quantity) bool {
			return !strings.Contains(options["channels"].(string), q.Name[len(q.Name)-1:])
		})
	}
	return d
}

// Registers of 16 bits, high byte first (data sheet, register maps): from 1 on, shunt and bus of each channel, in bits
// 15:3 of two's complement, of 40 µV and 8 mV.
const (
	ina3221Config = 0x00
	ina3221Mask   = 0x0F // CVRF is bit 0
)

type ina3221Sensor struct {
	*chip
	conversion
	channels []int
	shunts   [4]float64 // Ω
	config   uint16
	takes    time.Duration
}

func openINA3221(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if err := checkINA(ctx, ch, 0x3220, 0); err != nil {
		return nil, err
	}
	avg, n := inaConfig(c.Options["average"].(int64))
	// 1.1 ms for both voltages (4 in bits 8:6 and 5:3); one conversion each, then power down (3 in bits 2:0).
	s := &ina3221Sensor{chip: ch, config: avg<<9 | 4<<6 | 4<<3 | 3}
	for n := 1; n <= 3; n++ {
		s.shunts[n] = c.Options[fmt.Sprintf("shunt_%d", n)].(float64)
		if strings.Contains(c.Options["channels"].(string), fmt.Sprint(n)) {
			s.channels = append(s.channels, n)
			s.config |= 1 << (15 - n) // CH1en to CH3en are bits 14 to 12
		}
	}
	s.takes = time.Duration(n*int64(len(s.channels))) * 2200 * time.Microsecond
	return s, nil
}

func (s *ina3221Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	// Writing the configuration starts a conversion and clears CVRF (data sheet, mask/enable register).
	start := func() error {
		return s.write(ctx, ina3221Config, byte(s.config>>8), byte(s.config))
	}
	err := s.await(ctx, s.takes, start, func() (bool, error) {
		mask, err := s.read16(ctx, ina3221Mask)
		return mask&1 != 0, err
	})
	if err != nil {
		return nil, err
	}
	var all []sensors.Measurement
	for _, n := range s.channels {
		shunt, err := s.read16(ctx, byte(2*n-1))
		if err != nil {
			return nil, err
		}
		bus, err := s.read16(ctx, byte(2*n))
		if err != nil {
			return nil, err
		}
		count := int64(int16(shunt) >> 3)
		if count == 4095 || count == -4096 {
			return nil, overRange(fmt.Sprintf("the current of channel %d is beyond the range", n), "above %.3g A it needs a smaller shunt", 0.1638/s.shunts[n])
		}
		for _, m := range inaMeasurements(count, 40e-6, int64(int16(bus)>>3), 8e-3, s.shunts[n]) {
			m.Quantity = fmt.Sprintf("%s_%d", m.Quantity, n)
			all = append(all, m)
		}
	}
	// A chip that lost its power meanwhile holds zeros, and other settings.
	if config, err := s.read16(ctx, ina3221Config); err != nil {
		return nil, err
	} else if config != s.config {
		return nil, sensors.ErrRestarted
	}
	return all, nil
}

func (s *ina3221Sensor) Close() error { return nil }
