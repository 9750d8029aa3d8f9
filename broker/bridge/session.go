package bridge

import (
	"context"
	"fmt"
	"math"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"holdfast/broker"
)

const (
	flightBytes = 1 << 20         // of messages in flight, beside the window; one message may exceed it
	maxStalls   = 1000            // hand-overs that found no taker; each leaves a packet identifier behind
	drain       = 2 * time.Second // for acknowledgements at the end
	reasonWait  = time.Second     // for why the connection was lost, once a message says that it was
)

// session is one connection. Everything happens in the goroutine of run.
type session struct {
	b      *Bridge
	client mqtt.Client
	conn   *conn
	lost   <-chan error

	flight       []sent    // oldest first
	bytes        int       // of messages in flight
	since        time.Time // when the oldest in flight was sent, or became the oldest
	stalls       int
	acknowledged bool
	unreadable   bool      // the journal, at the last attempt
	readAt       time.Time // the next attempt, BackoffMin later, if unreadable
}

// sent is a message in flight.
type sent struct {
	seq   uint64
	size  int
	token mqtt.Token
}

// run sends until the connection or ctx ends, and returns why.
func (s *session) run(ctx context.Context) error {
	reader := s.b.opts.Reader
	reader.Attach()
	timer := time.NewTimer(0) // for the oldest acknowledgement, or for the next attempt to read
	defer timer.Stop()
	always := make(chan struct{})
	close(always)
	for {
		if err := s.settle(); err != nil {
			return err
		}
		more := false
		if s.room() && (!s.unreadable || !time.Now().Before(s.readAt)) {
			var err error
			if more, err = s.sendNext(ctx); err != nil {
				return err
			}
		}
		var ready, oldest <-chan struct{}
		wake := time.Duration(math.MaxInt64)
		switch {
		case more:
			ready = always
		case s.room() && s.unreadable:
			wake = time.Until(s.readAt)
		case s.room():
			ready = reader.Ready()
		}
		if len(s.flight) > 0 {
			oldest = s.flight[0].token.Done()
			wake = min(wake, time.Until(s.since)+s.b.opts.AckTimeout)
		}
		if !more {
			timer.Reset(wake)
		}
		select {
		case <-ctx.Done():
			return s.finish()
		case err := <-s.lost:
			return err
		case m := <-s.b.live:
			if err := s.sendLive(ctx, m); err != nil {
				return err
			}
		case <-ready:
		case <-oldest:
		case <-timer.C:
			if len(s.flight) > 0 && !done(s.flight[0].token) && time.Since(s.since) >= s.b.opts.AckTimeout {
				return fmt.Errorf("no acknowledgement for %v", s.b.opts.AckTimeout)
			}
		}
	}
}

func (s *session) room() bool { return len(s.flight) < s.b.opts.Window && s.bytes < flightBytes }

// sendNext sends or settles the journal's next message. It is false if there is none.
func (s *session) sendNext(ctx context.Context) (more bool, err error) {
	b, reader := s.b, s.b.opts.Reader
	d, ok, err := reader.TryNext()
	if err != nil {
		if !s.unreadable {
			b.log.Error("journal cannot be read; trying again", "every", b.opts.BackoffMin, "error", err)
		}
		s.unreadable, s.readAt = true, time.Now().Add(b.opts.BackoffMin)
		return false, nil
	}
	if s.unreadable {
		b.log.Info("journal can be read again")
		s.unreadable = false
	}
	if !ok {
		return false, nil
	}
	if expired(&d, time.Now()) {
		b.count(func(s *Stats) { s.Expired++ })
		reader.Ack(d.Seq)
		return true, nil
	}
	topic, qos, ok := b.accept(d.Message)
	if !ok {
		reader.Ack(d.Seq)
		return true, nil
	}
	token, err := s.publish(ctx, topic, min(qos, d.QoS, d.Message.QoS), d.Retain, d.Message.Payload)
	if err != nil {
		return false, err
	}
	if len(s.flight) == 0 {
		s.since = time.Now()
	}
	size := len(topic) + len(d.Message.Payload)
	s.flight = append(s.flight, sent{d.Seq, size, token})
	s.bytes += size
	b.count(func(st *Stats) {
		st.Sent++
		if d.Resend {
			st.Resent++
		}
		st.InFlight = len(s.flight)
	})
	return true, nil
}

// sendLive sends a QoS 0 message.
func (s *session) sendLive(ctx context.Context, m *broker.Message) error {
	topic, _, ok := s.b.accept(m)
	if !ok {
		return nil
	}
	_, err := s.publish(ctx, topic, 0, m.Retain, m.Payload)
	s.b.count(func(s *Stats) {
		if err == nil {
			s.QoS0Sent++
		} else {
			s.QoS0Dropped++
		}
	})
	return err
}

// publish hands a message to the connection. While the link is slow it tries again, so that ctx ends
// it within handOver.
func (s *session) publish(ctx context.Context, topic string, qos byte, retain bool, payload []byte) (mqtt.Token, error) {
	for {
		token := s.client.Publish(topic, qos, retain, payload)
		if !done(token) || token.Error() == nil {
			return token, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s.stalls++; s.stalls > maxStalls || !s.client.IsConnectionOpen() {
			return nil, s.reason(token.Error())
		}
	}
}

// settle acknowledges to the journal what the upstream has acknowledged, from the oldest on.
func (s *session) settle() error {
	n := 0
	for ; n < len(s.flight) && done(s.flight[n].token); n++ {
		if err := s.flight[n].token.Error(); err != nil {
			return s.reason(err)
		}
		s.ack(s.flight[n])
	}
	if n > 0 {
		s.flight = s.flight[n:]
		s.since = time.Now()
		s.b.count(func(st *Stats) { st.InFlight = len(s.flight) })
	}
	return nil
}

func (s *session) ack(m sent) {
	s.b.opts.Reader.Ack(m.seq)
	s.bytes -= m.size
	s.acknowledged = true
	s.b.count(func(st *Stats) { st.Acknowledged++ })
}

// finish sends what Deliver has queued and waits for what is in flight.
func (s *session) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for queued := true; queued; {
		select {
		case m := <-s.b.live:
			if err := s.sendLive(ctx, m); err != nil {
				return err
			}
		default:
			queued = false
		}
	}
	for {
		if err := s.settle(); err != nil || len(s.flight) == 0 {
			return err
		}
		select {
		case <-s.flight[0].token.Done():
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end closes the connection. Acknowledgements that came before it, in whatever order, are kept; the
// rest waits on disk.
func (s *session) end() {
	s.client.Disconnect(disconnectTimeout)
	s.conn.Close()
	for _, m := range s.flight {
		if done(m.token) && m.token.Error() == nil {
			s.ack(m)
		}
	}
	s.b.opts.Reader.Detach()
}

// reason prefers why the connection was lost to err, which only says that it was.
func (s *session) reason(err error) error {
	select {
	case why := <-s.lost:
		return why
	case <-time.After(reasonWait):
		return err
	}
}

func done(t mqtt.Token) bool {
	select {
	case <-t.Done():
		return true
	default:
		return false
	}
}
