package sensors

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// NotYet is the error of a Sense whose chip is still measuring or warming up. It is no failure: the
// device is kept and asked again after After, and meanwhile its bus is free for the other sensors. A
// driver that returns it has a limit of its own, after which the chip has failed.
type NotYet struct {
	After time.Duration
	Why   string // "warming up"
}

func (e *NotYet) Error() string {
	return fmt.Sprintf("no reading yet: %s, again in %v", e.Why, e.After)
}

// notYet returns how long to wait, and reports whether err is a NotYet.
func notYet(err error) (time.Duration, bool) {
	var e *NotYet
	if !errors.As(err, &e) {
		return 0, false
	}
	return max(e.After, time.Millisecond), true
}

// SenseWait takes one reading, and waits for a chip that is not ready yet. It is for callers that have
// nothing else to do: one reading for a person, a test.
func SenseWait(ctx context.Context, s Sensor) ([]Measurement, error) {
	for {
		m, err := s.Sense(ctx)
		wait, again := notYet(err)
		if !again {
			return m, err
		}
		if !sleep(ctx, time.Now().Add(wait)) {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
