package chips

import (
	"encoding/binary"
	"time"

	"holdfast/sensors"
)

// remember keeps state for a sensor over reopening and restarts, with the time of now. Like all that a Host keeps it is not
// on disk at once.
func remember(c sensors.Config, state []byte) {
	hostOf(c).Remember(c.Name, append(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli())), state...))
}

// recall returns what was remembered, of n bytes, and how old it is by the wall clock. It is nil if there is nothing, or
// something of another size (another driver had the name), or from a time that has not come yet.
func recall(c sensors.Config, n int) (state []byte, age time.Duration) {
	b := hostOf(c).Recall(c.Name)
	if len(b) != 8+n {
		return nil, 0
	}
	age = time.Since(time.UnixMilli(int64(binary.BigEndian.Uint64(b))))
	if age < 0 {
		return nil, 0
	}
	return b[8:], age
}
