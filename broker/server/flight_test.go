package server

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/wire"
)

// TestQoS2DeliveriesOfARandomClient: a client that answers PUBLISH and PUBREL now and then, and breaks off and comes
// back at any moment, against what must hold whatever it does: no identifier is used for two messages at once, what it
// has and has not completed is never more than the receive maximum, PUBRELs come again in order, and in the
// end every message has come under one identifier, in order.
func TestQoS2DeliveriesOfARandomClient(t *testing.T) {
	for seed := range uint64(12) {
		for _, v := range []wire.Version{wire.V311, wire.V5} {
			t.Run(fmt.Sprintf("%v seed %d", v, seed), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(seed, 7))
				most := 1 + r.IntN(8)
				s := openServer(t, Options{MaxInflight: most}, nil)
				expiry := uint32(1000)
				back := func() *pipeClient {
					p := wire.Connect{ClientID: "c"}
					if v == wire.V5 {
						p.Properties.SessionExpiry = &expiry
					}
					return join(t, s, v, p)
				}
				c := back()
				c.subscribe("q", 2)
				const n = 60
				for i := range n {
					if err := s.Publish(&broker.Message{Topic: "q", QoS: 2, Payload: fmt.Append(nil, i)}, PublishOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				of := map[uint16]int{}        // message by identifier, until PUBCOMP is sent
				received := map[uint16]bool{} // PUBREC is sent
				now := map[uint16]bool{}      // what this connection has brought and the client has not completed
				under := map[int]uint16{}     // identifier that a message came under
				answers := 0.6
				for first, lastRel := true, -1; len(under) < n || len(of) > 0; {
					c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
					packet, err := c.in.ReadPacket()
					if err != nil || r.IntN(12) == 0 && answers < 1 { // nothing comes where it owes all the answers
						c.conn.Close()
						c = back()
						clear(now)
						first, lastRel = true, -1
						for id := range received { // counts before anything has come
							now[id] = true
						}
						if r.IntN(20) == 0 {
							answers = 1 // from now on it completes everything
						}
						continue
					}
					switch p := packet.(type) {
					case *wire.Publish:
						first = false
						var m int
						fmt.Sscan(string(p.Payload), &m)
						if id, came := under[m]; came && id != p.ID {
							t.Fatalf("message %d: came as %d, now as %d", m, id, p.ID)
						}
						if other, taken := of[p.ID]; taken && other != m {
							t.Fatalf("identifier %d: of message %d and %d", p.ID, other, m)
						}
						if _, came := under[m]; !came && m != len(under) {
							t.Fatalf("got message %d, want %d", m, len(under))
						}
						of[p.ID], under[m], now[p.ID] = m, p.ID, true
						if len(now) > most {
							t.Fatalf("%d deliveries on their way, want at most %d", len(now), most)
						}
						if r.Float64() < answers {
							received[p.ID] = true
							c.send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
						}
					case *wire.Ack:
						m, known := of[p.ID]
						if p.Type != wire.PUBREL || known && !received[p.ID] {
							t.Fatalf("got %+v", p)
						}
						if first && known {
							if m < lastRel {
								t.Fatalf("PUBREL of message %d after that of %d", m, lastRel)
							}
							lastRel = m
						}
						if r.Float64() < answers {
							delete(of, p.ID)
							delete(received, p.ID)
							delete(now, p.ID)
							c.send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
						}
					default:
						t.Fatalf("got %+v", p)
					}
					if x := s.sessionOf("c"); x != nil {
						x.mu.Lock()
						flights := len(x.flights)
						x.mu.Unlock()
						if flights > x.maxFlights() {
							t.Fatalf("%d flights, want at most %d", flights, x.maxFlights())
						}
					}
				}
			})
		}
	}
}

// TestStowedDeliveries: deliveries of a client that is away take little memory, and are what they were when it is back.
func TestStowedDeliveries(t *testing.T) {
	s := &Server{opts: Options{MaxQueuedTotal: 1 << 20, MaxInflight: 100}}
	x := &session{s: s}
	message := &broker.Message{Topic: "t", Payload: make([]byte, 100)}
	want := map[uint16]flight{}
	for i := range uint64(60) {
		f := x.newFlight(0)
		switch i % 4 {
		case 0: // QoS 1 of the journal
			delete(x.bySeq, f.seq)
			f.seq, f.qos, f.dup = 100+i, 1, i%8 == 0
		case 1: // QoS 2 of the journal
			f.seq, f.qos, f.stored, f.released = 100+i, 2, true, i%8 == 1
		case 2: // of memory, which the client has
			f.qos, f.stored, f.released = 2, true, true
		case 3: // of memory
			f.qos, f.message = 1, message
			x.hold(f)
		}
		if f.seq != 0 {
			if x.bySeq == nil {
				x.bySeq = map[uint64]*flight{}
			}
			x.bySeq[f.seq] = f
		}
		want[f.id] = *f
	}
	n := x.n
	if lost := x.stow(); lost > 0 {
		t.Errorf("%d lost", lost)
	}
	if len(x.flights) != 15 || len(x.bySeq) != 0 || x.inFlight() != 60 {
		t.Errorf("%d flights in full, %d by number, %d in all", len(x.flights), len(x.bySeq), x.inFlight())
	}
	x.unstow()
	if len(x.flights) != len(want) || len(x.bySeq) != 30 || x.n != n || x.stowed != nil {
		t.Errorf("%d flights, %d by number, n %d", len(x.flights), len(x.bySeq), x.n)
	}
	for id, w := range want {
		if f := x.flights[id]; f == nil || !reflect.DeepEqual(*f, w) {
			t.Errorf("flight %d is %+v, want %+v", id, f, w)
		} else if w.seq != 0 && x.bySeq[w.seq] != f {
			t.Errorf("flight %d is not found by its number", id)
		}
	}
	s.memory.waiting.Add(1 << 20) // others have all
	if lost := x.stow(); lost != 15 || x.inFlight() != 45 || s.memory.waiting.Load() != 1<<20 {
		t.Errorf("%d lost, %d are left, %d bytes", lost, x.inFlight(), s.memory.waiting.Load())
	}
}
