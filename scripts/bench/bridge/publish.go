package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

const (
	payloadSize = 256
	window      = 100  // messages without PUBACK, of all publishers together
	underWay    = 2000 // messages that the upstream has not had yet, where a gateway is not to pile them up
	stall       = 2 * time.Minute
)

// load is one run of publishers, through one gateway, to one sink.
type load struct {
	addr  string
	begun time.Time
	sink  *sink
	pubs  []*publisher
}

// publisher numbers its messages. A message whose acknowledgement did not come before the connection ended
// is not sent again: no publisher was promised anything about it.
type publisher struct {
	l       *load
	who     uint32
	sent    atomic.Uint64
	acked   atomic.Uint64
	unknown []span // what was in flight when a connection ended
}

type span struct{ from, to uint64 }

func newLoad(addr string, publishers int, s *sink) *load {
	l := &load{addr: addr, begun: s.begun, sink: s}
	for i := range publishers {
		l.pubs = append(l.pubs, &publisher{l: l, who: uint32(i)})
	}
	return l
}

// run publishes until stop is closed or each publisher has sent limit more messages (0: no limit). pace is
// the time between two messages of a publisher. ahead bounds what the upstream has not had yet; 0 does not.
func (l *load) run(stop <-chan struct{}, limit uint64, pace time.Duration, ahead uint64) error {
	var work sync.WaitGroup
	errs := make([]error, len(l.pubs))
	for i, p := range l.pubs {
		work.Go(func() { errs[i] = p.run(stop, limit, pace, ahead) })
	}
	work.Wait()
	return errors.Join(errs...)
}

func (l *load) total(of func(*publisher) uint64) (n uint64) {
	for _, p := range l.pubs {
		n += of(p)
	}
	return n
}

func (l *load) sent() uint64  { return l.total(func(p *publisher) uint64 { return p.sent.Load() }) }
func (l *load) acked() uint64 { return l.total(func(p *publisher) uint64 { return p.acked.Load() }) }

var errEnded = errors.New("the gateway ended the connection")

func (p *publisher) run(stop <-chan struct{}, limit uint64, pace time.Duration, ahead uint64) error {
	c, err := connect(p.l.addr, fmt.Sprint("publisher", p.who))
	if err != nil {
		return err
	}
	defer c.Close()
	first := p.sent.Load()
	acks := make(chan int, 1)
	failed := make(chan error, 1)
	go func() { failed <- countAcks(c, acks) }()
	packet := wire.Append(nil, wire.V311, &wire.Publish{
		Topic: fmt.Sprintf("bench/site/device%d/temperature", p.who), Payload: make([]byte, payloadSize), QoS: 1, ID: 1,
	})
	payload := len(packet) - payloadSize
	room := max(1, window/len(p.l.pubs))
	inFlight := 0
	defer func() {
		if inFlight > 0 {
			p.unknown = append(p.unknown, span{p.sent.Load() - uint64(inFlight), p.sent.Load()})
		}
	}()
	var buf []byte
	timer := time.NewTimer(stall)
	for {
		n := room - inFlight
		sent := p.sent.Load()
		if limit > 0 {
			n = min(n, int(limit-(sent-first)))
			if n == 0 && inFlight == 0 {
				return nil
			}
		}
		if pace > 0 {
			n = min(n, 1)
		}
		if ahead > 0 && p.l.sent()+uint64(n) > p.l.sink.received.Load()+ahead {
			n = 0
		}
		select {
		case <-stop:
			if inFlight == 0 {
				return nil
			}
			n = 0
		default:
		}
		buf = buf[:0]
		now := uint64(time.Since(p.l.begun))
		for i := range n {
			binary.BigEndian.PutUint16(packet[payload-2:], uint16((sent+uint64(i))%65535+1))
			binary.BigEndian.PutUint32(packet[payload:], p.who)
			binary.BigEndian.PutUint64(packet[payload+4:], sent+uint64(i))
			binary.BigEndian.PutUint64(packet[payload+12:], now)
			buf = append(buf, packet...)
		}
		p.sent.Add(uint64(n))
		inFlight += n
		if n > 0 {
			if _, err := c.Write(buf); err != nil {
				return errEnded
			}
		}
		if pace > 0 {
			time.Sleep(pace)
		}
		if inFlight == 0 { // held up by what is under way
			time.Sleep(100 * time.Microsecond)
			continue
		}
		timer.Reset(stall)
		select {
		case k := <-acks:
			inFlight -= k
			p.acked.Add(uint64(k))
		case err := <-failed:
			if err != nil {
				return err
			}
			return errEnded
		case <-timer.C:
			return fmt.Errorf("publisher %d: nothing was acknowledged for %v", p.who, stall)
		}
	}
}

// countAcks tells of PUBACKs as they come, several at once. They have to come in the order of sending: that
// is what tells which messages were acknowledged.
func countAcks(c net.Conn, acks chan<- int) error {
	buf := make([]byte, 4096)
	have, last := 0, uint16(0)
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return nil
		}
		have += n
		k := have / 4
		for i := range k {
			a := buf[i*4 : i*4+4]
			id := binary.BigEndian.Uint16(a[2:])
			if a[0] != 0x40 || last != 0 && id != last%65535+1 {
				return fmt.Errorf("got %x, want PUBACK %d", a, last%65535+1)
			}
			last = id
		}
		if k > 0 {
			acks <- k
		}
		have = copy(buf, buf[k*4:have])
	}
}

// connect returns a connection that has been let in.
func connect(addr, id string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	ack := make([]byte, 4)
	c.SetDeadline(time.Now().Add(stall))
	_, err = c.Write(wire.Append(nil, wire.V311, &wire.Connect{Version: wire.V311, ClientID: id, CleanStart: true}))
	if err == nil {
		_, err = io.ReadFull(c, ack)
	}
	if err == nil && (ack[0] != 0x20 || ack[3] != 0) {
		err = fmt.Errorf("CONNACK %x", ack)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}
