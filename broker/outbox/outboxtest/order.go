package outboxtest

import (
	"slices"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/outbox"
)

// stopInFlight: answers that come soon count, nothing more is sent, and the next run sends the rest.
func stopInFlight(l *lab) {
	l.put(l.q, 30, nil)
	l.start()
	p := l.accept()
	var all []Received
	for m, ok := p.Receive(quiet); ok; m, ok = p.Receive(quiet) {
		all = append(all, m)
	}
	l.stop()
	time.Sleep(time.Second)
	take(p, all...)
	<-l.done
	if m, ok := p.Receive(quiet); ok {
		l.t.Errorf("%d was sent after the end had begun", number(m.Payload))
	}
	if !p.Ended(quiet) {
		l.t.Error("the connection goes on")
	}
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == uint64(30-len(all)) && !st.Connected && st.Acknowledged == uint64(len(all))
	})
	l.start()
	if first := l.drained(l.accept()); !slices.Equal(first, sequence(len(all), 30)) {
		l.t.Errorf("the next run sends %v", first)
	}
}

// stopUnanswered: the end does not wait for ever, and what had no answer stays.
func stopUnanswered(l *lab) {
	l.put(l.q, 3, nil)
	l.start()
	p := l.accept()
	l.expect(p, 0)
	if took := l.halt(); took > 5*time.Second {
		l.t.Errorf("the end took %v", took)
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 3 && st.Acknowledged == 0 && !st.Connected })
	l.start()
	if first := l.drained(l.accept()); !slices.Equal(first, []int{0, 1, 2}) {
		l.t.Errorf("the next run sends %v", first)
	}
}

// stopRefused: the end comes at once while there is no connection.
func stopRefused(l *lab) {
	l.put(l.q, 1, nil)
	l.start()
	for range 5 {
		l.refuse()
	}
	if took := l.halt(); took > time.Second {
		l.t.Errorf("the end took %v", took)
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 1 && !st.Connected })
}

// unreadable: a journal that cannot be read is tried again on the same connection.
func unreadable(l *lab) {
	l.put(l.q, 3, nil)
	l.fs.fail.Store(true)
	l.start()
	p := l.accept()
	l.nothing(p)
	time.Sleep(time.Minute)
	l.fs.fail.Store(false)
	take(p, l.expect(p, 0, 1, 2)...)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Reconnects == 0 && st.Sent == 3 })
	if n := strings.Count(l.logs.String(), "journal cannot be read"); n != 1 {
		l.t.Errorf("logged %d times", n)
	}
}

// expired: what is too old is not sent, and counted.
func expired(l *lab) {
	l.put(l.q, 4, func(m *broker.Message) {
		if number(m.Payload)%2 == 0 {
			m.Expires, m.Expiry = true, 60
		}
	})
	time.Sleep(2 * time.Minute)
	l.put(l.q, 1, func(m *broker.Message) { m.Expires, m.Expiry = true, 60 })
	l.start()
	p := l.accept()
	take(p, l.expect(p, 1, 3, 4)...)
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 0 && st.Expired == 2 && st.Refused == 0 && st.Acknowledged == 3
	})
}

// liveFirst: what comes while there is a connection passes the backlog, which has its share of the window.
func liveFirst(l *lab) {
	l.opts.LiveFirst, l.opts.Share = true, 30
	backlog := l.opts.Window + 20
	l.put(l.q, backlog, nil)
	l.start()
	p := l.accept()
	old := l.expect(p, 0, 1, 2) // 30 % of 10
	l.nothing(p)
	late := 3
	for range 10 {
		live := l.expect(p, l.put(l.q, 1, nil))
		take(p, live...)
		take(p, old[0])
		for _, m := range old[1:] {
			if m.Ref != old[0].Ref { // else all of them had that answer
				take(p, m)
			}
		}
		old = l.expect(p, late, late+1, late+2)
		late += 3
		if late+3 > backlog {
			break
		}
	}
	take(p, old...)
	l.drained(p)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Resent == 0 && st.Sent == uint64(l.n) })
}

// priorities: what has a higher one is next as soon as there is room.
func priorities(l *lab) {
	alarms := l.queue(3, "alarms")
	l.opts.Queues = []*outbox.Queue{l.q, alarms}
	l.put(l.q, 50, nil)
	l.start()
	p := l.accept()
	flight := l.expect(p, sequence(0, l.opts.Window)...)
	alarm := l.put(alarms, 2, nil)
	l.nothing(p)
	take(p, flight...)
	take(p, l.expect(p, alarm, alarm+1)...)
	if rest := l.drained(p); !slices.Equal(rest, sequence(l.opts.Window, 50)) {
		l.t.Errorf("then %v", rest)
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 })
}

// rate: what is above it stays in the journal until its time has come.
func rate(l *lab) {
	l.opts.Rate = outbox.Rate{Messages: 2}
	l.put(l.q, 10, nil)
	l.start()
	p := l.accept()
	began := time.Now()
	for n := range 10 {
		take(p, l.expect(p, n)...)
		due := time.Duration(max(0, n-1)) * time.Second / 2 // two at once
		if took := time.Since(began); took < due-10*time.Millisecond || took > due+50*time.Millisecond {
			l.t.Errorf("%d after %v, want %v", n, took, due)
		}
	}
}

// windowOfMessages: no more than that are in flight, and one more for each answer.
func windowOfMessages(l *lab) {
	l.opts.Window = 4
	l.put(l.q, 12, nil)
	l.start()
	p := l.accept()
	for n := 0; n < 12; n += 4 {
		all := l.expect(p, sequence(n, n+4)...)
		l.nothing(p)
		take(p, all...)
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Sent == 12 })
}

// windowOfBytes: about 1 MiB is in flight, and one message that is longer.
func windowOfBytes(l *lab) {
	l.put(l.q, 4, func(m *broker.Message) { m.Payload = append(m.Payload, make([]byte, 700<<10)...) })
	l.start()
	p := l.accept()
	all := l.expect(p, 0, 1)
	l.nothing(p)
	take(p, all...)
	take(p, l.expect(p, 2, 3)...)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Sent == 4 })
}
