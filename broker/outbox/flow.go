package outbox

import (
	"context"
	"fmt"
	"math"
	"time"
)

const (
	drain       = 2 * time.Second // for acknowledgements at the end
	flightBytes = 1 << 20         // of messages in flight, beside the window; one message may exceed it
	turn        = 256             // messages that are sent before the other side is listened to again

	// MaxTries is how often a message is sent to which the answer is Doubt.
	MaxTries = 5

	// minHealthy is how long a connection lasts that was worth its attempt, even with nothing to send.
	minHealthy = time.Minute

	// Forever is a wait that nothing ends.
	Forever time.Duration = math.MaxInt64
)

// Flow is the outbox's state of one connection, and the connection reports to it. It belongs to the goroutine of
// Run, and so do its parts.
type Flow struct {
	o     *Outbox
	conn  Conn
	began time.Time

	message   Message   // for Prepare
	reading   reading   // of the journal
	flight    inFlight  // sent and not settled
	roundTrip roundTrip // that is measured
	retry     retry     // messages that were not taken
	held      heldBack  // messages that are not sent now: see poison
	evidence  evidence  // what the connection has shown: see poison

	acknowledged bool  // a message was, by this connection
	counts       Stats // not yet in the outbox's
}

// reading is the state of the journal.
type reading struct {
	failed bool      // at the last attempt
	again  time.Time // the next attempt, BackoffMin later, if failed
}

// roundTrip is the message whose round trip is measured.
type roundTrip struct {
	ref  uint64 // 0 if there is none
	at   time.Time
	full bool // the window was full since
}

// stop is the reason why nothing more is sent now, and so what has to happen first.
type stop int

const (
	turnIsOver     stop = iota
	windowIsFull        // an acknowledgement, or the answer to a probe
	connIsFull          // the connection takes what it has
	nothingPending      // a message comes, or a time that is known
)

// Began returns when the connection began to be used.
func (f *Flow) Began() time.Time { return f.began }

// InFlight returns how many messages were sent and not answered.
func (f *Flow) InFlight() int { return len(f.flight.sent) }

// Worthwhile reports whether the connection was worth its attempt: a message was acknowledged, or it has lasted.
func (f *Flow) Worthwhile() bool { return f.acknowledged || time.Since(f.began) >= minHealthy }

// Doubtful reports whether a message could be the reason if the connection ended now: one is unconfirmed, a candidate
// or on trial.
func (f *Flow) Doubtful() bool {
	return len(f.flight.sent)+len(f.evidence.loose)+len(f.o.poison.candidates) > 0 || f.evidence.trial != nil
}

// run sends until the connection or ctx ends, and returns why.
func (f *Flow) run(ctx context.Context) error {
	o, conn := f.o, f.conn
	f.evidence.confirmed = true // the connection was made
	conn.Begin(f)
	if err := o.scheduler.attach(uint64(o.opts.Window)); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	always := make(chan struct{})
	close(always)
	until := Until{Stop: ctx.Done(), Clock: timer.C}
	for {
		f.settle()
		if ctx.Err() != nil { // an acknowledgement may have come at the same time: it makes no room any more
			return f.finish()
		}
		conn.Tend(time.Now())
		why, at := f.fill()
		now := time.Now()
		wake, err := conn.Flush(now)
		f.report()
		if err != nil {
			return err
		}
		until.More, until.Room, until.Quiet = nil, false, false
		switch why {
		case turnIsOver:
			until.More = always
		case connIsFull:
			until.Room = true
		case nothingPending:
			until.More = o.scheduler.ready
		}
		if !at.IsZero() {
			wake = min(wake, at.Sub(now))
		}
		if wait := o.scheduler.rate.wait(); wait > 0 {
			wake, until.Quiet = min(wake, wait), true
		}
		if len(f.flight.sent) > 0 {
			left := f.overdue(now)
			if left <= 0 {
				return fmt.Errorf("no acknowledgement for %v", o.opts.AckTimeout)
			}
			wake = min(wake, left)
			if f.flight.sent[0].ref == 0 { // acknowledged by having left
				until.Room = true
			}
		}
		if why != turnIsOver {
			timer.Reset(wake)
			o.opts.Progress(false)
		}
		err = conn.Wait(&until)
		if err == ErrHandover {
			if err := f.finish(); err != nil {
				o.log.Debug("the connection that is left did not end in order", "reason", err)
			}
			return ErrHandover
		}
		if err != nil {
			return err
		}
		o.opts.Progress(true)
	}
}

// finish waits for what is in flight and lets the sink take leave.
func (f *Flow) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	until := Until{Stop: ctx.Done(), Room: true, Quiet: true, Leave: true}
	for {
		f.settle()
		done := f.conn.Leave(time.Now(), len(f.flight.sent) == 0)
		if _, err := f.conn.Flush(time.Now()); err != nil {
			return err
		}
		if done && len(f.flight.sent) == 0 {
			return nil
		}
		if err := f.conn.Wait(&until); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// end closes the connection. Acknowledgements that came before it, in whatever order, are kept; the
// rest stays in the journal.
func (f *Flow) end() {
	f.conn.Close()
	left := f.flight.sent[:0]
	for i := range f.flight.sent {
		if m := f.flight.sent[i]; m.answer != None {
			f.answered(&m)
		} else {
			left = append(left, m)
		}
	}
	f.flight.sent = left // unconfirmed
	f.o.scheduler.detach()
	f.report()
}

// report adds what has happened to the outbox's figures.
func (f *Flow) report() {
	c, inFlight := &f.counts, len(f.flight.sent)
	f.o.count(func(st *Stats) {
		st.Sent += c.Sent
		st.Resent += c.Resent
		st.Acknowledged += c.Acknowledged
		st.Expired += c.Expired
		st.InFlight = inFlight
		if c.LastError != "" {
			st.LastError = c.LastError
		}
	})
	*c = Stats{}
}

// overdue returns how long the acknowledgement of the oldest message in flight may still take. Time until it has left
// does not count: the connection has a deadline of its own for that.
func (f *Flow) overdue(now time.Time) time.Duration {
	if end, at := f.conn.Written(); end < f.flight.sent[0].end && at.After(f.flight.since) {
		f.flight.since = at
	}
	return f.flight.since.Add(f.o.opts.AckTimeout).Sub(now)
}
