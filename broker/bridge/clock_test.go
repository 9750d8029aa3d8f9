package bridge

import (
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/outbox"
)

// TestStepsAreNoSilence steps the wall clock while a connection is idle, waits for a ping, and waits for an
// acknowledgement: neither is it taken for dead, nor is a dead one kept.
func TestStepsAreNoSilence(t *testing.T) {
	const every, ackTimeout = time.Minute, 30 * time.Second
	for _, step := range brokertest.Steps() {
		begun := time.Now()
		s := &connection{b: &Bridge{opts: Options{Options: outbox.Options{AckTimeout: ackTimeout}, KeepAlive: every}}, l: &link{begun: begun, out: newOutput()}}
		s.l.limits.keepAlive = every
		at := func(d time.Duration) time.Time { return brokertest.Stepped(begun.Add(d), step) }
		want := func(what string, got, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("step by %v: %s: got %v, want %v", step, what, got, want)
			}
		}

		wait, alive := s.keepAlive(at(10 * time.Second))
		want("until the ping", wait, every-10*time.Second)
		if !alive || s.pings.sent {
			t.Errorf("step by %v: alive %v, pinged %v, want an idle connection", step, alive, s.pings.sent)
		}
		since := begun
		want("until an acknowledgement is late", s.overdue(&since, 1, at(10*time.Second)), ackTimeout-10*time.Second)

		wait, alive = s.keepAlive(at(every)) // it has been quiet for long enough, whatever the clock has done
		want("until the ping is written", wait, pingTimeout)
		if !alive || !s.pings.sent {
			t.Fatalf("step by %v: alive %v, pinged %v, want a ping", step, alive, s.pings.sent)
		}
		s.l.out.written.Store(s.pings.end)
		s.l.out.wrote.Store(int64(every))
		wait, alive = s.keepAlive(at(every + pingTimeout/2))
		want("until the answer is late", wait, pingTimeout/2)
		if !alive {
			t.Errorf("step by %v: taken for dead with half of the time left", step)
		}
		if _, alive = s.keepAlive(at(every + pingTimeout)); alive {
			t.Errorf("step by %v: an upstream that does not answer is kept", step)
		}
	}
}
