package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"holdfast/broker/wire"
)

// attack is one hostile program: a move that is under way, with its own randomness. Its connections are closed
// when it ends, but for those that it leaves behind in linger.
type attack struct {
	*rand.Rand
	g      *gateway
	judge  *judge
	name   string
	until  time.Time
	mu     sync.Mutex // guards conns
	conns  []*client
	wait   sync.WaitGroup
	linger bool
}

// over reports whether the move's time is up.
func (a *attack) over() bool { return time.Now().After(a.until) }

func (a *attack) left() time.Duration { return max(time.Until(a.until), 10*time.Millisecond) }

// pick returns one of several.
func pick[T any](a *attack, of ...T) T { return of[a.IntN(len(of))] }

// who returns a login of an attacker: anonymous or one of the users that mean harm, of any version and kind of
// session, on any listener, with an identifier that comes again in later moves.
func (a *attack) who() login {
	l := login{
		user: pick(a, "", "mallory", "mallory", "eve"), id: fmt.Sprintf("evil%d", a.IntN(12)), version: pick(a, wire.V5, wire.V5, wire.V311),
		clean: a.IntN(2) == 0, ws: a.IntN(6) == 0,
	}
	if l.version == wire.V5 && !l.clean {
		l.expiry = pick(a, uint32(0), 1, 3600, 0xffffffff)
	}
	return l
}

// as is who with a certain user.
func (a *attack) as(user string) login {
	l := a.who()
	l.user = user
	return l
}

// topic is where user may write.
func topicOf(user string) string {
	if user == "" {
		return "lobby/"
	}
	return "play/"
}

// connect opens a connection and tallies the answer; nil if it was not taken.
func (a *attack) connect(l login) *client {
	c, err := open(a.g.addr(l), l, patience)
	if err != nil {
		if r := (refused{}); errors.As(err, &r) {
			a.judge.refusal("connection", r.code)
		}
		return nil
	}
	a.keep(c)
	return c
}

func (a *attack) keep(c *client) {
	a.mu.Lock()
	a.conns = append(a.conns, c)
	a.mu.Unlock()
}

// bare opens a connection without CONNECT; nil if that fails.
func (a *attack) bare(l login) *client {
	c, err := dial(a.g.addr(l), l, patience)
	if err != nil {
		return nil
	}
	a.keep(c)
	return c
}

// note tallies what the gateway refuses, and looks for what an attacker must not see.
func (a *attack) note(p wire.Packet) {
	switch p := p.(type) {
	case *wire.Ack:
		if p.Code >= 0x80 {
			a.judge.refusal("publish", p.Code)
		}
	case *wire.Suback:
		for _, code := range p.Codes {
			if code >= 0x80 {
				a.judge.refusal("subscription", code)
			}
		}
	case *wire.Disconnect:
		if p.Code >= 0x80 {
			a.judge.refusal("disconnect", p.Code)
		}
	case *wire.Publish:
		if private(p.Topic) {
			a.judge.problem("%s was sent %q of %s", a.name, p.Payload, p.Topic)
		}
	}
}

// drain reads in the background until the connection ends. answer, if any, is called for each packet.
func (a *attack) drain(c *client, answer func(wire.Packet)) {
	a.wait.Go(func() {
		for {
			p, err := c.next(time.Hour)
			if err != nil {
				return
			}
			a.note(p)
			if answer != nil {
				answer(p)
			}
		}
	})
}

// honest is an answer that completes deliveries.
func honest(c *client) func(wire.Packet) { return func(p wire.Packet) { c.answer(p) } }

// flood sends packets as fast as they are acknowledged, at most window ahead, until the time is up, and returns
// how many. Packets of QoS 2 are completed.
func (a *attack) flood(c *client, window, most int, packet func(i int) *wire.Publish) int {
	tokens := make(chan struct{}, window)
	for range window {
		tokens <- struct{}{}
	}
	a.drain(c, func(p wire.Packet) {
		x, ok := p.(*wire.Ack)
		if !ok {
			c.answer(p)
			return
		}
		switch {
		case x.Type == wire.PUBREC && x.Code < 0x80:
			c.send(&wire.Ack{Type: wire.PUBREL, ID: x.ID})
		case x.Type == wire.PUBREL:
			c.answer(p)
		default:
			select {
			case tokens <- struct{}{}:
			default:
			}
		}
	})
	for i := range most {
		p := packet(i)
		if p.QoS > 0 {
			select {
			case <-tokens:
			case <-time.After(a.left()):
				return i
			}
			p.ID = uint16(i%65535 + 1)
		}
		if a.over() || c.send(p) != nil {
			return i
		}
	}
	return most
}

// rest waits until the time is up.
func (a *attack) rest() { time.Sleep(a.left()) }

// close ends what the move has opened.
func (a *attack) close() {
	a.mu.Lock()
	for _, c := range a.conns {
		if a.IntN(4) == 0 {
			c.close()
		}
		c.Close()
	}
	a.mu.Unlock()
	a.wait.Wait()
}

// text returns n bytes, of which some are hostile to terminals and logs.
func (a *attack) text(n int) string {
	return strings.Repeat(pick(a, "x", "é", "\x1b[31m", "a/", "\u202e", "%s%n", "\"\n"), n)[:n]
}
