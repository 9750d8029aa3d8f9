package chips

import (
	"context"
	"fmt"
	"math/bits"
	"regexp"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// mcp3008 is the Microchip MCP3008 (data sheet DS21295), an ADC of 10 bits: ±1 count, of 3.2 mV with a
// reference of 3.3 V. What the voltage stands for is said by scale and offset.
func mcp3008() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "mcp3008", Doc: "voltage of one input of eight, or the difference of two, with 10 bits; or what it stands for",
			Chip: "Microchip MCP3008, MCP3004 (inputs 0 to 3)", Datasheet: "DS21295D",
			Wiring:     "VDD and VREF 3.3 V; CLK, DIN (MOSI), DOUT (MISO) and CS (CE0 or CE1); inputs between 0 V and VREF",
			Buses:      []sensors.BusKind{sensors.BusSPI},
			Quantities: []sensors.Quantity{{Name: "voltage", Unit: "V"}},
			Options: []sensors.Option{
				{Name: "channel", Kind: sensors.OptionString, Default: "0", Doc: "input, or the difference of two; a negative one reads as 0",
					Allowed: []string{"0", "1", "2", "3", "4", "5", "6", "7", "0-1", "1-0", "2-3", "3-2", "4-5", "5-4", "6-7", "7-6"}},
				{Name: "reference", Kind: sensors.OptionFloat, Default: 3.3, Min: 0.25, Max: 5.5, Doc: "voltage at VREF, in V"},
				{Name: "quantity", Kind: sensors.OptionString, Default: "voltage", Doc: "what is measured, in lower case"},
				{Name: "unit", Kind: sensors.OptionString, Default: "V", Doc: "its unit"},
				{Name: "scale", Kind: sensors.OptionFloat, Default: 1.0, Doc: "units per V"},
				{Name: "offset", Kind: sensors.OptionFloat, Default: 0.0, Doc: "units at 0 V"},
			},
			Timeout: time.Second,
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			return []sensors.Quantity{{Name: options["quantity"].(string), Unit: options["unit"].(string)}}
		},
		Check: func(c sensors.Config) error {
			if q := c.Options["quantity"].(string); !quantityName.MatchString(q) {
				return fmt.Errorf("quantity: got %q, want lower case letters, digits and _, such as soil_moisture", q)
			}
			if c.Options["scale"].(float64) == 0 {
				return fmt.Errorf("scale: got 0, want units per V")
			}
			return nil
		},
		Open: openMCP3008,
	}
}

var quantityName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

type mcp3008Sensor struct {
	*chip
	command        []byte
	quantity, unit string
	perCount       float64 // units
	offset         float64
}

func openMCP3008(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	// At 2.7 V the clock may be 1.35 MHz (electrical characteristics).
	dev, err := buses.SPIDevice(c.Bus, physic.MegaHertz, spi.Mode0)
	if err != nil {
		return nil, err
	}
	channel := c.Options["channel"].(string)
	s := &mcp3008Sensor{
		chip: &chip{Device: dev, name: "MCP3008"}, command: mcp3008Command(len(channel) == 1, channel[0]-'0'),
		quantity: c.Options["quantity"].(string), unit: c.Options["unit"].(string),
		// The code is 1024 times input over reference (equation 4-2).
		perCount: c.Options["reference"].(float64) / 1024 * c.Options["scale"].(float64), offset: c.Options["offset"].(float64),
	}
	if _, err := s.Sense(ctx); err != nil {
		dev.Close()
		return nil, err
	}
	return s, nil
}

func (s *mcp3008Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	b, err := s.tx(ctx, s.command, len(s.command))
	if err == nil {
		err = context.Cause(ctx) // a transfer that hung
	}
	if err != nil {
		return nil, err
	}
	count, err := mcp3008Count([5]byte(b))
	if err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: s.quantity, Value: float64(count)*s.perCount + s.offset, Unit: s.unit}}, nil
}

// mcp3008Command asks for a conversion: a start bit, SGL/DIFF, D2, D1 and D0 (data sheet DS21295,
// table 5-2), placed so that the null bit and the ten bits of the answer end with the third byte (figure
// 6-1). Two more bytes of clock have the chip send the answer again, backwards (figure 5-2).
func mcp3008Command(single bool, channel byte) []byte {
	b := channel << 4
	if single {
		b |= 0x80
	}
	return []byte{1, b, 0, 0, 0}
}

// mcp3008Count takes the count out of an answer. The chip has no checksum; the null bit and the second
// copy show an answer that no chip, or a disturbed one, has given. A line held low looks like 0.
func mcp3008Count(b [5]byte) (uint16, error) {
	count := uint16(b[1]&3)<<8 | uint16(b[2])
	// Bit 0 is the last of the first copy and the first of the second: then come bits 1 to 9, and zeros.
	second := bits.Reverse16(uint16(b[3])<<8 | uint16(b[4]))
	switch {
	case b[1]&4 != 0:
		return 0, fmt.Errorf("%w: the null bit is not null: check wiring and chip select", bus.ErrAbsent)
	case count>>1 != second:
		return 0, fmt.Errorf("%w: the answer is %#03x forwards and %#03x backwards", bus.ErrTemporary, count, second<<1|count&1)
	}
	return count, nil
}
