package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// rules are the users and rights of the gateway under attack. mallory, eve and boss are the attackers' own.
func rules(upstream string) string {
	text := "  users:\n"
	for _, u := range []string{"writer", "reader", "worker", "operator", "mallory", "eve"} {
		text += fmt.Sprintf("    - {name: %s, password_hash: %q}\n", u, cheapHash(u))
	}
	// What a login with the hash of `holdfast passwd` costs is a means of attack too.
	text += fmt.Sprintf("    - {name: boss, password_hash: %q}\n", costlyHash)
	text += `  password_file: passwords
  acl_file: rights
  acl:
    - {topic: "victim/#", access: write, user: writer}
    - {topic: "jobs/#", access: write, user: writer}
    - {topic: "victim/#", access: read, user: reader}
    - {topic: "down/#", access: read, user: reader}
    - {topic: "outputs/#", access: read, user: reader}
    - {topic: "status/#", access: read, user: reader}
    - {topic: "jobs/#", access: read, user: worker}
    - {topic: "outputs/site/+/set", access: write, user: operator}
    - {topic: "outputs/#", access: read, user: operator}
    - {topic: "play/#", access: readwrite, user: mallory}
    - {topic: "play/#", access: readwrite, user: boss}
    - {topic: "#", access: subscribe, user: eve}
    - {topic: "lobby/#", access: readwrite, anonymous: true}
sensors:
  - {name: machine, driver: system, every: 1s}
outputs:
  - {name: pump, driver: pca9685, bus: simulated, address: 0x40, channel: 0, safe: 0}
`
	if upstream != "" {
		text += fmt.Sprintf(`bridges:
  - name: cloud
    protocol: 5
    upstream: ["mqtt://%s"]
    out:
      - {filter: "sensors/#"}
      - {filter: "victim/#"}
      - {filter: "play/up/#"}
    in:
      - {filter: "down/#"}
`, upstream)
	}
	return text
}

// The user whose rights come and go, while the configuration is in use.
var (
	guestPassword = "guest:" + cheapHash("guest") + "\n"
	guestRights   = "user guest\ntopic readwrite guest/#\n"
	readerRights  = "user reader\ntopic read guest/#\n"
)

// grant writes the files of users and rights, and has them read again if the gateway runs.
func (g *gateway) grant(password, rights string) error {
	for name, text := range map[string]string{"passwords": password, "rights": rights + readerRights} {
		tmp := filepath.Join(g.dir, name+".new")
		if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(g.dir, name)); err != nil {
			return err
		}
	}
	if g.proc == nil {
		return nil
	}
	out, err := exec.Command(g.program, "reload", "-c", g.config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("reload: %w: %s", err, out)
	}
	return nil
}

// private reports whether an attacker may never be sent a message of this topic.
func private(topic string) bool {
	for _, front := range []string{"victim/", "jobs/", "outputs/", "status/", "sensors/", "down/"} {
		if strings.HasPrefix(topic, front) {
			return true
		}
	}
	return false
}

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
