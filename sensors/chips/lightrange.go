package chips

import (
	"fmt"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// lightRange is the range of a light sensor that is in use, of several from insensitive to sensitive.
type lightRange struct {
	step    int
	changes int // for this reading
}

// move looks whether a count is too low or too high for its range, and moves on to the most sensitive one
// in which there would be no more than most counts. per is how many counts the same light gives in each
// range, relative to each other. It is nil when the count is right, or as right as can be, and NotYet
// when it has to be measured again.
func (l *lightRange) move(count, least, most uint16, saturated bool, per []float64) error {
	to := l.step
	switch {
	case saturated:
		to = 0
	case count > most, count < least:
		to = 0
		for i := range per {
			if (float64(count)+1)*per[i]/per[l.step] <= float64(most) {
				to = i
			}
		}
	}
	if to == l.step {
		l.changes = 0
		return nil
	}
	l.step = to
	if l.changes++; l.changes > 2*len(per) {
		return fmt.Errorf("%w: the light changes faster than it can be measured", bus.ErrTemporary)
	}
	return &sensors.NotYet{Why: "choosing a range"}
}
