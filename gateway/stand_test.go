package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// arrival is a message as a consumer at the service finds it.
type arrival struct {
	topic  string
	bytes  int
	retain bool
}

// stand is a service that a test's gateway takes for the real one: it has its name, and its rules.
type stand struct {
	service
	t    *testing.T
	dir  string // the gateway's /etc/holdfast
	came chan arrival

	mu          sync.Mutex
	connections int
}

func (s *stand) password() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("hunter%d", s.connections)
}

// renew puts the password of the next connection where the gateway reads it.
func (s *stand) renew() error {
	s.mu.Lock()
	s.connections++
	s.mu.Unlock()
	return os.WriteFile(filepath.Join(s.dir, "cloud.password"), []byte(s.password()+"\n"), 0o600)
}

// session answers one connection. A violation of the rules fails the test; the end after a retained message
// is the service's own, as when a token has ended.
func (s *stand) session() brokertest.Answer {
	return func(state *tls.ConnectionState, p wire.Packet) ([]wire.Packet, error) {
		var answer []wire.Packet
		var err error
		switch p := p.(type) {
		case *wire.Connect:
			err = s.connect(state, p)
			answer = []wire.Packet{&wire.Connack{Properties: s.connack()}}
		case *wire.Subscribe:
			if len(p.Subscriptions) != 1 || s.in == "" || p.Subscriptions[0].Filter != s.in || p.Subscriptions[0].QoS > 1 {
				err = fmt.Errorf("it may not subscribe to %+v", p.Subscriptions)
			}
			down := strings.TrimSuffix(s.in, "#") + "%24.mid=1"
			answer = []wire.Packet{&wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: []wire.Code{1}}, &wire.Publish{Topic: down, QoS: 1, ID: 1, Payload: []byte("open")}}
		case *wire.Publish:
			var a arrival
			a, err = s.publish(p)
			answer = []wire.Packet{&wire.Ack{Type: wire.PUBACK, ID: p.ID}}
			if err == nil && strings.HasSuffix(a.topic, "/kept/once") {
				err = brokertest.ErrHangUp
				if e := s.renew(); e != nil {
					s.t.Error(e)
				}
			}
			s.came <- a
		}
		if err != nil && !errors.Is(err, brokertest.ErrHangUp) {
			s.t.Errorf("%s: %v", s.host, err)
		}
		return answer, err
	}
}

func (s *stand) connack() (p wire.Properties) {
	if s.version == wire.V5 {
		most, qos := uint16(100), byte(1)
		p.ReceiveMaximum, p.MaximumQoS = &most, &qos
	}
	return p
}

func (s *stand) connect(state *tls.ConnectionState, c *wire.Connect) error {
	host, _, _ := strings.Cut(s.host, ":")
	switch {
	case state.ServerName != host:
		return fmt.Errorf("SNI %q", state.ServerName)
	case state.NegotiatedProtocol != s.alpn:
		return fmt.Errorf("ALPN %q, want %q", state.NegotiatedProtocol, s.alpn)
	case c.Version != s.version:
		return fmt.Errorf("MQTT version %d, want %d", c.Version, s.version)
	case c.ClientID != device:
		return fmt.Errorf("client identifier %q", c.ClientID)
	case c.KeepAlive < s.least || c.KeepAlive > s.most:
		return fmt.Errorf("keep alive %d, want %d to %d", c.KeepAlive, s.least, s.most)
	}
	if err := s.will(c.Will); err != nil {
		return fmt.Errorf("will %+v: %w", c.Will, err)
	}
	return s.login(s, c)
}

func (s *stand) will(w *wire.Will) error {
	if w == nil || s.noWill {
		if (w == nil) != s.noWill {
			return fmt.Errorf("allowed: %v", !s.noWill)
		}
		return nil
	}
	a, err := s.publish(&wire.Publish{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain})
	if want := s.prefix + "status/" + device; err == nil && (a.topic != want || string(w.Payload) != "offline" || w.Retain != s.retain) {
		err = fmt.Errorf("want offline on %s, retained: %v", want, s.retain)
	}
	return err
}

func (s *stand) publish(p *wire.Publish) (a arrival, err error) {
	a = arrival{p.Topic, len(p.Payload), p.Retain}
	if s.name != nil {
		if a.topic, err = s.name(p.Topic); err != nil {
			return a, err
		}
	}
	switch {
	case p.QoS > 1:
		return a, fmt.Errorf("QoS %d", p.QoS)
	case p.Retain && !s.retain:
		return a, errors.New("RETAIN is set")
	case p.Retain && s.kept > 0 && len(p.Payload) > s.kept:
		return a, fmt.Errorf("a retained message of %d bytes", len(p.Payload))
	case s.payload > 0 && len(p.Payload) > s.payload, s.name != nil && len(p.Payload)+len(p.Topic) > s.payload:
		return a, fmt.Errorf("a message of %d bytes", len(p.Payload))
	case s.topic > 0 && len(p.Topic) > s.topic:
		return a, fmt.Errorf("a topic of %d bytes", len(p.Topic))
	case s.slashes > 0 && strings.Count(p.Topic, "/") > s.slashes:
		return a, fmt.Errorf("a topic of %d slashes", strings.Count(p.Topic, "/"))
	}
	return a, nil
}
