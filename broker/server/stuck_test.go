package server

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// slowDisk is a directory whose files, once shut, are not read until it is opened again.
type slowDisk struct {
	journal.FS
	gate sync.RWMutex // locked for writing while shut
	wait chan struct{}
}

type slowFile struct {
	journal.File
	d *slowDisk
}

func (d *slowDisk) Open(name string, write bool) (journal.File, error) {
	f, err := d.FS.Open(name, write)
	return slowFile{f, d}, err
}

func (f slowFile) ReadAt(b []byte, at int64) (int, error) {
	select {
	case f.d.wait <- struct{}{}:
	default:
	}
	f.d.gate.RLock()
	defer f.d.gate.RUnlock()
	return f.File.ReadAt(b, at)
}

// pipeClient is a client over a pipe that takes what the test wants of it.
type pipeClient struct {
	*speaker
	t testing.TB
	n uint16
}

func join(t testing.TB, s *Server, v wire.Version, p wire.Connect) *pipeClient {
	m := &pipeClient{speaker: speak(t, s, v), t: t}
	p.Version = v
	m.send(&p)
	if a, ok := m.read().(*wire.Connack); !ok || a.Code != wire.Success {
		t.Fatalf("CONNACK: got %+v", a)
	}
	return m
}

func (m *pipeClient) read() wire.Packet {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	p, err := m.in.ReadPacket()
	if err != nil {
		m.t.Fatalf("no packet: %v", err)
	}
	return p
}

func (m *pipeClient) subscribe(filter string, qos byte) {
	m.t.Helper()
	m.n++
	m.send(&wire.Subscribe{ID: m.n, Subscriptions: []wire.Subscription{{Filter: filter, QoS: qos}}})
	if a, ok := m.read().(*wire.Suback); !ok || a.Codes[0] >= 0x80 {
		m.t.Fatalf("SUBACK: got %+v", a)
	}
}

// openServer returns a server on a new journal, which both end with the test.
func openServer(t testing.TB, opts Options, disk func(journal.FS) journal.FS) *Server {
	dir, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fs := journal.FS(dir)
	if disk != nil {
		fs = disk(fs)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	opts.Journal, opts.Anonymous = j, true
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.shutdown()
		s.work.Wait()
		j.Close()
	})
	return s
}

func (s *Server) sessionOf(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions.byID[id]
}

// TestNothingHoldsUpAcknowledgements: one goroutine of each kind is blocked, one with the locks of a session
// that wants every message, and the acknowledgements of others go on. What was meant for that session comes
// afterwards, in order.
func TestNothingHoldsUpAcknowledgements(t *testing.T) {
	disk := &slowDisk{wait: make(chan struct{}, 1)}
	s := openServer(t, Options{}, func(fs journal.FS) journal.FS { disk.FS = fs; return disk })
	const n = 400

	// Clients whose locks are held: one live at QoS 1, one at QoS 0, and a durable one with a QoS 2 delivery.
	held := map[string]*pipeClient{}
	for id, qos := range map[string]byte{"live": 1, "zero": 0, "durable": 2} {
		held[id] = join(t, s, wire.V311, wire.Connect{ClientID: id, CleanStart: id != "durable"})
		held[id].subscribe("t", qos)
	}
	// One that does not read.
	join(t, s, wire.V311, wire.Connect{ClientID: "deaf", CleanStart: true}).subscribe("t", 1)
	join(t, s, wire.V5, wire.Connect{ClientID: "deaf 5", CleanStart: true}).subscribe("t", 2)
	// A subscriber of this process whose consumer takes nothing.
	full := make(chan *broker.Message)
	cancel, err := s.Subscribe("t", func(m *broker.Message) {
		select {
		case full <- m:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	// A reader in the middle of a slow read.
	reader, err := s.journal.OpenReader("slow")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Route(Route{Name: "slow", Filters: []FilterQoS{{"t", 1}}, Reader: reader}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	if err := s.Publish(&broker.Message{Topic: "t", QoS: 2, Payload: []byte("first")}, PublishOptions{Done: func(err error) { done <- err }}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	disk.gate.Lock()
	reader.Attach()
	var blocked sync.WaitGroup
	blocked.Go(func() { reader.TryNext() })
	<-disk.wait
	blocked.Go(func() { s.journal.Oldest("slow") })

	unlock := func() {}
	for id := range held {
		x := s.sessionOf(id)
		c := x.conn.Load()
		x.mu.Lock()
		c.mu.Lock()
		earlier := unlock
		unlock = func() { earlier(); c.mu.Unlock(); x.mu.Unlock() }
	}

	release := sync.OnceFunc(func() { unlock(); disk.gate.Unlock() })
	defer release() // also where the test fails

	good := join(t, s, wire.V311, wire.Connect{ClientID: "good", CleanStart: true})
	go func() {
		for i := range n {
			good.send(&wire.Publish{Topic: "t", QoS: 1, ID: uint16(i + 1), Payload: fmt.Append(nil, i)})
		}
	}()
	for i := range n {
		if a, ok := good.read().(*wire.Ack); !ok || a.Type != wire.PUBACK || a.ID != uint16(i+1) || a.Code >= 0x80 {
			t.Fatalf("answer %d: got %+v", i, a)
		}
		if i == n/2 { // Stats and Clients return, too
			s.Stats()
			s.Clients(10)
			s.journal.Stats()
			s.journal.Readers()
		}
	}
	release()
	blocked.Wait()
	for id, m := range held {
		want := 0
		for want < n {
			switch p := m.read().(type) {
			case *wire.Publish:
				if string(p.Payload) != "first" { // of another QoS, so without an order to the others
					if string(p.Payload) != fmt.Sprint(want) {
						t.Fatalf("%s: got %s, want %d", id, p.Payload, want)
					}
					want++
				}
				switch p.QoS {
				case 1:
					go m.send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
				case 2:
					go m.send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
				}
			case *wire.Ack:
				if p.Type == wire.PUBREL {
					go m.send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
				}
			}
		}
	}
}
