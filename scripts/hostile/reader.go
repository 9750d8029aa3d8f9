package main

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// reader is a durable subscriber.
type reader struct {
	seat
	v        *victims
	login    login
	qos      byte
	filters  []string
	accounts map[string]*account
	ready    chan struct{} // closed when it has subscribed for the first time
	away     atomic.Bool
	anew     atomic.Bool // the session may be gone: its data directory was damaged
	repeats  bool        // messages come by a bridge, which may repeat them
	connects atomic.Int64
}

func (r *reader) run(ctx context.Context) {
	first := true
	held := map[uint16]bool{} // QoS 2, PUBREC sent
	for ctx.Err() == nil {
		if r.away.Load() {
			pause(ctx, 10*time.Millisecond)
			continue
		}
		c := r.v.connected(ctx, r.login)
		if c == nil {
			return
		}
		r.take(c)
		newest := map[string]int{}
		for topic, a := range r.accounts {
			a.mu.Lock()
			newest[topic] = a.newest
			a.mu.Unlock()
		}
		if !c.ack.SessionPresent {
			clear(held)
			if !first && !r.anew.Load() {
				r.v.judge.problem("the session of %s is gone", r.login.id)
			}
		}
		var err error
		if !c.ack.SessionPresent {
			var codes []wire.Code
			if codes, err = c.subscribe(r.qos, nil, r.filters...); err == nil {
				for i, code := range codes {
					if code >= 0x80 {
						r.v.judge.problem("%s may not subscribe to %s: %v", r.login.id, r.filters[i], code)
					}
				}
			}
		}
		if first && err == nil {
			close(r.ready)
			first = false
		}
		if err == nil {
			r.connects.Add(1)
		}
		for err == nil {
			var p wire.Packet
			if p, err = c.next(time.Hour); err != nil {
				break
			}
			var m *wire.Publish
			if m, err = c.answer(p); m != nil {
				repeated := m.QoS == 2 && held[m.ID]
				if m.QoS == 2 {
					held[m.ID] = true
				}
				a, n := r.accounts[m.Topic], number(m.Payload)
				switch {
				case a == nil || n == 0:
					r.v.judge.problem("%s got %q on %s", r.login.id, m.Payload, m.Topic)
				case !repeated:
					a.received(n, r.repeats || m.Dup || n <= newest[m.Topic])
				}
			} else if x, ok := p.(*wire.Ack); ok && x.Type == wire.PUBREL {
				delete(held, x.ID)
			}
		}
		if !r.away.Load() {
			r.v.lost(ctx, r.login.id, err)
		}
		c.Close()
	}
}

// leave ends the connection until back is called, with DISCONNECT or without.
func (r *reader) leave(orderly bool) {
	r.away.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c != nil {
		if orderly {
			r.c.send(&wire.Disconnect{})
		}
		r.c.Close()
	}
}

func (r *reader) back() { r.away.Store(false) }

// number is what a victim's message holds, 0 if that is none.
func number(payload []byte) int {
	n, err := strconv.Atoi(string(payload))
	if err != nil {
		return 0
	}
	return n
}
