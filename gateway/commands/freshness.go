package commands

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/sensors/outputs"
)

// freshness is what is known of a command's age.
type freshness struct {
	now         time.Time
	clockSynced bool          // whether now can be trusted (adjtimex(2))
	age         time.Duration // since the gateway took the command
	ageKnown    bool
	follows     bool // it is a reading that the output follows
	// since returns how long ago a time by a sender's clock was, if anything is known of that clock; nil knows nothing.
	since func(by string, sent time.Time) (time.Duration, bool)

	// After the journal has lost an unknown number of messages, which commands were carried out is not known.
	forgotten        bool          // the command came before that
	interrupted      bool          // it has happened
	interruptedSince time.Duration // how long ago that was, or less
}

// checkFreshness refuses a command that is too old, or may be. The sender's time decides where there is one; without it
// how long the command was on its way, as far as gateways and brokers on the way have noted that.
func checkFreshness(m *broker.Message, c *outputs.Config, p *commandPayload, once string, f freshness) error {
	way := bridge.ReadDelay(m.Properties)
	sent := p.Time
	if sent == nil && way.Taken != nil { // by another clock than the sender's, which was right
		if sent = way.Taken; !f.clockSynced {
			sent, way.Unknown = nil, true
		}
	}
	says := sent != nil || p.Expires != nil || m.Expires
	switch {
	case m.Retain && !f.follows:
		return errors.New("retained: it would be carried out again at every start: publish commands without retain")
	case m.Retain && sent == nil:
		return errors.New("retained, and without a time: how old it is is not known")
	case f.forgotten:
		return errors.New("it may have been carried out already: the journal has lost an unknown number of messages since it came: send a new one with a new id")
	case !f.ageKnown:
		return errors.New("too old, perhaps: it came before the machine's last start, and the clock was not set then or is not now")
	case f.age > c.CommandExpiry:
		return fmt.Errorf("too old: it came %v ago, want at most %v (command_expiry)", f.age.Round(time.Second), c.CommandExpiry)
	case m.Expires && f.age >= time.Duration(m.Expiry)*time.Second:
		return fmt.Errorf("too old: its message expiry interval of %d s is over", m.Expiry)
	case c.RequireTime && p.Time == nil && p.Expires == nil && !m.Expires:
		return errors.New("it does not say how old it is, want time, expires or a message expiry interval (require_time)")
	case !says && way.Unknown:
		return errors.New("too old, perhaps: it was queued on its way while this gateway or its sender was not connected, and does not say how old it is: " +
			"send it with time, expires or a message expiry interval, or again")
	case !says && f.age+way.AtMost > c.CommandExpiry:
		return fmt.Errorf("too old, perhaps: it was queued on its way for up to %v, want at most %v (command_expiry): send it with time, expires or a message expiry interval, or again",
			way.AtMost.Round(time.Second), c.CommandExpiry)
	}
	age, known := f.sent(p.By, sent)
	if sent != nil {
		switch {
		case !known && (m.Retain || way.Unknown || f.age+way.AtMost > c.CommandExpiry):
			return errors.New("too old, perhaps: the gateway's clock is not set, and nothing fresh has come from this sender yet that would show how its clock goes: send it again")
		case age > c.CommandExpiry:
			return fmt.Errorf("too old: sent %v ago, want at most %v (command_expiry)", age.Round(time.Second), c.CommandExpiry)
		case age < -c.CommandExpiry:
			return fmt.Errorf("sent %v from now: the sender's clock or the gateway's is wrong", -age.Round(time.Second))
		}
	}
	// A sender that sends a command again does so while it is fresh. Of those that are old enough to have come before the
	// journal lost its memory, the ids may be forgotten.
	if once != "" && f.interrupted && f.interruptedSince < c.CommandExpiry && (sent == nil || age >= f.interruptedSince) {
		return fmt.Errorf("id %q: it may have been taken before: the journal has lost an unknown number of messages, %v ago: send a new command with a new id and a time, or after command_expiry (%v)",
			once, f.interruptedSince.Round(time.Second), c.CommandExpiry)
	}
	return f.checkExpires(p, sent, age)
}

// sent returns how long ago a command was sent: by this clock if it is set, else by what is known of the sender's. If
// nothing is, which known reports, that is how long ago it came, or more: a clock that is not set is behind rather than ahead,
// so what is old by it is old.
func (f *freshness) sent(by string, at *time.Time) (age time.Duration, known bool) {
	if at == nil {
		return f.age, false
	}
	age = f.now.Sub(*at)
	if f.clockSynced {
		return age, true
	}
	if f.since != nil {
		if since, known := f.since(by, *at); known {
			return max(since, f.age), true // its clock may have been put forward
		}
	}
	return max(age, f.age), false
}

// checkExpires refuses a command that was not to be carried out any more.
func (f *freshness) checkExpires(p *commandPayload, sent *time.Time, age time.Duration) error {
	expires := p.Expires
	if expires == nil {
		return nil
	}
	left := time.Duration(0)
	switch {
	case f.clockSynced:
		left = expires.Sub(f.now)
	case sent != nil: // both by the sender's clock
		left = expires.Sub(*sent) - age
	default:
		since, known := time.Duration(0), false
		if f.since != nil {
			since, known = f.since(p.By, *expires)
		}
		if !known {
			return errors.New("the gateway's clock is not set, so whether a command with expires and without time is too old is not known")
		}
		left = -since
	}
	if left <= 0 {
		return fmt.Errorf("too old: expired %v ago", -left.Round(time.Second))
	}
	return nil
}

// Bounds of what is known of senders' clocks.
const (
	maxClocks   = 256
	clockWindow = 10 * time.Minute
)

// clocks are the clocks of senders, compared with the time that this process runs: how much later than its time the
// quickest command of a sender has come. A later one that took longer than that was on its way for the difference. Of each
// sender the last 10 to 20 minutes count, so that a clock that is set meanwhile is found right again. It is safe for
// concurrent use.
type clocks struct {
	began time.Time // with the monotonic clock

	mu sync.Mutex
	by map[string]*senderClock
}

type senderClock struct {
	since    time.Duration // when now began, in time that this process runs
	now, old int64         // ms: least difference in this window, and in the one before
	before   bool          // there is one before
}

func newClocks() *clocks { return &clocks{began: time.Now(), by: map[string]*senderClock{}} }

// difference returns how much later than sent, by the sender's clock, a command has come, in ms of no meaning by itself.
func (c *clocks) difference(sent, came time.Time) int64 {
	return came.Sub(c.began).Milliseconds() - (sent.UnixMilli() - c.began.UnixMilli())
}

// note compares a sender's clock by a command that came without having been queued on its way.
func (c *clocks) note(sender string, sent, came time.Time) {
	d, at := c.difference(sent, came), came.Sub(c.began)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.by[sender]
	if s != nil && at-s.since >= 2*clockWindow {
		s = nil
	}
	switch {
	case s == nil:
		if len(c.by) >= maxClocks { // more senders than any site has: begin again
			clear(c.by)
		}
		c.by[sender] = &senderClock{since: at, now: d}
	case at-s.since >= clockWindow:
		*s = senderClock{since: at, now: d, old: s.now, before: true}
	default:
		s.now = min(s.now, d)
	}
}

// since returns how long ago a time of a sender's clock was, if anything has shown how that goes.
func (c *clocks) since(sender string, sent, now time.Time) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.by[sender]
	if s == nil {
		return 0, false
	}
	least := s.now
	if s.before {
		least = min(least, s.old)
	}
	ms := c.difference(sent, now) - least
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(max(-most, min(most, ms))) * time.Millisecond, true
}

// queuedOnTheWay reports whether a command may have been queued before it came, so that it shows nothing of a clock.
func queuedOnTheWay(m *broker.Message) bool {
	way := bridge.ReadDelay(m.Properties)
	return m.Retain || way.Unknown || way.AtMost > 0 || way.Taken != nil
}

// clockSynced reports whether the kernel's clock is synchronised.
func clockSynced() bool {
	_, synced := journal.Now()
	return synced
}
