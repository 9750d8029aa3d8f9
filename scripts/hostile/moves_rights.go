package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// forbiddenWills are for topics that the client may not write, or that are none.
func forbiddenWills(a *attack) {
	for !a.over() {
		l := a.who()
		l.will = &wire.Will{Topic: pick(a, "victim/one", "jobs/dig", "outputs/site/pump/set", "status/site", "$SYS/broker/uptime",
			"$SYS/broker/connection/evil/state", "play/#", "", "+", "sensors/site/machine/load"), Payload: []byte(`{"value":1}`), QoS: byte(a.IntN(3)), Retain: a.IntN(2) == 0}
		if c := a.connect(l); c != nil {
			c.Close()
		}
	}
}

// stolenIdentifiers are those of other users' sessions.
func stolenIdentifiers(a *attack) {
	for !a.over() {
		l := a.who()
		l.id = pick(a, "reader5", "reader4", "worker", "writer5", "writer4", "operator", "foreman", "keeper", "site", "cloud")
		l.version = pick(a, wire.V5, wire.V311)
		if c := a.connect(l); c != nil {
			a.drain(c, honest(c))
			c.send(&wire.Unsubscribe{ID: 1, Filters: []string{"victim/one", "victim/two", "$share/w/jobs/#"}})
			c.send(&wire.Subscribe{ID: 2, Subscriptions: []wire.Subscription{{Filter: "#", QoS: 2}}})
			time.Sleep(5 * time.Millisecond)
			c.Close()
		}
	}
}

// stolenJobs joins the group of a shared subscription without the right to read.
func stolenJobs(a *attack) {
	for range 5 {
		l := a.as(pick(a, "eve", "eve", "mallory", ""))
		l.id, l.ws = fmt.Sprintf("thief%d", a.IntN(4)), false
		if c := a.connect(l); c != nil {
			acks := a.IntN(2) == 0
			a.drain(c, func(p wire.Packet) {
				if acks {
					c.answer(p)
				}
			})
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: pick(a, "$share/w/jobs/#", "$share/w/#", "$share/w/jobs/dig"), QoS: byte(a.IntN(3))}}})
		}
	}
	a.linger = a.IntN(3) == 0
	a.rest()
}

// systemTopics writes and reads what is the gateway's.
func systemTopics(a *attack) {
	l := a.who()
	c := a.connect(l)
	if c == nil {
		return
	}
	a.drain(c, honest(c))
	for id := uint16(1); !a.over() && id < 2000; id++ {
		switch a.IntN(3) {
		case 0:
			c.send(&wire.Publish{Topic: pick(a, "$SYS/broker/uptime", "$SYS", "$share/a/b", "$SYS/broker/connection/evil/state", "$x"), QoS: byte(1 + a.IntN(2)), ID: id, Retain: a.IntN(2) == 0, Payload: []byte("1")})
		case 1:
			c.send(&wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: pick(a, "$SYS/#", "$share//x", "$share/g", "$share/+/x", "$queue/x", "$SYS/+"), QoS: 1}}})
		case 2:
			c.send(&wire.Unsubscribe{ID: id, Filters: []string{pick(a, "$SYS/#", "$share//x", "")}})
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// loginFlood tries passwords, of honest users too, from the address that they come from.
func loginFlood(a *attack) {
	for range 6 {
		seed := a.Uint64()
		a.wait.Go(func() {
			for i := 0; !a.over() && i < 200; i++ {
				u := []string{"boss", "writer", "reader", "operator", "worker", "nobody"}[int(seed>>8+uint64(i))%6]
				if c := a.connect(login{user: u, password: fmt.Sprintf("wrong%d", i), id: fmt.Sprintf("guess%d", i), version: wire.V5, clean: true}); c != nil {
					c.Close()
				}
			}
		})
	}
	a.rest()
}

// forbiddenTopics publishes and subscribes to what is others'.
func forbiddenTopics(a *attack) {
	l := a.who()
	l.ws = false
	c := a.connect(l)
	if c == nil {
		return
	}
	a.drain(c, honest(c))
	for id := uint16(1); !a.over() && id < 3000; id++ {
		topic := pick(a, "victim/one", "victim/two", "jobs/dig", "outputs/site/pump/set", "outputs/site/pump", "status/site", "sensors/site/machine/load", "down/n", "holdfast/site/losses")
		q := byte(a.IntN(3))
		p := &wire.Publish{Topic: topic, QoS: q, Payload: []byte(pick(a, "1", `{"value":1}`, "offline", "")), Retain: a.IntN(2) == 0}
		if q > 0 {
			p.ID = id
		}
		if c.send(p, &wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: topic, QoS: 1}}}) != nil {
			return
		}
		time.Sleep(300 * time.Microsecond)
	}
}

// dashboard opens streams and pages and reads slowly, or not at all.
func dashboard(a *attack) {
	for range 40 {
		c, err := dial(a.g.web, login{}, patience)
		if err != nil || a.over() {
			break
		}
		a.keep(c)
		c.raw([]byte(pick(a, "GET /metrics HTTP/1.1\r\nHost: "+a.g.web+"\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET /events HTTP/1.1\r\nHost: "+a.g.web+"\r\n\r\n",
			"POST /api/login HTTP/1.1\r\nHost: "+a.g.web+"\r\nContent-Length: 1000000000\r\n\r\nuser=", "GET /", "GET /"+strings.Repeat("a", 20_000)+" HTTP/1.1\r\n\r\n")))
	}
	r, err := http.NewRequest("PUT", "http://"+a.g.web+"/api/outputs/pump", strings.NewReader(`{"value":1}`))
	if err == nil {
		if x, err := (&http.Client{Timeout: a.left()}).Do(r); err == nil {
			x.Body.Close()
		}
	}
	a.linger = a.IntN(3) == 0
	a.rest()
}

// revokedRights takes away a user's rule, or the user, while its will and its queue are pending: neither may have an
// effect afterwards.
func revokedRights(a *attack) {
	if !a.g.rights.TryLock() {
		return
	}
	defer a.g.rights.Unlock()
	if _, err := os.Stat(filepath.Join(a.g.dir, "rights")); err != nil {
		return // a gateway of a chain, without such a user
	}
	watch := a.connect(login{user: "reader", id: "watch", version: wire.V5, clean: true})
	if watch == nil {
		return
	}
	var wills, seen atomic.Int32
	watch.subscribe(1, nil, "guest/#")
	a.drain(watch, func(p wire.Packet) {
		if m, _ := watch.answer(p); m != nil && m.Topic == "guest/will" {
			wills.Add(1)
		}
	})
	id := fmt.Sprintf("guest%x", a.Uint32())
	durable := login{user: "guest", id: id, version: wire.V5, expiry: 60}
	if c := a.connect(durable); c != nil {
		c.subscribe(1, nil, "guest/q")
		c.Close()
	}
	willed := a.connect(login{user: "guest", id: id + "w", version: wire.V5, clean: true, expiry: 60,
		will: &wire.Will{Topic: "guest/will", Payload: []byte("will"), QoS: 1, Delay: uint32(a.IntN(2))}})
	if willed == nil {
		a.judge.problem("%s: the user could not connect before its rights were taken away", a.name)
		return
	}
	for i := range 10 {
		willed.send(&wire.Publish{Topic: "guest/q", QoS: 1, ID: uint16(i + 1)})
	}
	for range 10 {
		if _, err := willed.next(patience); err != nil {
			break
		}
	}
	deleted := a.IntN(2) == 0
	password := guestPassword
	if deleted {
		password = ""
	}
	if err := a.g.grant(password, ""); err != nil {
		a.judge.problem("%s: %v", a.name, err)
		return
	}
	willed.Close()
	if c := a.connect(durable); c != nil {
		if deleted {
			a.judge.problem("%s: a user who has been deleted was let in", a.name)
		}
		a.drain(c, func(p wire.Packet) {
			if m, _ := c.answer(p); m != nil {
				seen.Add(1)
			}
		})
	}
	time.Sleep(max(a.left(), 300*time.Millisecond))
	if n := seen.Load(); n > 0 {
		a.judge.problem("%s: %d queued messages were delivered to a user who may not read them any more", a.name, n)
	}
	if wills.Load() > 0 {
		a.judge.problem("%s: the will of a user who may not publish it any more was published (user deleted: %v)", a.name, deleted)
	}
	if err := a.g.grant(guestPassword, guestRights); err != nil {
		a.judge.problem("%s: %v", a.name, err)
	}
}
