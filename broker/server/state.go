package server

import (
	"time"

	"holdfast/broker"
	"holdfast/broker/wire"
)

// maxState is how many bytes of a state are retained. One for each connection bounds them all.
const maxState = 64

// stateTopic is where a client that is another broker's bridge publishes whether it is connected. A stock Mosquitto
// does that for each bridge, with its will there as well, and does not connect where it may not.
func stateTopic(client string) string { return sysRoot + "broker/connection/" + client + "/state" }

// announce handles a client's publish to its own state topic: like all of $SYS it is in memory only, goes to
// no route and to no other broker's bridge, and is acknowledged at once.
func (c *conn) announce(v *wire.Publish, d *scratch) error {
	m := newMessage(v)
	p := newPublication(c.s, &broker.Message{}, d.now)
	p.client.conn, p.client.id, p.client.qos, p.apart = c, v.ID, v.QoS, true
	if v.QoS > 0 {
		repeated, err := c.receive(p)
		if err != nil {
			p.release()
			return err
		}
		if repeated {
			m = nil
		}
	}
	if m != nil {
		c.announced = true
		c.s.publishState(m)
	}
	if v.QoS == 0 {
		p.release()
		return nil
	}
	return c.s.confirm(p, d)
}

// publishState delivers a message on a client's state topic, and retains it in memory if it has RETAIN.
func (s *Server) publishState(m *broker.Message) {
	m.QoS = 0
	p := newPublication(s, m, time.Now())
	p.opts.Here, p.noBridges = true, true
	p.audience.find(s.index.Named(m.Topic))
	if m.Retain && len(m.Payload) <= maxState {
		s.retain(p)
	}
	p.settle(nil, nil)
	p.release()
}

// endState removes the retained message on the state topic of a client that has disconnected, before its will is
// published.
func (s *Server) endState(c *conn) {
	topic := stateTopic(c.session.id)
	if !c.announced && (c.will == nil || c.will.Topic != topic) {
		return
	}
	s.retained.Forget(topic)
}
