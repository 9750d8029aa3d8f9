package journal

import "time"

// Date returns when a message was appended, by the wall clock as it is now: that may have been wrong then. For
// a time that the wall clock got right it is the same from call to call.
func (j *Journal) Date(t Time) time.Time {
	at := time.Now().Round(0).Add(-j.Waited(t))
	if at.Sub(t.Wall).Abs() < time.Second {
		return t.Wall
	}
	return at.Round(time.Second)
}
