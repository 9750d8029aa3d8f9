package server_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

const (
	killSessions   = 50
	killWindow     = 20 // publishes in flight of a publisher
	killEvery      = 400
	killDir        = "HOLDFAST_KILL_DIR"
	killPublishers = 4 // half of them at QoS 1, half at QoS 2
)

func TestMain(m *testing.M) {
	dir := os.Getenv(killDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := runVictim(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runVictim is the broker that TestKill kills.
func runVictim(dir string) error {
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		return err
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 512 << 20})
	if err != nil {
		return err
	}
	s, err := server.New(server.Options{Journal: j, Anonymous: true, Listeners: []server.Listener{{Network: "tcp", Address: "127.0.0.1:0"}}})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { fmt.Printf("listening %s\n", s.Addrs()[0]) }()
	return errors.Join(s.Run(ctx), j.Close())
}

// victim is a broker process that can be killed.
type victim struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	addr string
}

func (v *victim) start() {
	v.t.Helper()
	v.cmd = exec.Command(os.Args[0])
	v.cmd.Env = append(os.Environ(), killDir+"="+v.dir)
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	v.cmd.Stderr = os.Stderr
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			v.addr = addr
			return
		}
	}
	v.t.Fatal("the broker did not start")
}

func (v *victim) end(s os.Signal) {
	v.cmd.Process.Signal(s)
	v.cmd.Wait()
}

// peer is a client that lives on when its connection ends.
type peer struct {
	conn net.Conn
	in   *wire.Reader
}

func (p *peer) connect(addr, id string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	p.conn, p.in = conn, wire.NewReader(conn, 0)
	conn.SetDeadline(time.Now().Add(time.Minute))
	if err := p.send(&wire.Connect{Version: wire.V311, ClientID: id}); err != nil {
		return err
	}
	ack, err := p.in.ReadPacket()
	if err != nil {
		return err
	}
	if a, ok := ack.(*wire.Connack); !ok || a.Code != 0 {
		return fmt.Errorf("got %s", brokertest.Describe(ack))
	}
	return nil
}

func (p *peer) send(packets ...wire.Packet) error {
	var b []byte
	for _, x := range packets {
		b = wire.Append(b, wire.V311, x)
	}
	_, err := p.conn.Write(b)
	return err
}

// killSubscriber remembers what it got. Its QoS 2 state lives as long as its session.
type killSubscriber struct {
	peer
	id       string
	qos      byte
	held     map[uint16]bool
	last     [killPublishers]uint64 // highest number got
	missing  [killPublishers]uint64 // numbers that had not come when a higher one did: lost, or out of order
	repeated [killPublishers]uint64 // at QoS 2, numbers that had come before
}

// read takes messages until the connection ends, or everything up to the given numbers has come.
func (s *killSubscriber) read(until *[killPublishers]uint64) error {
	for until == nil || !s.has(until) {
		p, err := s.in.ReadPacket()
		if err != nil {
			return err
		}
		switch p := p.(type) {
		case *wire.Publish:
			err = s.take(p)
		case *wire.Ack:
			delete(s.held, p.ID)
			err = s.send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *killSubscriber) has(until *[killPublishers]uint64) bool {
	for i := range until {
		if s.last[i] < until[i] {
			return false
		}
	}
	return len(s.held) == 0
}

func (s *killSubscriber) take(p *wire.Publish) error {
	who, n := binary.BigEndian.Uint32(p.Payload), binary.BigEndian.Uint64(p.Payload[4:])
	isNew := p.QoS < 2 || !s.held[p.ID]
	switch last := s.last[who]; {
	case !isNew:
	case n == last+1:
		s.last[who] = n
	case n > last:
		s.missing[who] += n - last - 1
		s.last[who] = n
	case p.QoS == 2:
		s.repeated[who]++
	}
	if p.QoS == 2 {
		s.held[p.ID] = true
		return s.send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
	}
	return s.send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
}

// killPublisher numbers its messages from 1. What was not acknowledged is sent again, in order.
type killPublisher struct {
	peer
	who    int
	qos    byte
	next   uint64
	flying []flying
	acked  atomic.Uint64 // the broker has all up to it
}

type flying struct {
	n        uint64
	id       uint16
	received bool // PUBREC has come
}

func (p *killPublisher) packet(f flying, dup bool) wire.Packet {
	if f.received {
		return &wire.Ack{Type: wire.PUBREL, ID: f.id}
	}
	payload := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(p.who)), f.n)
	return &wire.Publish{Topic: fmt.Sprint("load/", p.who), Payload: append(payload, make([]byte, 100)...), QoS: p.qos, ID: f.id, Dup: dup}
}

// run publishes until the connection ends, or enough is acknowledged and nothing is in flight.
func (p *killPublisher) run(enough func() bool) error {
	for _, f := range p.flying {
		if err := p.send(p.packet(f, true)); err != nil {
			return err
		}
	}
	for {
		for len(p.flying) < killWindow && !enough() {
			p.next++
			f := flying{n: p.next, id: uint16(p.next%60000 + 1)}
			p.flying = append(p.flying, f)
			if err := p.send(p.packet(f, false)); err != nil {
				return err
			}
		}
		if len(p.flying) == 0 {
			return nil
		}
		got, err := p.in.ReadPacket()
		if err != nil {
			return err
		}
		a, ok := got.(*wire.Ack)
		if !ok {
			return fmt.Errorf("got %s", brokertest.Describe(got))
		}
		for i := range p.flying {
			f := &p.flying[i]
			if f.id != a.ID {
				continue
			}
			if a.Type == wire.PUBREC {
				f.received = true
				p.acked.Store(max(p.acked.Load(), f.n))
				if err := p.send(&wire.Ack{Type: wire.PUBREL, ID: f.id}); err != nil {
					return err
				}
				break
			}
			p.acked.Store(max(p.acked.Load(), f.n))
			p.flying = append(p.flying[:i], p.flying[i+1:]...)
			break
		}
	}
}

// TestKill kills the broker with SIGKILL while publishers publish and half of 50 persistent sessions
// read. No session may miss a message, acknowledged or not, since publishers send again what was not; the
// order has to be kept; and what goes all the way at QoS 2 may not come twice.
func TestKill(t *testing.T) {
	kills := 2
	if s := os.Getenv("HOLDFAST_CRASH_KILLS"); s != "" {
		kills, _ = strconv.Atoi(s)
	}
	v := &victim{t: t, dir: t.TempDir()}
	v.start()
	defer func() { v.end(syscall.SIGKILL) }()
	var subs []*killSubscriber
	for i := range killSessions {
		s := &killSubscriber{id: fmt.Sprint("session", i), qos: byte(1 + i%2), held: map[uint16]bool{}}
		if err := s.connect(v.addr, s.id); err != nil {
			t.Fatal(err)
		}
		if err := s.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "load/#", QoS: s.qos}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.in.ReadPacket(); err != nil {
			t.Fatal(err)
		}
		s.conn.Close()
		subs = append(subs, s)
	}
	var pubs [killPublishers]*killPublisher
	for i := range pubs {
		pubs[i] = &killPublisher{who: i, qos: byte(1 + i%2)}
	}
	acked := func() (n uint64) {
		for _, p := range pubs {
			n += p.acked.Load()
		}
		return n
	}
	for round := range kills {
		var work sync.WaitGroup
		target := acked() + killEvery
		reached := make(chan struct{})
		var once sync.Once
		for i, s := range subs {
			if (i+round)%4 >= 2 {
				continue // away this time
			}
			work.Go(func() {
				if s.connect(v.addr, s.id) == nil {
					s.read(nil)
				}
			})
		}
		for _, p := range pubs {
			work.Go(func() {
				if p.connect(v.addr, fmt.Sprint("publisher", p.who)) == nil {
					p.run(func() bool {
						if acked() >= target {
							once.Do(func() { close(reached) })
						}
						return false
					})
				}
			})
		}
		select {
		case <-reached:
		case <-time.After(time.Minute):
			t.Fatalf("round %d: %d acknowledged, want %d", round, acked(), target)
		}
		v.end(syscall.SIGKILL)
		work.Wait()
		for _, s := range subs {
			if s.conn != nil {
				s.conn.Close()
			}
		}
		v.start()
	}
	for _, p := range pubs { // what is in flight gets its acknowledgement
		if err := p.connect(v.addr, fmt.Sprint("publisher", p.who)); err != nil {
			t.Fatal(err)
		}
		if err := p.run(func() bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	var want [killPublishers]uint64
	for i, p := range pubs {
		want[i] = p.next
	}
	for _, s := range subs {
		if err := s.connect(v.addr, s.id); err != nil {
			t.Fatal(err)
		}
		err := s.read(&want)
		if err != nil || s.missing != [killPublishers]uint64{} {
			t.Errorf("%s: %v; got up to %d of %d, %d lost or out of order", s.id, err, s.last, want, s.missing)
		}
		for i := range s.repeated {
			if s.qos == 2 && pubs[i].qos == 2 && s.repeated[i] > 0 {
				t.Errorf("%s: %d messages of publisher %d came twice at QoS 2", s.id, s.repeated[i], i)
			}
		}
		s.conn.Close()
	}
	t.Logf("%d kills, %d sessions, %d messages", kills, killSessions, want)
}
