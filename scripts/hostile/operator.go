package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// operator moves an output and watches it move: the local pair of a button and what it switches.
type operator struct {
	seat
	v    *victims
	n    int
	seq  atomic.Int64 // of the last state seen
	done atomic.Int64 // commands
}

func (o *operator) run(ctx context.Context) {
	l := login{user: "operator", id: "operator", version: 5, clean: true}
	for ctx.Err() == nil {
		c := o.v.connected(ctx, l)
		if c == nil {
			return
		}
		o.take(c)
		see := func(p wire.Packet) (done bool) {
			m, _ := c.answer(p)
			if m == nil {
				return false
			}
			var x struct {
				ID     string `json:"id"`
				Result string `json:"result"`
				Seq    int64  `json:"seq"`
				Reason string `json:"reason"`
			}
			if json.Unmarshal(m.Payload, &x) != nil {
				return false
			}
			if strings.HasSuffix(m.Topic, "/result") {
				if x.ID == o.id() && x.Result != "done" {
					o.v.judge.problem("command %s: %s: %s", x.ID, x.Result, x.Reason)
				}
				return x.ID == o.id()
			}
			if x.Seq > o.seq.Load() {
				o.seq.Store(x.Seq)
			}
			return false
		}
		_, err := c.subscribe(1, func(p wire.Packet) { see(p) }, "outputs/site/pump", "outputs/site/pump/result")
		for err == nil && ctx.Err() == nil {
			o.n++
			begun := time.Now()
			err = c.send(&wire.Publish{Topic: "outputs/site/pump/set", QoS: 1, ID: uint16(o.n%65000 + 1),
				Payload: fmt.Appendf(nil, `{"value":%g,"id":%q}`, float64(o.n%64)/64, o.id())})
			for done := false; err == nil && !done; {
				var p wire.Packet
				if p, err = c.next(patience); err == nil {
					if _, ok := p.(*wire.Disconnect); ok {
						err = fmt.Errorf("disconnected: %+v", p)
					}
					done = see(p)
				}
			}
			if err == nil {
				o.done.Add(1)
				o.v.judge.took("command to result", time.Since(begun))
			}
			pause(ctx, 40*time.Millisecond)
		}
		o.v.lost(ctx, "operator", err)
		c.Close()
	}
}

func (o *operator) id() string { return fmt.Sprintf("k%d", o.n) }

// newcomer is a client that comes once: it is let in, and finds the retained state as it is now.
func (v *victims) newcomer() {
	keeper := v.writers[3]
	seq, kept := v.operator.seq.Load(), keeper.done.Load()
	begun := time.Now()
	c, err := open(v.g.mqtt, login{user: "reader", id: "newcomer", version: 5, clean: true}, patience)
	if err != nil {
		v.judge.problem("a newcomer was not let in: %v", err)
		return
	}
	defer c.close()
	v.judge.took("CONNACK of a newcomer", time.Since(begun))
	var own, online bool
	see := func(p wire.Packet) {
		m, ok := p.(*wire.Publish)
		if !ok {
			return
		}
		switch m.Topic { // without RETAIN it is what has just taken the place of the retained state
		case "outputs/site/pump":
			var x struct {
				Seq int64 `json:"seq"`
			}
			json.Unmarshal(m.Payload, &x)
			if own = true; x.Seq < seq {
				v.judge.problem("the retained state of the output is old: number %d, want %d or later", x.Seq, seq)
			}
		case "status/site":
			if online = true; string(m.Payload) != "online" {
				v.judge.problem("the retained status is %q", m.Payload)
			}
		case "victim/kept":
			if n := number(m.Payload); int64(n) < kept {
				v.judge.problem("the retained message of victim/kept is old: number %d, want %d or later", n, kept)
			}
		}
	}
	if _, err := c.subscribe(0, see, "outputs/site/pump", "status/site", "victim/kept"); err != nil {
		v.judge.problem("a newcomer could not subscribe: %v", err)
		return
	}
	c.send(&wire.Ping{Type: wire.PINGREQ})
	end := time.Now().Add(patience)
	for answered := false; !answered || !own || !online; {
		p, err := c.next(time.Until(end))
		switch {
		case err != nil && !answered:
			v.judge.problem("a newcomer had no PINGRESP: %v", err)
			return
		case err != nil: // a state that changed meanwhile may come behind the answer, but it comes
			v.judge.problem("no retained state: output %v, status %v", own, online)
			return
		}
		see(p)
		answered = answered || isPong(p)
	}
}

func isPong(p wire.Packet) bool {
	_, ok := p.(*wire.Ping)
	return ok
}
