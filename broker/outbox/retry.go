package outbox

import (
	"time"

	"holdfast/broker/backoff"
	"holdfast/broker/journal"
)

// retry holds the messages that the other side did not take and may take later.
type retry struct {
	messages []journal.Delivery // to be sent again before others, at pause
	pause    time.Time          // nothing of the journal is sent before; zero for no pause
	delay    backoff.Backoff    // of pauses
}

func (r *retry) add(d journal.Delivery) {
	r.messages = append(r.messages, d)
	r.pause = time.Now().Add(r.delay.Next())
}

// next takes the first one.
func (r *retry) next() (d journal.Delivery) {
	d, r.messages = r.messages[0], r.messages[1:]
	return d
}
