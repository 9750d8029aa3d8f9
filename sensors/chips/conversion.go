package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// conversion is a measurement that a chip makes by itself while its bus is free for other sensors.
type conversion struct {
	end time.Time // when it should be complete; zero if none runs
}

// conversionStale is how old a result may get, because its bus was not free, before it is measured again.
const conversionStale = time.Second

// await starts a conversion that takes a known time, and returns nil when it is complete, and NotYet
// until then. ready asks the chip, and may be nil for a chip that cannot be asked. After nil, or another
// error, it begins anew.
func (c *conversion) await(ctx context.Context, takes time.Duration, start func() error, ready func() (bool, error)) error {
	if !c.end.IsZero() && time.Since(c.end) > conversionStale+takes {
		c.end = time.Time{}
	}
	if c.end.IsZero() {
		if err := start(); err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err // a transfer that hung
		}
		c.end = time.Now().Add(takes)
	}
	if left := time.Until(c.end); left > 0 {
		return &sensors.NotYet{After: left, Why: "measuring"}
	}
	if ready != nil {
		ok, err := ready()
		// Oscillators may be 10 % slow, and an adapter takes its time.
		late := time.Since(c.end)
		if err == nil && !ok && late <= takes/2+100*time.Millisecond {
			return &sensors.NotYet{After: max(takes/50, 2*time.Millisecond), Why: "measuring"}
		}
		if err == nil && !ok {
			err = fmt.Errorf("%w: the chip does not end its measurement, %v after it should have", bus.ErrTemporary, late.Round(time.Millisecond))
		}
		if err != nil {
			c.end = time.Time{}
			return err
		}
	}
	c.end = time.Time{}
	return nil
}
