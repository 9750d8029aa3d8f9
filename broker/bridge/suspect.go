package bridge

const (
	closings = 2 // connections that ended at the same message, after which it is sent alone
	attempts = 5 // alone, after which it is refused
)

// suspect is a message at which the upstream has closed the connection, again and again. MQTT 3.1.1 has
// no other way to say that it will never take it. Only what the upstream itself ends counts, with
// nothing acknowledged; and once the message is alone in flight, only after the upstream has answered a
// ping, so that a link that breaks is not taken for it.
type suspect struct {
	seq   uint64
	count int
}

// note looks at how a connection has ended.
func (u *suspect) note(s *session, err error) {
	switch {
	case s.acknowledged:
		*u = suspect{}
	case s.oldest == 0 || !closed(err):
	case s.oldest == u.seq:
		u.count++
	default:
		*u = suspect{s.oldest, 1}
	}
}

// alone says whether messages are sent one by one, each after a ping that was answered.
func (u *suspect) alone() bool { return u.count >= closings }

// guilty says whether a message will not be sent any more.
func (u *suspect) guilty(seq uint64) bool { return u.seq == seq && u.count >= closings+attempts }
