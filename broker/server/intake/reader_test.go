package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"holdfast/broker/wire"
)

// bench is a Host that checks the order of calls.
type bench struct {
	t                *testing.T
	buf              []byte
	lent             bool
	arrived, handled int
	evicted, noRoom  int
	read             func() // called after each read; nil for nothing
}

func (b *bench) Lend() ([]byte, time.Time) {
	if b.buf == nil {
		b.buf = make([]byte, BufferSize)
	}
	b.lent = true
	return b.buf, time.Unix(1, 0)
}

func (b *bench) Return() {
	b.need("Return")
	b.lent = false
	for i := range b.buf { // another connection has it now
		b.buf[i] = 0xee
	}
}

func (b *bench) Arrived(n int) {
	b.need("Arrived")
	b.arrived += n
	if b.read != nil {
		b.read()
	}
}

func (b *bench) Handled() {
	b.need("Handled")
	b.handled = b.arrived
}

func (b *bench) Evict()  { b.evicted++ }
func (b *bench) NoRoom() { b.noRoom++ }

func (b *bench) need(call string) {
	if !b.lent {
		b.t.Errorf("%s without a buffer", call)
	}
}

// pair returns two ends of a connection, and the socket of the first if it is one of the kernel's.
func pair(t *testing.T, socket bool) (near, far net.Conn, raw syscall.RawConn) {
	t.Helper()
	if !socket {
		near, far = net.Pipe()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if near, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		if raw, err = near.(*net.TCPConn).SyscallConn(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far, raw
}

// TestPacketsInPieces: packets of all sizes, cut anywhere, come out as they went in, on a socket and on what is none, and in
// the end nothing is held.
func TestPacketsInPieces(t *testing.T) {
	for seed := range uint64(4) {
		for _, socket := range []bool{true, false} {
			t.Run(fmt.Sprintf("socket %v, seed %d", socket, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 3))
				near, far, raw := pair(t, socket)
				host, memory := &bench{t: t}, NewMemory(4<<20)
				in := New(host, near, raw, memory, 1<<20)
				var sent []byte
				var bodies [][]byte
				for range 30 {
					body := make([]byte, []int{r.IntN(200), r.IntN(3 * ownBuffer), r.IntN(3 * BufferSize), r.IntN(300_000)}[r.IntN(4)])
					for i := range body {
						body[i] = byte(r.Uint32())
					}
					p := wire.Append(nil, wire.V311, &wire.Publish{Topic: "t", Payload: body})
					sent, bodies = append(sent, p...), append(bodies, body)
				}
				go func() {
					r := rand.New(rand.NewPCG(seed, 4))
					for rest := sent; len(rest) > 0; {
						n := min(len(rest), 1+r.IntN([]int{100, 5000, 100_000}[r.IntN(3)]))
						far.Write(rest[:n])
						rest = rest[n:]
					}
					far.Close()
				}()
				wait := func() error { return nil }
				for i := range bodies {
					p, err := in.Next(wait)
					if err != nil {
						t.Fatalf("packet %d: %v", i, err)
					}
					if !bytes.HasSuffix(p.Body, bodies[i]) {
						t.Fatalf("packet %d of %d bytes has changed", i, len(p.Body))
					}
					if r.IntN(10) == 0 { // the handler waits for something else
						if err := in.Pause(); err != nil {
							t.Fatal(err)
						}
						if host.lent {
							t.Error("a buffer is lent in a pause")
						}
						in.Resume()
					}
				}
				if _, err := in.Next(wait); err != io.EOF {
					t.Errorf("at the end: %v", err)
				}
				if host.arrived != len(sent) || host.handled != len(sent) {
					t.Errorf("%d bytes arrived, %d handled, want %d", host.arrived, host.handled, len(sent))
				}
				in.Drop()
				if memory.used != 0 || len(memory.held) != 0 || host.lent {
					t.Errorf("held %d of %d readers, lent %v", memory.used, len(memory.held), host.lent)
				}
			})
		}
	}
}

// TestAnnounced: a packet holds about twice what has arrived of it, however much it announces.
func TestAnnounced(t *testing.T) {
	for _, socket := range []bool{true, false} {
		near, far, raw := pair(t, socket)
		host := &bench{t: t}
		in := New(host, near, raw, NewMemory(4<<20), 2<<20)
		most := 0
		host.read = func() {
			if most = max(most, in.held); in.held > 2*host.arrived+BufferSize {
				t.Errorf("socket %v: %d bytes of a packet hold %d", socket, host.arrived, in.held)
			}
		}
		packet := wire.Append(nil, wire.V311, &wire.Publish{Topic: "t", Payload: make([]byte, 1<<20)})
		go func() {
			for rest := packet; len(rest) > 0; {
				n := min(len(rest), 10_000)
				far.Write(rest[:n])
				rest = rest[n:]
			}
		}()
		if _, err := in.Next(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if most < len(packet) {
			t.Errorf("socket %v: %d bytes at most are held of %d", socket, most, len(packet))
		}
		in.Drop()
	}
}

// TestEnds: each end of a connection has its error.
func TestEnds(t *testing.T) {
	wrong := errors.New("wrong")
	for name, test := range map[string]struct {
		bytes []byte
		wait  error
		want  error
		code  wire.Code
	}{
		"between packets": {bytes: nil, want: io.EOF},
		"in a packet":     {bytes: []byte{0x30, 5, 0}, want: io.ErrUnexpectedEOF},
		"too large":       {bytes: []byte{0x30, 0xff, 0x7f}, code: wire.PacketTooLarge},
		"malformed":       {bytes: []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, code: wire.MalformedPacket},
		"of the wait":     {wait: wrong, want: wrong},
	} {
		for _, socket := range []bool{true, false} {
			near, far, raw := pair(t, socket)
			in := New(&bench{t: t}, near, raw, NewMemory(1000), 100)
			go func() {
				far.Write(test.bytes)
				far.Close()
			}()
			_, err := in.Next(func() error { return test.wait })
			var w *wire.Error
			if test.want != nil && !errors.Is(err, test.want) || test.want == nil && (!errors.As(err, &w) || w.Code != test.code) {
				t.Errorf("%s, socket %v: %v", name, socket, err)
			}
			in.Drop()
		}
	}
}

// TestIdle: while a connection waits on a socket, nothing is lent, and no more is held than the part that has arrived.
func TestIdle(t *testing.T) {
	near, far, raw := pair(t, true)
	host, memory := &bench{t: t}, NewMemory(1000)
	in := New(host, near, raw, memory, 1000)
	for _, part := range [][]byte{nil, {0x30, 100, 0}} {
		far.Write(part)
		for again := true; again; again = len(in.buf) < len(part) {
			near.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) // read what is there, and do not wait for more
			if _, err := in.Next(func() error { return nil }); err == nil {
				t.Fatal("a packet")
			}
		}
		if host.lent || in.held != len(part) || memory.used != int64(len(part)) {
			t.Errorf("with %d bytes of a packet: lent %v, held %d", len(part), host.lent, in.held)
		}
	}
}

// TestMemory: at the limit the reader that has the most gives way, if that is more than what is asked for; otherwise there is
// no room. Buffers that are kept for later count too.
func TestMemory(t *testing.T) {
	memory := NewMemory(100)
	host := func() *bench { return &bench{t: t} }
	a, b, c := New(host(), nil, nil, memory, 0), New(host(), nil, nil, memory, 0), New(host(), nil, nil, memory, 0)
	for _, r := range []*Reader{a, b} {
		if err := r.Reserve(45); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Reserve(45); !errors.Is(err, ErrMemory) || c.host.(*bench).noRoom != 1 || c.held != 0 {
		t.Errorf("got %v, held %d: the others have as much", err, c.held)
	}
	if err := b.Reserve(10); err != nil || memory.used != 100 {
		t.Errorf("got %v, used %d", err, memory.used)
	}
	if err := c.Reserve(45); err != nil || b.host.(*bench).evicted != 1 || a.host.(*bench).evicted != 0 || memory.used != 90 {
		t.Errorf("got %v, used %d, evicted %d: the largest has more", err, memory.used, b.host.(*bench).evicted)
	}
	b.Drop() // ends, and has nothing any more
	memory.putBuffer(make([]byte, 20))
	if len(memory.spares) != 0 {
		t.Error("a buffer is kept beyond the limit")
	}
	memory.putBuffer(make([]byte, 10))
	if len(memory.buffer(20)) != 20 || len(memory.buffer(8)) != 10 || memory.spare != 0 {
		t.Errorf("a kept buffer is not used again, or is too short")
	}
	memory.putBuffer(make([]byte, 10))
	a.Release(45)
	a.Reserve(50)
	if len(memory.spares) != 0 || memory.used != 95 {
		t.Errorf("used %d, and %d buffers are kept", memory.used, len(memory.spares))
	}
	for _, r := range []*Reader{a, c} {
		r.Drop()
	}
	if memory.used != 0 || len(memory.held) != 0 {
		t.Errorf("left: %d of %d", memory.used, len(memory.held))
	}
}
