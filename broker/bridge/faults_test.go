package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/wire"
)

const (
	faultMessages = 30
	faultWindow   = 10
	boundaries    = 40 // a connection without faults has 31 packets up and 31 down
)

// fault is what a link does at the boundary before one packet of one direction.
type fault int

const (
	cut      fault = iota // the connection ends
	drop                  // the packet vanishes and others follow it, which TCP does not do but a broken proxy does
	delay                 // it takes its time, and what is behind it as well
	truncate              // its first bytes arrive, then the connection ends
	halfOpen              // nothing arrives any more in this direction, and nobody hears of it
	halfDone              // this direction ends; the other one goes on
	faults
)

func (f fault) String() string {
	return [...]string{"cut", "drop", "delay", "truncate", "half-open", "half-close"}[f]
}

type at struct{ up, packet int }

// TestFaultsAtEveryPacket drains a journal over links that fail at the boundaries of packets, on a fake
// clock. The first connection of each run fails at one boundary in one way, and up to four later ones as the
// seed has it. With HOLDFAST_FAULT_RUNS=1000, as `make states` does it, the first ones cover every boundary
// and every way with each version; less than that are spread over them.
func TestFaultsAtEveryPacket(t *testing.T) {
	const all = 1000
	runs := 100
	if n := os.Getenv("HOLDFAST_FAULT_RUNS"); n != "" {
		var err error
		if runs, err = strconv.Atoi(n); err != nil || runs < 1 || runs > all {
			t.Fatalf("HOLDFAST_FAULT_RUNS=%q, want 1 to %d", n, all)
		}
	}
	for i := range uint64(runs) {
		seed := i * 387 % all // each once, far from the last
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runFaults(t, seed) })
		})
	}
}

func runFaults(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	j, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.OpenReader("bridge/test")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, j: j, reader: r}
	s.numbers(0, faultMessages)

	const ways = 2 * boundaries * int(faults)
	n := int(seed) % ways
	up := &faultyUpstream{version: []wire.Version{wire.V311, wire.V5}[int(seed)/ways%2], rng: rng}
	up.plans = []map[at]fault{{at{n % 2, n / 2 % boundaries}: fault(n / 2 / boundaries)}}
	for range rng.IntN(5) {
		up.plans = append(up.plans, map[at]fault{at{rng.IntN(2), rng.IntN(boundaries)}: fault(rng.IntN(int(faults)))})
	}
	b := run(t, s, []string{"mqtt://upstream"}, func(o *Options) {
		o.Dial, o.Protocol, o.Window = up.dial, up.version, faultWindow
		o.BackoffMin, o.BackoffMax = time.Second, time.Minute
	})
	for began := time.Now(); r.Depth() > 0 && time.Since(began) < 2*time.Hour; {
		time.Sleep(time.Second)
	}
	depth := r.Depth()
	b.stop()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	up.wait()
	first, times := up.account()
	if up.dropped { // what follows a message that vanished is before it
		slices.Sort(first)
	}
	if !slices.Equal(first, sequence(0, faultMessages)) || depth > 0 {
		t.Errorf("arrived for the first time: %v, %d wait in the journal; faults %v", first, depth, up.plans)
	}
	if most := faultMessages + (up.connections-1)*faultWindow; times > most {
		t.Errorf("%d messages over %d connections, want at most %d", times, up.connections, most)
	}
}

// faultyUpstream is a broker behind links that fail as planned, the n-th as the n-th plan says.
type faultyUpstream struct {
	version     wire.Version
	plans       []map[at]fault
	connections int // of Run's one goroutine
	work        sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	arrived []int
	dropped bool // a packet to the broker
}

func (u *faultyUpstream) wait() { u.work.Wait() }

// account returns what arrived in the order of first arrivals, and how many came in all.
func (u *faultyUpstream) account() (first []int, times int) {
	for _, n := range u.arrived {
		if !slices.Contains(first, n) {
			first = append(first, n)
		}
	}
	return first, len(u.arrived)
}

func (u *faultyUpstream) dial(context.Context, *url.URL) (net.Conn, error) {
	var plan map[at]fault
	if u.connections < len(u.plans) {
		plan = u.plans[u.connections]
	}
	u.connections++
	gateway, near := newEnd()
	broker, far := newEnd()
	u.work.Go(func() { u.serve(broker) })
	u.work.Go(func() { u.carry(near, far, broker, plan, 1) })
	u.work.Go(func() { u.carry(far, near, gateway, plan, 0) })
	return gateway, nil
}

// carry takes packets from one side to the other until a side has gone. to is the link's own end, reader
// the end of whoever reads there.
func (u *faultyUpstream) carry(from, to net.Conn, reader *end, plan map[at]fault, up int) {
	defer from.Close()
	defer to.Close()
	var buf []byte
	for n, dead := 0, false; ; {
		_, size, err := wire.Split(buf, 0)
		if err != nil || size > len(buf) {
			more := make([]byte, 4096)
			m, err := from.Read(more)
			if err != nil {
				return
			}
			buf = append(buf, more[:m]...)
			continue
		}
		packet := buf[:size]
		what, faulty := plan[at{up, n}]
		n++
		switch {
		case dead:
		case !faulty:
			if _, err := to.Write(packet); err != nil {
				return
			}
		case what == cut:
			return
		case what == delay:
			u.mu.Lock()
			wait := time.Duration(u.rng.Int64N(int64(2 * time.Minute)))
			u.mu.Unlock()
			time.Sleep(wait)
			if _, err := to.Write(packet); err != nil {
				return
			}
		case what == drop:
			u.mu.Lock()
			u.dropped = u.dropped || up == 1
			u.mu.Unlock()
		case what == truncate:
			u.mu.Lock()
			k := 1 + u.rng.IntN(size-1)
			u.mu.Unlock()
			_, _ = to.Write(packet[:k])
			return
		case what == halfOpen:
			dead = true
		case what == halfDone:
			dead = true
			reader.finish()
		}
		buf = buf[size:]
	}
}

// serve is a broker that acknowledges what it has noted.
func (u *faultyUpstream) serve(c net.Conn) {
	defer c.Close()
	r := wire.NewReader(c, 0)
	for {
		p, err := r.ReadPacket()
		if err != nil {
			return
		}
		var answer wire.Packet
		switch p := p.(type) {
		case *wire.Connect:
			r.SetVersion(u.version)
			answer = &wire.Connack{}
		case *wire.Publish:
			u.mu.Lock()
			u.arrived = append(u.arrived, number(p.Payload))
			u.mu.Unlock()
			answer = &wire.Ack{Type: wire.PUBACK, ID: p.ID}
		case *wire.Ping:
			answer = &wire.Ping{Type: wire.PINGRESP}
		default:
			return
		}
		if _, err := c.Write(wire.Append(nil, u.version, answer)); err != nil {
			return
		}
	}
}

// end is one end of a net.Pipe whose reading can end while its writing goes on.
type end struct {
	net.Conn
	done atomic.Bool
}

func newEnd() (*end, net.Conn) {
	near, far := net.Pipe()
	return &end{Conn: near}, far
}

func (e *end) finish() {
	e.done.Store(true)
	_ = e.Conn.SetReadDeadline(time.Now().Add(-time.Second))
}

func (e *end) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	var timeout net.Error
	if e.done.Load() && errors.As(err, &timeout) && timeout.Timeout() {
		return n, io.EOF
	}
	return n, err
}

func (e *end) SetDeadline(t time.Time) error {
	if e.done.Load() {
		return e.Conn.SetWriteDeadline(t)
	}
	return e.Conn.SetDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	if e.done.Load() {
		return nil
	}
	return e.Conn.SetReadDeadline(t)
}
