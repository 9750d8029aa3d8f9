package sensors

import (
	"context"
	"errors"
	"time"

	"holdfast/sensors/bus"
)

// ReadOnce opens a sensor, takes one reading as supervision does it, calibrated and checked, and closes
// it. It waits for a chip that warms up, as long as ctx allows. Filter and report do nothing with one
// reading.
func ReadOnce(ctx context.Context, c Config, d *Driver, buses *bus.Set) ([]Reading, error) {
	settle(&c, d)
	p := &supervised{config: c, driver: d, opts: &SupervisorOptions{Buses: buses}, pipes: map[string]*pipe{}}
	defer p.close()
	for {
		call, cancel := WithRunTime(ctx, c.Timeout, timeoutError(c.Timeout))
		o := p.call(call, true)
		cancel()
		if wait, again := notYet(o.err); again {
			if !sleep(ctx, time.Now().Add(wait)) {
				return nil, errors.Join(context.Cause(ctx), o.err)
			}
			continue
		}
		if o.err != nil {
			return nil, o.err
		}
		values, err := p.convert(o.measurements, o.at)
		if err != nil {
			return nil, err
		}
		var readings []Reading
		for i, m := range o.measurements {
			readings = append(readings, p.reading(m, values[i], o.timeOf(m)))
		}
		return readings, nil
	}
}
