package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// victims are the honest clients of a gateway. Each keeps exact accounts.
type victims struct {
	g     *gateway
	up    *upstream // nil where there is none
	judge *judge

	writers  []*writer
	readers  []*reader
	operator *operator
	quiet    atomic.Bool // while the gateway is down: to lose a connection is no fault
	wait     sync.WaitGroup
	stop     context.CancelFunc
	accounts []*account
}

// The user whose rights come and go, while the configuration is in use.
var (
	guestPassword = "guest:" + cheapHash("guest") + "\n"
	guestRights   = "user guest\ntopic readwrite guest/#\n"
	readerRights  = "user reader\ntopic read guest/#\n"
)

// newVictims prepares the honest clients; start lets them work.
func newVictims(g *gateway, up *upstream, j *judge) *victims {
	v := &victims{g: g, up: up, judge: j}
	newOne := func(name string, once bool) *account {
		a := newAccount(name, once)
		v.accounts = append(v.accounts, a)
		return a
	}
	strong := newOne("victim/two at the QoS 2 subscriber", true)
	one5 := newOne("victim/one at the QoS 2 subscriber", false)
	one4, two4 := newOne("victim/one at the QoS 1 subscriber", false), newOne("victim/two at the QoS 1 subscriber", false)
	jobs := newOne("jobs at the shared subscriber", false)
	one, two := []*account{one5, one4}, []*account{strong, two4}
	down := []*account{newOne("down at the subscriber", false)}
	if up != nil {
		u1, u2 := newOne("victim/one upstream", false), newOne("victim/two upstream", false)
		one, two = append(one, u1), append(two, u2)
		up.accounts = map[string]*account{"victim/one": u1, "victim/two": u2}
		up.down = down[0]
	}
	v.writers = []*writer{
		{v: v, login: login{user: "writer", id: "writer5", version: 5, clean: true}, topic: "victim/one", qos: 1, accounts: one},
		{v: v, login: login{user: "writer", id: "writer4", version: 4, clean: true}, topic: "victim/two", qos: 2, accounts: two},
		{v: v, login: login{user: "writer", id: "foreman", version: 5, clean: true, ws: true}, topic: "jobs/dig", qos: 1, accounts: []*account{jobs}},
		{v: v, login: login{user: "writer", id: "keeper", version: 5, clean: true}, topic: "victim/kept", qos: 1, retain: true},
	}
	v.readers = []*reader{
		{v: v, login: login{user: "reader", id: "reader5", version: 5, expiry: 3600}, qos: 2, filters: []string{"victim/one", "victim/two", "down/#"},
			accounts: map[string]*account{"victim/one": one5, "victim/two": strong, "down/n": down[0]}},
		{v: v, login: login{user: "reader", id: "reader4", version: 4}, qos: 1, filters: []string{"victim/one", "victim/two"},
			accounts: map[string]*account{"victim/one": one4, "victim/two": two4}},
		{v: v, login: login{user: "worker", id: "worker", version: 5, expiry: 3600}, qos: 1, filters: []string{"$share/w/jobs/#"},
			accounts: map[string]*account{"jobs/dig": jobs}},
	}
	v.operator = &operator{v: v}
	return v
}

// start returns when all subscriptions are there.
func (v *victims) start() {
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	for _, r := range v.readers {
		r.ready = make(chan struct{})
		v.wait.Go(func() { r.run(ctx) })
	}
	for _, r := range v.readers {
		select {
		case <-r.ready:
		case <-time.After(patience):
			v.judge.problem("%s could not subscribe within %v", r.login.id, patience)
		}
	}
	if v.up != nil {
		close(v.up.begun)
	}
	for _, w := range v.writers {
		v.wait.Go(func() { w.run(ctx) })
	}
	if v.operator.v != nil {
		v.wait.Go(func() { v.operator.run(ctx) })
	}
}

// end closes all connections.
func (v *victims) end() {
	v.stop()
	for _, w := range v.writers {
		w.drop()
	}
	for _, r := range v.readers {
		r.drop()
	}
	v.operator.drop()
	v.wait.Wait()
}

// seat is the connection of a victim, which others may cut.
type seat struct {
	mu sync.Mutex
	c  *client
}

func (s *seat) take(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c = c
}

func (s *seat) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		s.c.Close()
	}
}

// addr is where l connects.
func (g *gateway) addr(l login) string {
	if l.ws {
		return g.ws
	}
	return g.mqtt
}

// connected opens connections until one is let in, and nil only when ctx ends. Being turned away is a fault,
// except while the gateway is down.
func (v *victims) connected(ctx context.Context, l login) *client {
	for ctx.Err() == nil {
		begun := time.Now()
		c, err := open(v.g.addr(l), l, patience)
		if err == nil {
			v.judge.took("CONNACK", time.Since(begun))
			return c
		}
		if !v.quiet.Load() && ctx.Err() == nil {
			v.judge.problem("%s was not let in: %v", l.id, err)
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// lost reports the end of a victim's connection.
func (v *victims) lost(ctx context.Context, who string, err error) {
	if !v.quiet.Load() && ctx.Err() == nil {
		v.judge.problem("%s lost its connection: %v", who, err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// writer publishes numbered messages of one topic, one after the other.
type writer struct {
	seat
	v        *victims
	login    login
	topic    string
	qos      byte
	retain   bool
	accounts []*account
	n        int
	done     atomic.Int64 // the last one acknowledged
	hold     atomic.Bool  // publish nothing
	busy     sync.Mutex   // held while a message is under way
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		c := w.v.connected(ctx, w.login)
		if c == nil {
			return
		}
		w.take(c)
		for ctx.Err() == nil {
			w.busy.Lock()
			if w.hold.Load() {
				w.busy.Unlock()
				pause(ctx, 5*time.Millisecond)
				if c.answers() {
					continue
				}
				break
			}
			w.n++
			begun := time.Now()
			err := w.publish(c)
			w.busy.Unlock()
			if code := (refusal{}); errors.As(err, &code) {
				w.v.judge.problem("%s: message %d: %v", w.topic, w.n, code)
			} else if err != nil {
				w.v.lost(ctx, w.login.id, err)
				break
			}
			w.v.judge.took(fmt.Sprintf("acknowledgement at QoS %d", w.qos), time.Since(begun))
			pause(ctx, 15*time.Millisecond)
		}
		c.Close()
	}
}

// settled returns when no message is under way.
func (w *writer) settled() int {
	w.busy.Lock()
	defer w.busy.Unlock()
	return w.n
}

// answers reports whether the connection is still there: a PINGREQ is answered.
func (c *client) answers() bool {
	if c.send(&wire.Ping{Type: wire.PINGREQ}) != nil {
		return false
	}
	p, err := c.next(patience)
	return err == nil && isPong(p)
}

// refusal is a PUBACK or PUBREC with a reason code of failure.
type refusal struct{ code wire.Code }

func (r refusal) Error() string { return fmt.Sprintf("refused: %v", r.code) }

func (w *writer) publish(c *client) error {
	id := uint16(w.n%65535 + 1)
	if err := c.send(&wire.Publish{Topic: w.topic, Payload: strconv.AppendInt(nil, int64(w.n), 10), QoS: w.qos, ID: id, Retain: w.retain}); err != nil {
		return err
	}
	for {
		p, err := c.next(patience)
		if err != nil {
			return err
		}
		a, ok := p.(*wire.Ack)
		if !ok {
			return fmt.Errorf("got %T %+v", p, p)
		}
		if a.ID != id {
			return fmt.Errorf("got %v of %d, want that of %d", a.Type, a.ID, id)
		}
		if a.Code >= 0x80 {
			return refusal{a.Code}
		}
		if a.Type == wire.PUBACK || a.Type == wire.PUBREC {
			for _, x := range w.accounts {
				x.acknowledged(w.n)
			}
			w.done.Store(int64(w.n))
		}
		if a.Type != wire.PUBREC {
			return nil
		}
		if err := c.send(&wire.Ack{Type: wire.PUBREL, ID: id}); err != nil {
			return err
		}
	}
}
