package intake

import (
	"testing"
	"time"
)

// TestDeadline: when a client has to have sent something, and which of the two limits that is.
func TestDeadline(t *testing.T) {
	const timeout = 30 * time.Second
	begun := time.Now()
	after := func(d time.Duration) time.Time { return begun.Add(d) }
	for name, test := range map[string]struct {
		d         deadline
		keepAlive time.Duration
		part      int
		due       time.Time
		change    bool
		late      bool
	}{
		"none":                             {d: deadline{heard: begun}},
		"none any more":                    {d: deadline{heard: begun, armed: true}, change: true},
		"keep alive":                       {d: deadline{heard: begun}, keepAlive: 10 * time.Second, due: after(15 * time.Second), change: true},
		"a part, without a keep alive":     {d: deadline{heard: begun, begun: after(time.Second)}, part: 1, due: after(31 * time.Second), change: true, late: true},
		"a part, before the keep alive":    {d: deadline{heard: begun, begun: begun}, keepAlive: time.Minute, part: 1, due: after(timeout), change: true, late: true},
		"the keep alive, before the part":  {d: deadline{heard: begun, begun: begun, late: true}, keepAlive: 10 * time.Second, part: 1, due: after(15 * time.Second), change: true},
		"a part that has grown by a step":  {d: deadline{heard: begun, begun: begun}, part: Step, due: after(2 * timeout), change: true, late: true},
		"a part that lacks a byte of that": {d: deadline{heard: begun, begun: begun}, part: Step - 1, due: after(timeout), change: true, late: true},
	} {
		due, change := test.d.next(test.keepAlive, test.part, timeout)
		if !due.Equal(test.due) || change != test.change || test.d.late != test.late || test.d.armed != !test.due.IsZero() {
			t.Errorf("%s: due %v, change %v, late %v, armed %v; want %v, %v, %v", name, due, change, test.d.late, test.d.armed, test.due, test.change, test.late)
		}
	}
}
