package chips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// scanner looks for the first frame in bytes from a serial port and returns it with what follows. It is
// nil if none is complete; rest is then what the next bytes have to be put behind. bad is the error when
// something looked like a frame, and its checksum is wrong.
type scanner func(b []byte) (frame, rest []byte, bad error)

// readFrame reads until there is a frame that wanted takes. What comes before it is skipped: reading may
// have begun in the middle of one. It ends with the time that the port was given.
func readFrame(u *bus.UART, scan scanner, wanted func(frame []byte) bool) ([]byte, error) {
	var buf []byte
	var chunk [64]byte
	wrong := 0
	for {
		frame, rest, bad := scan(buf)
		switch buf = rest; {
		case frame != nil && wanted(frame):
			return frame, nil
		case frame != nil:
			continue
		case bad != nil:
			// The first may be a frame's remains that only look like one.
			if wrong++; wrong == 2 {
				return nil, &sensors.Unreadable{Err: bad} // the port is as it was, and the sensor warm
			}
			continue
		}
		n, err := u.Read(chunk[:])
		if err != nil {
			return nil, err
		}
		buf = append(buf, chunk[:n]...)
	}
}

// dusty is a particle sensor with a fan and a laser. Both need time after they were switched on until
// readings count; and the laser lasts about 8000 hours, so it can be switched off between readings.
type dusty struct {
	*bus.UART
	scan    scanner
	sense   func(frame []byte) ([]sensors.Measurement, bool) // false if it is no measurement
	wake    []byte
	active  [][]byte // has it send measurements by itself, where another program had it send only when asked
	sleep   []byte   // nil: it stays on
	warm    time.Duration
	ready   time.Time // when it is warm
	asleep  bool
	measure []sensors.Measurement
}

// dustOptions are those of both sensors.
func dustOptions() []sensors.Option {
	return []sensors.Option{
		{Name: "sleep", Kind: sensors.OptionBool, Default: false,
			Doc: "switch laser and fan off between readings, for an interval of a minute or more; needs RXD connected"},
		{Name: "warm_up", Kind: sensors.OptionDuration, Default: 30 * time.Second,
			Doc: "how long after opening or waking readings do not count; the makers want 30s"},
	}
}

// checkDust is their rows' Check.
func checkDust(c sensors.Config) error {
	warm := c.Options["warm_up"].(time.Duration)
	if warm < 0 || warm > 10*time.Minute {
		return fmt.Errorf("warm_up: got %v, want 0s to 10m", warm)
	}
	if c.Options["sleep"].(bool) && c.Every < warm+10*time.Second {
		return fmt.Errorf("sleep: readings every %v leave no time to sleep: set every to more than %v", c.Every, warm+10*time.Second)
	}
	return nil
}

// start waits for the first frame after the sensor has been woken.
func (d *dusty) start(ctx context.Context) error {
	d.Begin(ctx)
	if err := d.Flush(); err != nil {
		return err
	}
	for _, command := range append([][]byte{d.wake}, d.active...) {
		if _, err := d.Write(command); err != nil {
			return err
		}
	}
	if err := d.frame(); err != nil {
		return err
	}
	d.ready = time.Now().Add(d.warm)
	d.asleep = false
	return nil
}

// frame reads the next measurement.
func (d *dusty) frame() error {
	_, err := readFrame(d.UART, d.scan, func(f []byte) (ok bool) {
		d.measure, ok = d.sense(f)
		return ok
	})
	return err
}

func (d *dusty) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if d.asleep {
		if err := d.start(ctx); err != nil {
			return nil, err
		}
	}
	if left := time.Until(d.ready); left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "warming up"}
	}
	d.Begin(ctx)
	if err := d.Flush(); err != nil {
		return nil, err
	}
	if err := d.frame(); err != nil {
		return nil, err
	}
	if d.sleep != nil {
		if _, err := d.Write(d.sleep); err != nil {
			return nil, err
		}
		d.asleep = true
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err // a transfer that hung
	}
	return d.measure, nil
}

// openDust opens the port and waits for the first frame.
func openDust(ctx context.Context, c sensors.Config, buses *bus.Set, d *dusty) (sensors.Sensor, error) {
	u, err := buses.UART(c.Bus, 9600)
	if err != nil {
		return nil, err
	}
	d.UART = u
	d.warm = c.Options["warm_up"].(time.Duration)
	if !c.Options["sleep"].(bool) {
		d.sleep = nil
	}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return d, nil
}
