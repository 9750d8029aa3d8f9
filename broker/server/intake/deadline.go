package intake

import "time"

// deadline is until when the client has to send: its keep alive for the next whole packet, and a time for
// each step of one that has arrived in part, also without a keep alive.
type deadline struct {
	heard time.Time // when the last whole packet came
	begun time.Time // when a part of the next packet was seen first; zero while there is none
	armed bool      // the connection has a read deadline
	late  bool      // that is for the rest of a packet
}

// Step is how much of a packet has to arrive within the time for it.
const Step = 64 << 10

// next returns the read deadline to set, zero for none, of a client of which part bytes of a packet have arrived. It
// reports whether there is one to set or to take away.
func (d *deadline) next(keepAlive time.Duration, part int, timeout time.Duration) (due time.Time, change bool) {
	if keepAlive > 0 {
		due = d.heard.Add(keepAlive * 3 / 2) // [MQTT-3.1.2-22]
	}
	d.late = false
	if !d.begun.IsZero() {
		rest := time.Duration(1+part/Step) * timeout
		if end := d.begun.Add(rest); due.IsZero() || end.Before(due) {
			due, d.late = end, true
		}
	}
	if due.IsZero() && !d.armed {
		return due, false
	}
	d.armed = !due.IsZero()
	return due, true
}

// Due returns the read deadline to set before a wait, zero for none, and whether there is one to set or to take away: the
// client has one and a half times keepAlive for the next whole packet (0 means none), and timeout for each Step of a packet
// that has begun.
func (r *Reader) Due(keepAlive, timeout time.Duration) (due time.Time, change bool) {
	return r.deadline.next(keepAlive, len(r.buf), timeout)
}

// Late reports whether the deadline that Due has returned last was for the rest of a packet.
func (r *Reader) Late() bool { return r.deadline.late }

// Heard begins the keep alive anew, as Next does with each packet.
func (r *Reader) Heard(at time.Time) { r.deadline.heard = at }
