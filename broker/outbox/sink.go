package outbox

import (
	"context"
	"errors"
	"time"

	"holdfast/broker/journal"
)

// Sink sends messages for an outbox, over MQTT or another protocol. It connects to the other side and encodes
// messages. The outbox decides when, how often and in which order to send, and what becomes of a message.
//
// The goroutine of Run calls all methods of a Sink and of its Conn, one at a time. A sink that has goroutines
// of its own reports their results in Conn.Wait.
type Sink interface {
	// Target names what Connect connects to next, without secrets, for Stats and the log.
	Target() string
	// Connect returns a connection that is ready to carry messages, or an error and nil. It gives up when ctx ends.
	// One connection at a time is in use.
	Connect(ctx context.Context) (Conn, error)
	// Ended follows each connection after its Close, with nil for one that the outbox has ended, and each Connect that
	// failed while Run goes on, where f is nil. It returns what this end means for the messages and for the next attempt.
	Ended(f *Flow, err error) Next
	// Release lets the sink forget a message: it was acknowledged, refused or dropped. If it is sent again, as after a
	// temporary refusal, it is a new one. A message that Send returned a reference for and that has no answer by the
	// end of the connection is not released: the next connection prepares it again with Resend set, unless the
	// journal's limits drop it meanwhile.
	Release(seq uint64)
}

// Conn is one connection of a sink. Embed Basic for what the other side does not need.
type Conn interface {
	// Begin is called once, before everything else. The connection reports to f until Close has returned.
	Begin(f *Flow)
	// Tend sends the sink's own packets, before messages are sent.
	Tend(now time.Time)
	// Room returns how many messages the other side takes in flight, 0 while it takes none, and whether what was sent
	// has to leave before more is. It is called before each message.
	Room() (messages int, full bool)
	// Prepare encodes a message, and returns how the other side will see it. Send follows before any
	// other Prepare, or not at all. An error means that the other side can never take the message: it is refused.
	// m and what it points to are valid until Prepare returns, but for the Message itself, which is never changed.
	Prepare(m *Message) (Prepared, error)
	// Send sends the message that was prepared last. The connection will name it ref to Flow: several messages
	// in flight may share it, and 0 is a message without an answer, which counts as acknowledged when it has left.
	// end is a position in what the connection writes, in units of its own; it never decreases.
	Send() (ref, end uint64)
	// Flush begins to write the messages of Send. It returns how long the connection needs no attention; an error
	// ends it.
	Flush(now time.Time) (quiet time.Duration, err error)
	// Wait waits for the first of u's channels or an event of the connection, handles events and reports them to
	// Flow. An error ends the connection; ErrHandover ends it in order.
	Wait(u *Until) error
	// Written returns the position up to which everything has left, and when that changed last.
	Written() (end uint64, at time.Time)
	// Probe asks the other side for an answer which shows that it has taken everything before. Flow.Probed follows it.
	Probe()
	// Lossy reports whether answers come late because the way there loses packets, and not because it is full.
	Lossy() bool
	// Leave is called while the outbox wants to end the connection, before each Wait. Once idle,
	// nothing is in flight any more. It reports whether the sink has nothing more to send.
	Leave(now time.Time, idle bool) (done bool)
	// Close ends the connection and everything that it runs. Answers that had come are reported first.
	Close()
}

// ErrHandover is returned by Conn.Wait when the sink has a better connection, which the next Connect returns.
var ErrHandover = errors.New("another connection takes over")

// Message is one message for Conn.Prepare.
type Message struct {
	journal.Delivery
	Age    time.Duration // since the gateway took it, as far as the clocks show
	Expiry uint32        // seconds that are left of its life; meaningful only if Message.Expires
	Late   bool          // of a backlog that live-first sends beside what is new
}

// Prepared is a message as the other side sees it, from which poison.go makes its kind.
type Prepared struct {
	Topic  string // or whatever the other side sorts by
	Size   int    // bytes of payload
	QoS    byte
	Retain bool
}

// Until is what Conn.Wait waits for, beside the events of its connection.
type Until struct {
	Stop  <-chan struct{}
	More  <-chan struct{} // there may be more to send; nil if that does not matter now
	Clock <-chan time.Time
	Room  bool // also when something has left
	Quiet bool // the sink sends nothing by itself, as a rate or the end forbids it
	Leave bool // the connection is to end: no handover any more
}

// Cause is what the end of a connection means for the messages in flight.
type Cause int

const (
	Broken Cause = iota // nothing: the network broke
	Closed              // the other side has ended it, perhaps because of a message
	Stated              // the other side has given a reason that is none of the messages
)

// Next is what follows the end of a connection.
type Next struct {
	Cause    Cause
	Handover bool          // Connect has another one, at once; this end was no failure
	Now      bool          // the next attempt needs no wait
	Slow     bool          // reconnecting soon would make it worse: the longest wait from now on
	Delay    time.Duration // instead of the wait between attempts; 0 for none
}

// Answer is the other side's answer to a message.
type Answer byte

const (
	None  Answer = iota
	Taken        // it has the message
	Never        // it will not take this message, ever: refused
	Later        // it takes this message another time: sent again, before those that follow
	Doubt        // it did not take this message, and may or may not take it later: sent again a few times, then refused
)

// Basic implements the methods of Conn that a sink does not need. Positions are numbers of messages: a message has left
// when Send has returned.
type Basic struct {
	Flow *Flow
	sent uint64
	at   time.Time
}

// Begin keeps f.
func (b *Basic) Begin(f *Flow) { b.Flow, b.at = f, f.began }

// Tend does nothing.
func (b *Basic) Tend(time.Time) {}

// Position returns the end of one more message, for Send.
func (b *Basic) Position() uint64 {
	b.sent++
	b.at = time.Now()
	return b.sent
}

// Written returns the position of the last message.
func (b *Basic) Written() (uint64, time.Time) { return b.sent, b.at }

// Probe does nothing: a connection without answers of its own counts as alive when it was made.
func (b *Basic) Probe() { b.Flow.Probed(b.sent + 1) }

// Lossy returns false.
func (b *Basic) Lossy() bool { return false }

// Leave returns true as soon as nothing is in flight.
func (b *Basic) Leave(_ time.Time, idle bool) bool { return idle }
