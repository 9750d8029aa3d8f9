package bridge

import (
	"bytes"
	"time"

	"holdfast/broker/wire"
)

// User properties of a message that was queued on its way.
const (
	replayedProperty = "holdfast-replayed" // by a gateway that sent it upstream late: true
	takenProperty    = "holdfast-taken"    // beside it: when that gateway took it (RFC 3339), if its clock was right
	queuedProperty   = "holdfast-queued"   // by the upstream while this gateway was not connected: for at most that long, such as 12s, or unknown

	queuedUnknown = "unknown"
)

// Delay is what the properties of a message show of the time that it was queued on its way to this gateway. The zero
// value is that of a message that was not.
type Delay struct {
	Unknown bool          // it was queued, and nothing shows for how long
	AtMost  time.Duration // it was queued for no longer than that
	Taken   *time.Time    // when a gateway on the way took it, whose clock was right; nil if none has noted that
}

// ReadDelay returns the delay that Message.Properties show. What is damaged counts as unknown.
func ReadDelay(properties []byte) (d Delay) {
	if !bytes.Contains(properties, []byte("holdfast-")) {
		return d
	}
	f, err := wire.ParseForward(properties)
	if err != nil {
		return Delay{Unknown: true}
	}
	replayed := false
	for _, u := range f.User {
		switch u.Name {
		case replayedProperty:
			replayed = true
		case takenProperty:
			if t, err := time.Parse(time.RFC3339, u.Value); err == nil && (d.Taken == nil || t.Before(*d.Taken)) {
				d.Taken = &t
			}
		case queuedProperty:
			most, err := time.ParseDuration(u.Value)
			if err != nil || most < 0 {
				d.Unknown = true
				continue
			}
			d.AtMost += most
		}
	}
	d.Unknown = d.Unknown || replayed && d.Taken == nil
	return d
}

// backlog is what is known of the messages that the upstream has queued for this gateway while it was not connected.
type backlog struct {
	sending bool      // the upstream may still be sending them
	since   time.Time // all of an earlier time has come; zero if that is not known
	host    string    // the upstream of which this is known
}

// begin is called with a connection, before anything is received by it.
func (b *backlog) begin(host string, present bool, now time.Time) {
	switch b.sending = present; {
	case !present:
		b.since = now // a new session: nothing is queued
	case host != b.host:
		b.since = time.Time{}
	}
	b.host = host
}

// settled is called when all that the upstream had queued at a time has come.
func (b *backlog) settled(at time.Time) { b.sending, b.since = false, at }

// mark adds what is known of the age of a message that may have been queued to its properties.
func (b *backlog) mark(properties []byte, now time.Time) []byte {
	if !b.sending {
		return properties
	}
	most := queuedUnknown
	if !b.since.IsZero() {
		most = (now.Sub(b.since).Truncate(time.Second) + time.Second).String()
	}
	return wire.AppendUser(bytes.Clone(properties), queuedProperty, []byte(most))
}
