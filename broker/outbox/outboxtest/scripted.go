package outboxtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/broker/outbox"
)

// Scripted is a sink without a protocol, and its own Upstream.
type Scripted struct {
	// Batches gives all messages of a flush one reference, as a protocol does in which many are acknowledged at once.
	Batches bool

	attempts chan *attempt
	refs     uint64         // go on over connections
	released map[uint64]int // by sequence number
}

// NewScripted returns a sink for one outbox.
func NewScripted(batches bool) *Scripted {
	return &Scripted{Batches: batches, attempts: make(chan *attempt), released: map[uint64]int{}}
}

var (
	errRefused = errors.New("refused by the script")
	errEnded   = errors.New("ended by the script")
)

// Target returns a name.
func (s *Scripted) Target() string { return "scripted" }

// Connect waits for Accept or Refuse.
func (s *Scripted) Connect(ctx context.Context) (outbox.Conn, error) {
	c := &conn{sink: s, came: make(chan struct{}, 1), answers: make(chan answer, 1<<16), ended: make(chan struct{}), closed: make(chan struct{})}
	a := &attempt{c, make(chan bool, 1)}
	select {
	case s.attempts <- a:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !<-a.accepted {
		return nil, errRefused
	}
	return c, nil
}

// attempt is a connection that is not accepted yet.
type attempt struct {
	conn     *conn
	accepted chan bool
}

// Accept accepts the next attempt.
func (s *Scripted) Accept() Peer {
	a := <-s.attempts
	a.accepted <- true
	return a.conn
}

// Refuse refuses it.
func (s *Scripted) Refuse() { (<-s.attempts).accepted <- false }

// Ended blames what was in flight, as an upstream does that closes the connection.
func (s *Scripted) Ended(f *outbox.Flow, err error) outbox.Next {
	if errors.Is(err, errEnded) {
		return outbox.Next{Cause: outbox.Closed}
	}
	return outbox.Next{}
}

// Release counts.
func (s *Scripted) Release(seq uint64) { s.released[seq]++ }

// answer is on its way to the sink.
type answer struct {
	ref    uint64
	answer outbox.Answer
}

// conn is both ends of a connection.
type conn struct {
	outbox.Basic
	sink *Scripted

	next    []byte // payload of what is prepared
	pending []Received
	sent    bool // in this batch

	mu      sync.Mutex
	arrived []Received
	came    chan struct{}
	answers chan answer
	ended   chan struct{} // by the other side
	closed  chan struct{} // by this one
	once    sync.Once
}

func (c *conn) Room() (int, bool) { return 1 << 16, false }

func (c *conn) Prepare(m *outbox.Message) (outbox.Prepared, error) {
	c.next = m.Message.Payload
	return outbox.Prepared{Topic: m.Message.Topic, Size: len(m.Message.Payload), QoS: 1, Retain: m.Retain}, nil
}

func (c *conn) Send() (ref, end uint64) {
	if !c.sent || !c.sink.Batches {
		c.sink.refs++
	}
	c.sent = true
	c.pending = append(c.pending, Received{Ref: c.sink.refs, Payload: c.next})
	return c.sink.refs, c.Position()
}

func (c *conn) Flush(time.Time) (time.Duration, error) {
	if len(c.pending) > 0 {
		c.mu.Lock()
		c.arrived = append(c.arrived, c.pending...)
		c.mu.Unlock()
		c.pending, c.sent = c.pending[:0], false
		select {
		case c.came <- struct{}{}:
		default:
		}
	}
	return outbox.Forever, nil
}

func (c *conn) Wait(u *outbox.Until) error {
	select {
	case <-u.Stop:
	case <-u.More:
	case <-u.Clock:
	case a := <-c.answers:
		c.report(a)
	case <-c.ended:
		return errEnded
	}
	return nil
}

func (c *conn) report(a answer) {
	reason := ""
	if a.answer != outbox.Taken {
		reason = "the script says so"
	}
	c.Flow.Answered(a.ref, a.answer, reason)
}

func (c *conn) Close() {
	for {
		select {
		case a := <-c.answers:
			c.report(a)
			continue
		default:
		}
		break
	}
	close(c.closed)
}

func (c *conn) Receive(within time.Duration) (Received, bool) {
	late := time.After(within)
	for {
		c.mu.Lock()
		if len(c.arrived) > 0 {
			m := c.arrived[0]
			c.arrived = c.arrived[1:]
			c.mu.Unlock()
			return m, true
		}
		c.mu.Unlock()
		select {
		case <-c.came:
		case <-c.closed:
			return Received{}, false
		case <-late:
			return Received{}, false
		}
	}
}

func (c *conn) Answer(ref uint64, a outbox.Answer) bool {
	c.answers <- answer{ref, a}
	return true
}

func (c *conn) End() { c.once.Do(func() { close(c.ended) }) }

func (c *conn) Ended(within time.Duration) bool {
	select {
	case <-c.closed:
		return true
	case <-time.After(within):
		return false
	}
}
