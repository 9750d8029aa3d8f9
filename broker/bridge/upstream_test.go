package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// waiter is a journal.Completer for the test that waits for durability.
type waiter struct {
	sync.WaitGroup
	t testing.TB
}

func (w *waiter) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		w.t.Error(err)
	}
	w.Done()
}

// failing is a file system from which nothing can be read while fail is set.
type failing struct {
	journal.FS
	fail atomic.Bool
}

func (f *failing) Open(name string, create bool) (journal.File, error) {
	if f.fail.Load() && !create {
		return nil, syscall.EIO
	}
	return f.FS.Open(name, create)
}

// store is a journal with one reader.
type store struct {
	t      testing.TB
	fs     *failing
	j      *journal.Journal
	reader *journal.Reader
}

func newStore(t testing.TB) *store {
	t.Helper()
	dir, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fs := &failing{FS: dir}
	j, err := journal.Open(journal.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := j.OpenReader("bridge/test")
	if err != nil {
		t.Fatal(err)
	}
	return &store{t, fs, j, r}
}

// add makes messages durable for the reader.
func (s *store) add(messages ...*broker.Message) {
	s.t.Helper()
	w := &waiter{t: s.t}
	for _, m := range messages {
		w.Add(1)
		owed := []journal.Owed{{Reader: s.reader, QoS: 1, Retain: m.Retain}}
		if err := s.j.Append(journal.Entry{Message: m, Owed: owed, Done: w}); err != nil {
			s.t.Fatal(err)
		}
	}
	w.Wait()
}

// numbers makes messages from to to-1 durable.
func (s *store) numbers(from, to int) {
	s.t.Helper()
	var messages []*broker.Message
	for n := from; n < to; n++ {
		messages = append(messages, numbered(n))
	}
	s.add(messages...)
}

func numbered(n int) *broker.Message {
	return &broker.Message{Topic: "t/n", Payload: binary.BigEndian.AppendUint32(nil, uint32(n)), QoS: 1}
}

func number(payload []byte) int { return int(binary.BigEndian.Uint32(payload)) }

// logs keeps what is logged and tells of it.
type logs struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.lines <- string(p):
	default:
	}
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait returns when a line with that text has been logged.
func (l *logs) wait(text string) {
	for line := range l.lines {
		if strings.Contains(line, text) {
			return
		}
	}
}

// running is a bridge whose Run runs.
type running struct {
	*Bridge
	logs *logs
	stop func() // and waits for the end of Run
	quit func() // does not wait
}

func run(t testing.TB, s *store, upstreams []string, change func(*Options)) *running {
	t.Helper()
	l := &logs{lines: make(chan string, 10000)}
	opts := Options{
		Options: outbox.Options{
			Name: "test", Reader: s.reader, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond,
			Log: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
		Upstreams: upstreams, ClientID: "gateway", Protocol: wire.V311, Out: []Rule{{Filter: "#", QoS: 1}},
	}
	if change != nil {
		change(&opts)
	}
	b, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := func() {
		cancel()
		ended.Wait()
	}
	t.Cleanup(stop)
	return &running{b, l, stop, cancel}
}

// upstream is a scripted broker.
type upstream struct {
	t testing.TB
	l net.Listener
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &upstream{t, l}
}

func (u *upstream) url() string { return "mqtt://" + u.l.Addr().String() }

// peer is a connection as the upstream sees it.
type peer struct {
	net.Conn
	t       testing.TB
	r       *wire.Reader
	version wire.Version
}

// accept takes the next connection and its CONNECT packet.
func (u *upstream) accept() (*peer, *wire.Connect) {
	u.t.Helper()
	c, err := u.l.Accept()
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { c.Close() })
	p := &peer{c, u.t, wire.NewReader(c, 0), wire.V311}
	connect, ok := p.read().(*wire.Connect)
	if !ok {
		u.t.Fatalf("got %T, want CONNECT", connect)
	}
	p.version = connect.Version
	p.r.SetVersion(p.version)
	return p, connect
}

// welcome takes the next connection and accepts it.
func (u *upstream) welcome() *peer { return u.welcomeWith(wire.Connack{}) }

func (u *upstream) welcomeWith(ack wire.Connack) *peer {
	u.t.Helper()
	p, _ := u.accept()
	p.send(&ack)
	return p
}

func (p *peer) read() wire.Packet {
	p.t.Helper()
	packet, err := p.r.ReadPacket()
	if err != nil {
		p.t.Fatal(err)
	}
	return packet
}

func (p *peer) send(packet wire.Packet) {
	p.t.Helper()
	if _, err := p.Write(wire.Append(nil, p.version, packet)); err != nil {
		p.t.Fatal(err)
	}
}

// skipPings returns the next packet that is no PINGREQ: the bridge sends those where the upstream may have something queued.
func (p *peer) skipPings() wire.Packet {
	p.t.Helper()
	for {
		packet := p.read()
		if _, is := packet.(*wire.Ping); !is {
			return packet
		}
	}
}

func (p *peer) publish() *wire.Publish {
	p.t.Helper()
	packet := p.read()
	publish, ok := packet.(*wire.Publish)
	if !ok {
		p.t.Fatalf("got %#v, want PUBLISH", packet)
	}
	return publish
}

// expect reads these messages, in this order, and returns their packet identifiers.
func (p *peer) expect(numbers ...int) (ids []uint16) {
	p.t.Helper()
	for _, n := range numbers {
		m := p.publish()
		if got := number(m.Payload); got != n {
			p.t.Fatalf("got message %d, want %d", got, n)
		}
		ids = append(ids, m.ID)
	}
	return ids
}

func (p *peer) ack(ids ...uint16) {
	p.t.Helper()
	for _, id := range ids {
		p.send(&wire.Ack{Type: wire.PUBACK, ID: id})
	}
}

// goodbye reads the DISCONNECT.
func (p *peer) goodbye() {
	p.t.Helper()
	packet := p.read()
	if _, ok := packet.(*wire.Disconnect); !ok {
		p.t.Fatalf("got %#v, want DISCONNECT", packet)
	}
}

func sequence(from, to int) (numbers []int) {
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}
