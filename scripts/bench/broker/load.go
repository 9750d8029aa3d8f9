package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

const (
	payloadSize = 256
	window0     = 2000 // QoS 0: messages that the slowest subscriber has not received yet, of all publishers
	window1     = 100  // QoS 1: without PUBACK, of all publishers, but at least a burst of each
	warm        = 200  // connections before idle ones are counted
	stall       = 10 * time.Second
)

type result struct {
	rate     float64 // messages received a second, by all subscribers
	cpu      float64 // µs a received message
	p50, p99 time.Duration
	lost     int64
	disorder int64
}

// load is one measurement under way.
type load struct {
	scenario
	burst int // messages in one write of a publisher
	addr  string
	begun time.Time
	stop  atomic.Bool
	acked atomic.Int64 // PUBACKs

	sent []int64 // by publisher; written by it
	subs []*subscriber
	fail chan error
}

type subscriber struct {
	conn     net.Conn
	r        *bufio.Reader
	received atomic.Int64
	next     []uint64 // by publisher
	disorder int64
	delays   []time.Duration
	ended    chan struct{}
}

func measure(kind string, s scenario, burst int, d time.Duration, profile string) (r result, err error) {
	if profile != "" {
		profile = filepath.Join(profile, strings.NewReplacer(" ", "-", ",", "").Replace(s.name)+".pprof")
	}
	p, err := start(kind, profile)
	if err != nil {
		return r, err
	}
	defer p.stop()
	l := &load{scenario: s, burst: burst, addr: p.addr, sent: make([]int64, s.publishers), fail: make(chan error, 100)}
	l.begun = time.Now()
	for i := range s.subscribers {
		sub, err := l.subscribe(fmt.Sprint("subscriber", i))
		if err != nil {
			return r, err
		}
		defer sub.conn.Close()
		l.subs = append(l.subs, sub)
	}
	var work sync.WaitGroup
	for i := range s.publishers {
		c, err := connect(p.addr, fmt.Sprint("publisher", i), true)
		if err != nil {
			return r, err
		}
		defer c.Close()
		work.Go(func() {
			if err := l.publish(c, i); err != nil {
				l.fail <- fmt.Errorf("publisher: %w", err)
			}
		})
	}
	select { // the first second warms up
	case err := <-l.fail:
		return r, err
	case <-time.After(min(time.Second, d/2)):
	}
	before, cpu := l.received(), time.Duration(0)
	if cpu, err = p.CPU(); err != nil {
		return r, err
	}
	begun := time.Now()
	select {
	case err := <-l.fail:
		return r, err
	case <-time.After(d):
	}
	after, err := p.CPU()
	if err != nil {
		return r, err
	}
	n := float64(l.received() - before)
	r.rate, r.cpu = n/time.Since(begun).Seconds(), float64((after-cpu).Microseconds())/n
	l.stop.Store(true)
	work.Wait()
	l.settle(&r)
	return r, nil
}

func (l *load) received() (n int64) {
	for _, s := range l.subs {
		n += s.received.Load()
	}
	return n
}

func (l *load) slowest() int64 {
	n := l.subs[0].received.Load()
	for _, s := range l.subs[1:] {
		n = min(n, s.received.Load())
	}
	return n
}

// settle waits until everything has arrived or nothing comes any more, and counts.
func (l *load) settle(r *result) {
	var sent int64
	for _, n := range l.sent {
		sent += n
	}
	for last, quiet := int64(-1), 0; l.slowest() < sent && quiet < 20; {
		time.Sleep(50 * time.Millisecond)
		if n := l.received(); n == last {
			quiet++
		} else {
			last, quiet = n, 0
		}
	}
	var delays []time.Duration
	for _, s := range l.subs {
		s.conn.Close()
		<-s.ended
		r.lost += max(0, sent-s.received.Load())
		r.disorder += s.disorder
		delays = append(delays, s.delays...)
	}
	slices.Sort(delays)
	if n := len(delays); n > 0 {
		r.p50, r.p99 = delays[n/2], delays[n*99/100]
	}
}

func connect(addr, id string, clean bool) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(wire.Append(nil, wire.V311, &wire.Connect{Version: wire.V311, ClientID: id, CleanStart: clean})); err != nil {
		return nil, err
	}
	ack := make([]byte, 4)
	c.SetReadDeadline(time.Now().Add(stall))
	if _, err := readFull(c, ack); err != nil {
		return nil, fmt.Errorf("CONNACK: %w", err)
	}
	if ack[0] != 0x20 || ack[3] != 0 {
		return nil, fmt.Errorf("CONNACK %x", ack)
	}
	c.SetReadDeadline(time.Time{})
	return c, nil
}

func readFull(c net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := c.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (l *load) subscribe(id string) (*subscriber, error) {
	c, err := connect(l.addr, id, !l.durable)
	if err != nil {
		return nil, err
	}
	s := &subscriber{
		conn: c, r: bufio.NewReaderSize(c, 64<<10), next: make([]uint64, l.publishers), ended: make(chan struct{}),
	}
	if _, err := c.Write(wire.Append(nil, wire.V311, &wire.Subscribe{
		ID: 1, Subscriptions: []wire.Subscription{{Filter: "bench/#", QoS: l.qos}},
	})); err != nil {
		return nil, err
	}
	ack := make([]byte, 5)
	if _, err := readFull(c, ack); err != nil || ack[0] != 0x90 || ack[4] != l.qos {
		return nil, fmt.Errorf("SUBACK %x, %v", ack, err)
	}
	go func() {
		defer close(s.ended)
		if err := s.read(l); err != nil && !l.stop.Load() && !errors.Is(err, net.ErrClosed) {
			l.fail <- fmt.Errorf("subscriber: %w", err)
		}
	}()
	return s, nil
}

// read counts messages, acknowledges those of QoS 1, and looks at their order and age.
func (s *subscriber) read(l *load) error {
	var acks []byte
	for {
		if s.r.Buffered() == 0 && len(acks) > 0 {
			if _, err := s.conn.Write(acks); err != nil {
				return err
			}
			acks = acks[:0]
		}
		head, err := s.r.Peek(2)
		if err != nil {
			return err
		}
		size, header := int(head[1]&0x7f), 2
		if head[1] >= 0x80 {
			if head, err = s.r.Peek(3); err != nil {
				return err
			}
			size, header = size|int(head[2])<<7, 3
		}
		first := head[0]
		p, err := s.r.Peek(header + size)
		if err != nil {
			return err
		}
		if first>>4 != 3 {
			return fmt.Errorf("unexpected packet %x", p)
		}
		body := p[header:]
		at := 2 + int(binary.BigEndian.Uint16(body))
		if first>>1&3 == 1 {
			acks = append(acks, 0x40, 2, body[at], body[at+1])
			at += 2
		}
		s.take(l, body[at:])
		s.r.Discard(header + size)
	}
}

// take looks at a payload: publisher, number, and when it was sent.
func (s *subscriber) take(l *load, b []byte) {
	who, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
	if n != s.next[who] {
		s.disorder++
	}
	s.next[who] = n + 1
	if c := s.received.Add(1); c%64 == 0 && len(s.delays) < 1<<20 {
		s.delays = append(s.delays, time.Since(l.begun)-time.Duration(binary.BigEndian.Uint64(b[12:])))
	}
}

// publish keeps a window of messages under way until stop.
func (l *load) publish(c net.Conn, who int) error {
	p := wire.Publish{Topic: fmt.Sprintf("bench/site/device%d/temperature", who), Payload: make([]byte, payloadSize), QoS: l.qos, ID: 1}
	one := wire.Append(nil, wire.V311, &p)
	at, idAt := len(one)-payloadSize, len(one)-payloadSize-2
	var buf []byte
	n := l.burst
	for range n {
		buf = append(buf, one...)
	}
	acks := make(chan int, 1)
	var acked int64
	if l.qos > 0 {
		go countAcks(c, acks)
	}
	var sent int64
	id := uint16(0)
	for quiet := time.Now(); !l.stop.Load(); {
		// At QoS 1 both windows hold: a broker need not keep everything for a clean session either.
		free := (window0 - l.underWay()) / int64(l.publishers)
		unacked := l.qos > 0 && sent-acked+int64(n) > max(int64(n), window1/int64(l.publishers))
		if unacked || free < int64(n) {
			if time.Since(quiet) > stall {
				return fmt.Errorf("nothing moves: %d sent, %d acknowledged", sent, acked)
			}
			if !unacked {
				time.Sleep(100 * time.Microsecond)
				continue
			}
			select {
			case n, ok := <-acks:
				if !ok {
					return errors.New("connection ended")
				}
				acked += int64(n)
			case <-time.After(stall):
			}
			continue
		}
		quiet = time.Now()
		now := uint64(time.Since(l.begun))
		for i := range n {
			m := buf[i*len(one):]
			if l.qos > 0 {
				if id++; id == 0 {
					id = 1
				}
				binary.BigEndian.PutUint16(m[idAt:], id)
			}
			binary.BigEndian.PutUint32(m[at:], uint32(who))
			binary.BigEndian.PutUint64(m[at+4:], uint64(sent))
			binary.BigEndian.PutUint64(m[at+12:], now)
			sent++
		}
		atomic.StoreInt64(&l.sent[who], sent)
		if _, err := c.Write(buf[:n*len(one)]); err != nil {
			return err
		}
	}
	return nil
}

// underWay is how many messages the slowest subscriber has not received yet.
func (l *load) underWay() (n int64) {
	for i := range l.sent {
		n += atomic.LoadInt64(&l.sent[i])
	}
	return n - l.slowest()
}

// countAcks tells of PUBACKs as they come, several at once.
func countAcks(c net.Conn, acks chan<- int) {
	defer close(acks)
	buf := make([]byte, 4096)
	rest := 0
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		rest += n
		if k := rest / 4; k > 0 {
			acks <- k
			rest %= 4
		}
	}
}

// measureIdle connects n clients that do nothing and returns what each costs the broker.
func measureIdle(kind string, n int) (int64, error) {
	p, err := start(kind, "")
	if err != nil {
		return 0, err
	}
	defer p.stop()
	var before int64
	for i := range warm + n {
		if i == warm { // what the broker needs at all, and once, is there
			time.Sleep(500 * time.Millisecond)
			if before, err = p.RSS(); err != nil {
				return 0, err
			}
		}
		c, err := connect(p.addr, fmt.Sprint("idle", i), true)
		if err != nil {
			return 0, err
		}
		defer c.Close()
	}
	time.Sleep(time.Second)
	after, err := p.RSS()
	return (after - before) / int64(n), err
}
