package server

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

const (
	forever       = math.MaxUint32 // Session Expiry Interval of a session that does not expire
	maxAliases    = 32             // topic aliases that a client may set
	maxAliasBytes = 8 << 10        // of the topics that it has set aliases for
	maxClientID   = 1024           // bytes
)

// connectV5 is how the body of a CONNECT of 5.0 begins.
var connectV5 = []byte("\x00\x04MQTT\x05")

// connect reads the CONNECT packet and answers it.
func (c *conn) connect() error {
	p, size, err := c.readConnect()
	if err != nil {
		return err
	}
	c.peer.read(p, &c.s.opts)
	if err := c.checkConnect(p); err != nil {
		return err
	}
	var answer wire.Connack
	if p.ClientID == "" {
		p.ClientID = "holdfast-" + rand.Text()
		answer.Properties.AssignedClientID = &p.ClientID // [MQTT-3.2.2-16]
	}
	if c.peer.keepAlive != time.Duration(p.KeepAlive)*time.Second {
		answer.Properties.ServerKeepAlive = ptr(uint16(c.peer.keepAlive / time.Second)) // [MQTT-3.2.2-21]
	}
	if v := p.Properties.RequestResponseInfo; v != nil && *v == 1 && c.s.opts.ResponseInfo != "" {
		answer.Properties.ResponseInfo = ptr(strings.ReplaceAll(c.s.opts.ResponseInfo, "%c", p.ClientID))
	}
	if code, err := c.login(p, size); err != nil {
		return c.refuse(code, err.Error())
	}
	if c.peer.publisher = "user " + c.user(); c.user() == "" {
		c.peer.publisher = "client " + p.ClientID
	}
	quota := c.s.opts.MaxInflight
	if v := p.Properties.ReceiveMaximum; v != nil {
		quota = min(quota, int(*v))
	}
	present, err := c.s.enter(c, p, quota)
	if err != nil {
		var refused *wire.Error
		if errors.As(err, &refused) {
			return c.refuse(refused.Code, refused.Text)
		}
		return c.refuse(wire.QuotaExceeded, err.Error())
	}
	if capped := c.s.expiry(p); p.Version == wire.V5 && capped != expiry(p) {
		answer.Properties.SessionExpiry = &capped // section 3.2.2.3.2
	}
	c.in.Limit(c.s.opts.MaxPacket)
	if p.Will != nil {
		c.will = &will{Will: p.Will, client: p.ClientID, user: c.user(), counted: true, grant: c.peer.grant}
		if err := c.in.Pause(); err != nil {
			return err
		}
		c.s.storeWill(c.will)
		c.in.Resume()
	}
	c.s.counts.connects.Add(1)
	answer.SessionPresent = present
	c.limits(&answer.Properties)
	return c.accept(&answer)
}

// readConnect returns the first packet, which has to be a CONNECT, and the size of its body.
func (c *conn) readConnect() (*wire.Connect, int, error) {
	raw, err := c.next()
	var first wire.Packet
	var tooLarge *wire.Error
	if err == nil {
		first, err = raw.Packet(wire.V311)
	} else if errors.As(err, &tooLarge) && tooLarge.Code == wire.PacketTooLarge {
		c.s.limits.Reached(limits.ConnectPacket, "connection closed: its first packet is larger than a CONNECT may be", "remote", c.remote(), "most", c.in.Most())
	}
	c.s.mu.Lock()
	c.s.conns.arrived(c)
	c.s.mu.Unlock()
	if err != nil {
		v, ok := err.(*wire.Error)
		switch {
		case ok && v.Code == wire.UnsupportedVersion:
			return nil, 0, c.refuse(wire.UnsupportedVersion, v.Text) // [MQTT-3.1.2-2]
		case ok && bytes.HasPrefix(raw.Body, connectV5) && raw.Type() == wire.CONNECT:
			c.peer.version = wire.V5
			return nil, 0, c.refuse(v.Code, v.Text) // section 4.13.1; 3.1.1 has no return code for it
		}
		return nil, 0, err
	}
	p, ok := first.(*wire.Connect)
	if !ok {
		return nil, 0, errors.New("first packet is not a CONNECT") // [MQTT-3.1.0-1]
	}
	return p, len(raw.Body), nil
}

// checkConnect refuses a CONNECT that no login could make good.
func (c *conn) checkConnect(p *wire.Connect) error {
	switch {
	case p.Properties.AuthMethod != nil:
		return c.refuse(wire.BadAuthenticationMethod, "no authentication method is supported")
	case p.Will != nil && c.s.index.Check(p.Will.Topic) != nil:
		why := fmt.Sprintf("its will cannot be published: %v", c.s.index.Check(p.Will.Topic))
		if c.peer.version != wire.V5 { // after a return code the client would try again, and never with success
			return &wire.Error{Code: wire.TopicNameInvalid, Text: why}
		}
		return c.refuse(wire.TopicNameInvalid, why)
	case p.Will != nil && isSys(p.Will.Topic) && p.Will.Topic != stateTopic(p.ClientID):
		return c.refuse(wire.NotAuthorized, "its will may not be published to $SYS")
	case p.ClientID == "" && !p.CleanStart && p.Version != wire.V5:
		return c.refuse(wire.ClientIDNotValid, "an empty client identifier needs a clean session") // [MQTT-3.1.3-8]
	case len(p.ClientID) > maxClientID:
		return c.refuse(wire.ClientIDNotValid, fmt.Sprintf("client identifier of %d bytes, want at most %d", len(p.ClientID), maxClientID))
	}
	return nil
}

// accept queues the CONNACK of a client that has its session, and lets goroutines write to it.
func (c *conn) accept(answer *wire.Connack) error {
	c.mu.Lock()
	if c.phase.reason == nil { // no more that of the CONNECT
		c.nc.SetDeadline(time.Time{})
	}
	b := wire.Append(nil, c.peer.version, answer)
	if !c.peer.takes(len(b)) {
		c.mu.Unlock()
		return &wire.Error{Code: wire.PacketTooLarge, Text: fmt.Sprintf("CONNACK of %d bytes, the client takes %d", len(b), c.peer.maxPacket)}
	}
	c.out.prepend(b)
	c.phase.connected = true
	c.in.Heard(time.Now())
	if c.phase.reason != nil { // taken over before it was answered
		c.disconnect(wire.SessionTakenOver, "")
		c.end()
	}
	c.writer.begin()
	c.mu.Unlock()
	c.wake()
	return nil
}

// limits sets the properties of the CONNACK of a 5.0 client that have the server's limits.
func (c *conn) limits(p *wire.Properties) {
	p.ReceiveMaximum = ptr(uint16(c.s.opts.MaxInflight))
	p.MaximumPacketSize = ptr(uint32(c.s.opts.MaxPacket))
	p.TopicAliasMaximum = ptr(uint16(maxAliases))
}

func ptr[T any](v T) *T { return &v }

// refuse answers a CONNECT with a failure; the caller ends the connection [MQTT-3.2.2-7].
func (c *conn) refuse(code wire.Code, text string) error {
	c.s.counts.refusals.count(wire.CONNACK, code)
	c.phase.refused = true
	c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	answer := &wire.Connack{Code: code, Properties: wire.Properties{ReasonString: &text}}
	b := wire.Append(nil, c.peer.version, answer)
	if !c.peer.takes(len(b)) {
		answer.Properties = wire.Properties{} // [MQTT-3.2.2-19]
		b = wire.Append(nil, c.peer.version, answer)
	}
	if c.peer.takes(len(b)) {
		_, err := c.nc.Write(b)
		c.phase.hasLastWord = err == nil
	}
	return &wire.Error{Code: code, Text: text}
}

// expiry returns the session's lifetime after its connection, in seconds.
func expiry(p *wire.Connect) uint32 {
	switch {
	case p.Version != wire.V5 && p.CleanStart:
		return 0 // ends with the connection [MQTT-3.1.2-6 of 3.1.1]
	case p.Version != wire.V5:
		return forever
	case p.Properties.SessionExpiry != nil:
		return *p.Properties.SessionExpiry
	}
	return 0
}

// expiry returns the lifetime that the server grants.
func (s *Server) expiry(p *wire.Connect) uint32 { return s.capExpiry(expiry(p)) }

// capExpiry returns a session's lifetime, limited to MaxExpiry.
func (s *Server) capExpiry(seconds uint32) uint32 {
	most := s.opts.MaxExpiry / time.Second
	if most > 0 && time.Duration(seconds) > most {
		return uint32(most)
	}
	return seconds
}

// willWeight returns the bytes that a will counts in Options.MaxWills. It is in memory twice: as a packet and as the
// journal's state.
func willWeight(w *wire.Will) int64 {
	if w == nil {
		return 0
	}
	return int64(256 + 2*(len(w.Topic)+len(w.Payload)+len(w.Forward)))
}

// dropWill gives back what a will counts in Options.MaxWills.
func (s *Server) dropWill(user string, w *wire.Will) {
	if w != nil {
		s.wills.Give(user, willWeight(w))
	}
}

// enter binds c to the session of its client, ending the connection that has it [MQTT-3.1.4-3].
func (s *Server) enter(c *conn, p *wire.Connect, quota int) (present bool, err error) {
	for {
		present, old, due, err := s.bind(c, p, quota)
		c.catchUp()
		for _, w := range due {
			s.publishWill(w)
		}
		if old == nil {
			return present, err
		}
		old.kick(wire.SessionTakenOver)
		<-old.ended
	}
}

// bind is enter, unless another connection has the session: then it returns that. The wills in due are to be published.
func (s *Server) bind(c *conn, p *wire.Connect, quota int) (present bool, old *conn, due []*will, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false, nil, nil, errors.New("shutting down")
	}
	if c.peer.grant.Revoked() { // since login; from here on Reauthorize finds the connection
		return false, nil, nil, &wire.Error{Code: wire.BadUserNameOrPassword, Text: "the user was deleted or has a new password"}
	}
	if err := c.revoked(); err != nil { // since the handshake
		c.later(func() { c.noteRevoked(err) })
		return false, nil, nil, &wire.Error{Code: wire.NotAuthorized, Text: "the certificate is revoked"}
	}
	x := s.sessions.byID[p.ClientID]
	if x != nil && !x.mayBeTaken(c) {
		s.counts.loginsRefused.Add(1)
		owner := x.owner.who.String()
		c.later(func() {
			c.logger().Warn("login refused: the session of this client identifier belongs to another; choose another identifier",
				"client", p.ClientID, "login", c.peer.grant.Owner().String(), "owner", owner)
		})
		return false, nil, nil, &wire.Error{Code: wire.NotAuthorized, Text: "this client identifier is in use by another user"}
	}
	if x != nil {
		if old := x.conn.Load(); old != nil {
			return false, old, nil, nil
		}
	}
	if err := s.admitConnection(c); err != nil {
		return false, nil, nil, err
	}
	if err := s.takeWill(c, x, p); err != nil {
		return false, nil, nil, err
	}
	defer func() {
		if err != nil {
			s.dropWill(c.user(), p.Will)
		}
	}()
	if x != nil {
		w := x.stopTimers()
		if p.CleanStart {
			if w != nil {
				due = append(due, w)
			}
			s.discard(x, reasonCleanStart) // [MQTT-3.1.2-4]
			x = nil
		} else {
			s.forgetWill(w) // back before its delay was over [MQTT-3.1.3-9]
		}
	}
	expiry := s.expiry(p)
	if present = x != nil; !present {
		w, err := s.admit(c, expiry > 0)
		if w != nil {
			due = append(due, w)
		}
		if err != nil {
			return false, nil, due, err
		}
		x, err = s.newSession(p.ClientID, c.user(), expiry > 0)
		if err != nil {
			return false, nil, due, err
		}
	}
	x.belong(c.user())
	x.owner.set(c.peer.grant)
	if err := x.setExpiry(expiry); err != nil {
		if !present {
			s.discard(x, reasonEnded)
		}
		s.stateRefused(err, p.ClientID, "session is not made")
		return false, nil, due, err
	}
	c.session = x
	s.sessions.tally.connect(x.user, 1)
	x.attach(c, quota)
	return present, nil, due, nil
}

// takeWill counts the will of a client in place of the one that waits in its session x, which may be nil. Called
// with mu held.
func (s *Server) takeWill(c *conn, x *session, p *wire.Connect) error {
	var old *will
	if x != nil {
		old = x.away.will
		s.uncount(old)
	}
	refused := s.wills.Take(c.user(), willWeight(p.Will))
	if refused == "" {
		return nil
	}
	if old != nil {
		old.counted = true
		s.wills.Add(old.user, willWeight(old.Will))
	}
	c.later(func() {
		s.limits.Reached(refused, "login refused: the wills of clients take too much memory", "remote", c.remote(), "client", p.ClientID, "user", c.user(), "will_bytes", len(p.Will.Payload))
	})
	return errors.New("too much memory is taken by wills: see broker.limits.wills")
}

// leave unbinds c from its session, which ends now or when it expires, and sees to the will. While the server shuts
// down the will stays in the journal, and is published when the next process begins.
func (s *Server) leave(c *conn) {
	x := c.session
	s.mu.Lock()
	s.sessions.tally.connect(x.user, -1)
	if lost := x.detach(); lost > 0 {
		c.later(func() {
			s.limits.Reached(limits.QueuedTotal, "deliveries that a client has not answered are given up: only memory had them, and it is short", "client", x.id, "messages", lost)
		})
		defer c.catchUp()
	}
	x.away.left = time.Now()
	if s.closing {
		s.mu.Unlock()
		return
	}
	due := c.will
	if due != nil && due.Delay > 0 && x.away.expiry > 0 {
		x.delayWill(due)
		due = nil
	}
	if x.away.expiry == 0 {
		s.discard(x, reasonEnded)
	} else {
		x.scheduleExpiry()
	}
	s.mu.Unlock()
	s.endState(c)
	s.publishWill(due)
}
