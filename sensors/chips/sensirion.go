package chips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// askSensirion sends a command to a Sensirion chip and reads its answer of n words after it has had the
// time to make it. A chip that is not ready refuses its address; the end is only if it still does after
// three times that time.
func askSensirion(ctx context.Context, c *chip, command []byte, n int, ready time.Duration) ([]uint16, error) {
	if err := c.write(ctx, command...); err != nil {
		return nil, err
	}
	for end := time.Now().Add(3 * ready); ; {
		if err := wait(ctx, ready); err != nil {
			return nil, err
		}
		answer, err := c.tx(ctx, nil, 3*n)
		if err == nil {
			return wordsSensirion(answer)
		}
		if !errors.Is(err, bus.ErrAbsent) {
			return nil, err
		}
		if !time.Now().Before(end) {
			return nil, fmt.Errorf("%w: the chip took the command and gives no answer: it hangs, or was unplugged", bus.ErrTemporary)
		}
		ready = max(ready/8, time.Millisecond)
	}
}

// breakSensirion ends the periodic mode that another program may have left an SHT3x in, where it refuses all other commands
// (data sheet, "Break command"). One that does not measure may refuse it; whether a chip is there at all shows afterwards.
func breakSensirion(ctx context.Context, c *chip) error {
	if err := c.write(ctx, sensirion(0x3093)...); err != nil && !errors.Is(err, bus.ErrAbsent) {
		return err
	}
	return wait(ctx, 2*time.Millisecond) // it takes 1 ms
}

// sensirion is a command of 16 bits and its arguments, each with its checksum.
func sensirion(command uint16, words ...uint16) []byte {
	b := []byte{byte(command >> 8), byte(command)}
	for _, w := range words {
		b = appendSensirion(b, w)
	}
	return b
}

// airSensirion converts the two words of a measurement: the data sheets of SHT3x and SHT4x,
// section "Conversion of signal output", have the temperature in common. The humidity is cut off at 0 and 100 %, beyond
// which the SHT4x's formula leads.
func airSensirion(words []uint16, rh0, rhSpan float64) []sensors.Measurement {
	t := -45 + 175*float64(words[0])/65535 // °C
	rh := min(max(rh0+rhSpan*float64(words[1])/65535, 0), 100)
	return []sensors.Measurement{{Quantity: "temperature", Value: t, Unit: "°C"}, {Quantity: "humidity", Value: rh, Unit: "%"}}
}
