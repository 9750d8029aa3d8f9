package chips

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// pms5003 is the Plantower PMS5003 ("PMS5003 series data manual", version 2.3): ±10 µg/m³ up to 100
// µg/m³, and ±10 % above. Masses are computed by it from counts, and are what the maker's aerosol would
// weigh.
func pms5003() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "pms5003", Doc: "particles in air: mass below 1, 2.5 and 10 µm, and counts above six sizes",
			Chip: "Plantower PMS5003, PMS7003, PMSA003", Datasheet: "PMS5003 series data manual, version 2.3",
			Wiring: "VCC 5 V; TXD to the Pi's RXD, with 3.3 V levels; RXD to the Pi's TXD for sleep; SET and RESET may stay open; the console must be off the port",
			Buses:  []sensors.BusKind{sensors.BusUART},
			Quantities: []sensors.Quantity{
				{Name: "pm1", Unit: "µg/m³", Max: 5000}, {Name: "pm2_5", Unit: "µg/m³", Max: 5000}, {Name: "pm10", Unit: "µg/m³", Max: 5000},
				{Name: "particles_0_3", Unit: "1/l", Max: 655350}, {Name: "particles_0_5", Unit: "1/l", Max: 655350}, {Name: "particles_1", Unit: "1/l", Max: 655350},
				{Name: "particles_2_5", Unit: "1/l", Max: 655350}, {Name: "particles_5", Unit: "1/l", Max: 655350}, {Name: "particles_10", Unit: "1/l", Max: 655350},
			},
			Options: append(dustOptions(), sensors.Option{Name: "factory", Kind: sensors.OptionBool, Default: false,
				Doc: "use the values for a factory (CF=1) in place of those for the atmosphere"}),
			Timeout: 6 * time.Second, // a frame comes every 0.2 to 2.3 s
		},
		Check: checkDust,
		Open: func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			factory := c.Options["factory"].(bool)
			return openDust(ctx, c, buses, &dusty{
				scan: scanPMS5003, wake: pms5003Command(0xE4, 1), sleep: pms5003Command(0xE4, 0),
				active: [][]byte{pms5003Command(0xE1, 1)},
				sense:  func(frame []byte) ([]sensors.Measurement, bool) { return decodePMS5003(frame, factory) },
			})
		},
	}
}

// pms5003Command is a command of appendix II of the manual: its bytes up to the last two are summed up.
func pms5003Command(code byte, data uint16) []byte {
	b := []byte{0x42, 0x4D, code, byte(data >> 8), byte(data)}
	sum := sumBytes(b)
	return append(b, byte(sum>>8), byte(sum))
}

func sumBytes(b []byte) (sum uint16) {
	for _, v := range b {
		sum += uint16(v)
	}
	return sum
}

// scanPMS5003 finds frames (appendix I): 42 4D, the length of what follows, data, and the sum of all
// bytes before. Measurements have 28 bytes there, answers to commands 4.
func scanPMS5003(b []byte) (frame, rest []byte, bad error) {
	for {
		i := bytes.IndexByte(b, 0x42)
		if i < 0 {
			return nil, nil, nil
		}
		if b = b[i:]; len(b) < 4 {
			return nil, b, nil
		}
		n := int(be16(b[2:]))
		if b[1] != 0x4D || n != 28 && n != 4 {
			b = b[1:]
			continue
		}
		if len(b) < 4+n {
			return nil, b, nil
		}
		frame = b[:4+n]
		if got, want := be16(frame[2+n:]), sumBytes(frame[:2+n]); got != want {
			return nil, b[1:], checkSum("the frame", uint32(got), uint32(want))
		}
		return frame, b[4+n:], nil
	}
}

// decodePMS5003 takes the words out of a measurement (appendix I): masses for a factory, masses for the
// atmosphere, and counts in 0.1 l.
func decodePMS5003(frame []byte, factory bool) ([]sensors.Measurement, bool) {
	if len(frame) != 32 {
		return nil, false
	}
	word := func(i int) float64 { return float64(be16(frame[4+2*i:])) }
	first := 3
	if factory {
		first = 0
	}
	var m []sensors.Measurement
	for i, q := range []string{"pm1", "pm2_5", "pm10"} {
		m = append(m, sensors.Measurement{Quantity: q, Value: word(first + i), Unit: "µg/m³"})
	}
	for i, size := range []string{"0_3", "0_5", "1", "2_5", "5", "10"} {
		m = append(m, sensors.Measurement{Quantity: fmt.Sprint("particles_", size), Value: 10 * word(6+i), Unit: "1/l"})
	}
	return m, true
}
