package chips

import (
	"bytes"
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// sds011 is the Nova SDS011 ("Laser PM2.5 sensor specification", version 1.3, and "Laser dust sensor
// control protocol", version 1.3): ±15 %, and ±10 µg/m³. It is set to report by itself and to work
// continuously, as it leaves the factory: it keeps other settings without power.
func sds011() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "sds011", Doc: "particles in air: mass below 2.5 and 10 µm",
			Chip: "Nova SDS011", Datasheet: "SDS011 specification 1.3, control protocol 1.3",
			Wiring:     "5 V; TXD to the Pi's RXD, with 3.3 V levels; RXD to the Pi's TXD for sleep; or by its USB adapter, as /dev/ttyUSB0; the console must be off the port",
			Buses:      []sensors.BusKind{sensors.BusUART},
			Quantities: []sensors.Quantity{{Name: "pm2_5", Unit: "µg/m³", Max: 999.9}, {Name: "pm10", Unit: "µg/m³", Max: 999.9}},
			Options:    dustOptions(),
			Timeout:    5 * time.Second, // a frame comes every second
		},
		Check: checkDust,
		Open: func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			return openDust(ctx, c, buses, &dusty{
				scan: scanSDS011, wake: sds011Command(6, 1, 1), sleep: sds011Command(6, 1, 0), sense: decodeSDS011,
				active: [][]byte{sds011Command(2, 1, 0), sds011Command(8, 1, 0)}, // report by itself, all the time
			})
		},
	}
}

// sds011Command is a command to whichever sensor there is (control protocol, "Sleep and work"): its data
// is filled up to 13 bytes, and followed by FF FF and the lower byte of the sum from the third byte on.
func sds011Command(data ...byte) []byte {
	b := append([]byte{0xAA, 0xB4}, data...)
	b = append(b, make([]byte, 13-len(data))...)
	b = append(b, 0xFF, 0xFF)
	return append(b, byte(sumBytes(b[2:])), 0xAB)
}

// scanSDS011 finds frames (control protocol): AA, C0 for a measurement or C5 for an answer, six bytes,
// the lower byte of their sum, and AB.
func scanSDS011(b []byte) (frame, rest []byte, bad error) {
	for {
		i := bytes.IndexByte(b, 0xAA)
		if i < 0 {
			return nil, nil, nil
		}
		if b = b[i:]; len(b) < 10 {
			return nil, b, nil
		}
		if b[1] != 0xC0 && b[1] != 0xC5 || b[9] != 0xAB {
			b = b[1:]
			continue
		}
		if got, want := b[8], byte(sumBytes(b[2:8])); got != want {
			return nil, b[1:], checkSum("the frame", uint32(got), uint32(want))
		}
		return b[:10], b[10:], nil
	}
}

// decodeSDS011 takes tenths of µg/m³ out of a measurement, low byte first.
func decodeSDS011(frame []byte) ([]sensors.Measurement, bool) {
	if len(frame) != 10 || frame[1] != 0xC0 {
		return nil, false
	}
	return []sensors.Measurement{
		{Quantity: "pm2_5", Value: float64(le16(frame[2:])) / 10, Unit: "µg/m³"}, {Quantity: "pm10", Value: float64(le16(frame[4:])) / 10, Unit: "µg/m³"},
	}, true
}
