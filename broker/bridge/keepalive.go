package bridge

import (
	"time"

	"holdfast/broker/wire"
)

const pingTimeout = 20 * time.Second // a slow link has to carry what is before the ping

// keepAlive pings when nothing else is sent or received, and returns for how long nothing has
// to be done about that; alive is false if the link is dead.
func (s *connection) keepAlive(now time.Time) (wait time.Duration, alive bool) {
	heard := s.l.heardAt()
	if s.pinged {
		if s.l.written.Load() < s.pingEnd { // the writer has a deadline of its own
			return pingTimeout, true
		}
		if s.pingAt.IsZero() {
			s.pingAt = s.l.wroteAt()
		}
		wait = pingTimeout - min(now.Sub(s.pingAt), now.Sub(heard))
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
	s.fence = fence{phase: s.refresh.phase, clean: s.owed == 0 && !s.failed}
	s.pinged, s.pingAt, s.pingEnd = true, time.Time{}, s.l.send(&wire.Ping{Type: wire.PINGREQ})
}
