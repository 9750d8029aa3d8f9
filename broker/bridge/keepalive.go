package bridge

import (
	"time"

	"holdfast/broker/wire"
)

const pingTimeout = 20 * time.Second // a slow link has to carry what is before the ping

// pings are the PINGREQs of a connection, of which one at a time is on its way.
type pings struct {
	sent  bool      // one is not answered
	again bool      // when it is, another follows: something was sent behind it that an answer is wanted for
	end   uint64    // bytes that have to be written for it to be
	at    time.Time // when they were; zero before
	fence fence     // what the answer shows, of the last one
}

// keepAlive pings when nothing else is sent or received, and returns for how long nothing has
// to be done about that; alive is false if the link is dead.
func (s *connection) keepAlive(now time.Time) (wait time.Duration, alive bool) {
	heard := s.l.heardAt()
	if s.pings.sent {
		if s.l.out.written.Load() < s.pings.end { // the writer has a deadline of its own
			return pingTimeout, true
		}
		if s.pings.at.IsZero() {
			s.pings.at = s.l.wroteAt()
		}
		wait = pingTimeout - min(now.Sub(s.pings.at), now.Sub(heard))
		return wait, wait > 0
	}
	every := s.l.limits.keepAlive
	if every == 0 {
		every = s.b.opts.KeepAlive // the upstream asks for none; the link may be dead all the same
	}
	quiet := max(now.Sub(heard), now.Sub(s.l.wroteAt()))
	if quiet < every {
		return every - quiet, true
	}
	s.ping()
	s.l.flush()
	return pingTimeout, true
}

func (s *connection) ping() {
	s.pings.fence = fence{phase: s.refresh.phase, clean: s.receipts.owed == 0 && s.failure.err == nil, at: time.Now()}
	s.pings.sent, s.pings.at, s.pings.end = true, time.Time{}, s.l.send(&wire.Ping{Type: wire.PINGREQ})
}
