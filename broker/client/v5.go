package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"

	"holdfast/broker/wire"
)

// inflight is how many messages that came may wait to be handed over. paho keeps a place for each.
const inflight = 100

type client5 struct {
	ending
	paho *paho.Client
}

func connect5(ctx context.Context, opts Options) (Client, error) {
	nc, err := opts.Dial(ctx, opts.URL)
	if err != nil {
		return nil, err
	}
	c := &client5{ending: newEnding()}
	c.paho = paho.NewClient(paho.ClientConfig{
		Conn:          safe(nc),
		Session:       &session{state.NewInMemory(), &c.ending},
		PacketTimeout: opts.Timeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			c.receive(opts.Receive, message5(p.Packet))
			return true, nil
		}},
		OnClientError: func(err error) { c.end(fmt.Errorf("connection lost: %w", err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			r := &Refusal{What: "connection ended by the broker, further service", Code: wire.Code(d.ReasonCode)}
			if d.Properties != nil {
				r.Text = d.Properties.ReasonString
			}
			c.end(r)
		},
	})
	most := uint16(inflight)
	p := &paho.Connect{
		ClientID: opts.ClientID, CleanStart: !opts.Keep, KeepAlive: uint16(opts.KeepAlive / time.Second),
		UsernameFlag: opts.Username != "", Username: opts.Username,
		PasswordFlag: opts.Password != nil, Password: opts.Password,
		Properties: &paho.ConnectProperties{ReceiveMaximum: &most},
	}
	if opts.Expiry > 0 {
		p.Properties.SessionExpiryInterval = &opts.Expiry
	}
	ack, err := c.paho.Connect(ctx, p)
	if ack != nil && ack.ReasonCode >= 0x80 {
		r := &Refusal{What: "connection", Code: wire.Code(ack.ReasonCode)}
		if ack.Properties != nil {
			r.Text = ack.Properties.ReasonString
		}
		return nil, r
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// session acknowledges what was handed over.
type session struct {
	*state.State
	ending *ending
}

func (s *session) Ack(p *packets.Publish) error {
	if !s.ending.handed {
		return nil
	}
	err := s.State.Ack(p)
	s.ending.acknowledged()
	return err
}

// safe lets several goroutines write, as paho does.
func safe(nc net.Conn) net.Conn { return packets.NewThreadSafeConn(nc) }

// whileAlive returns a context that also ends with the connection: paho waits for an answer that cannot come any more.
func (c *client5) whileAlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-c.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// because returns why the connection ended instead of err, if it did.
func (c *client5) because(err error) error {
	select {
	case <-c.lost:
		return c.err
	default:
		return err
	}
}

func (c *client5) Publish(ctx context.Context, m Message) error {
	ctx, cancel := c.whileAlive(ctx)
	defer cancel()
	p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: properties5(m.Properties)}
	r, err := c.paho.Publish(ctx, p)
	switch {
	case r != nil && r.ReasonCode >= 0x80:
		refusal := &Refusal{What: "publish to " + m.Topic, Code: wire.Code(r.ReasonCode)}
		if r.Properties != nil {
			refusal.Text = r.Properties.ReasonString
		}
		return refusal
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("publish to %s: no acknowledgement in time", m.Topic)
	case err != nil:
		return c.because(err)
	}
	return nil
}

func (c *client5) Subscribe(ctx context.Context, subs []Subscription) ([]wire.Code, error) {
	ctx, cancel := c.whileAlive(ctx)
	defer cancel()
	var codes []wire.Code
	for _, s := range subs { // a subscription identifier is the packet's
		p := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{
			Topic: s.Filter, QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling,
		}}}
		if s.ID > 0 {
			p.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &s.ID}
		}
		ack, err := c.paho.Subscribe(ctx, p)
		if ack == nil || len(ack.Reasons) == 0 {
			return nil, fmt.Errorf("subscribe to %s: %w", s.Filter, c.because(err))
		}
		codes = append(codes, wire.Code(ack.Reasons[0]))
	}
	return codes, nil
}

func (c *client5) Close() {
	_ = c.paho.Disconnect(&paho.Disconnect{}) // the connection may be gone
	<-c.paho.Done()
}

func properties5(p Properties) *paho.PublishProperties {
	to := &paho.PublishProperties{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.Correlation}
	if p.Text {
		text := byte(1)
		to.PayloadFormat = &text
	}
	if p.Expires {
		to.MessageExpiry = &p.Expiry
	}
	for _, u := range p.User {
		to.User.Add(u.Name, u.Value)
	}
	return to
}

func message5(p *paho.Publish) Message {
	m := Message{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, ID: p.PacketID}
	from := p.Properties
	if from == nil {
		return m
	}
	m.ContentType, m.ResponseTopic, m.Correlation = from.ContentType, from.ResponseTopic, from.CorrelationData
	m.Text = from.PayloadFormat != nil && *from.PayloadFormat == 1
	if from.MessageExpiry != nil {
		m.Expires, m.Expiry = true, *from.MessageExpiry
	}
	if from.SubscriptionIdentifier != nil {
		m.SubscriptionIDs = []int{*from.SubscriptionIdentifier}
	}
	for _, u := range from.User {
		m.User = append(m.User, UserProperty{u.Key, u.Value})
	}
	return m
}
