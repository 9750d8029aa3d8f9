package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"holdfast/broker/wire"
)

// stuck is a connection whose other end is never heard.
type stuck struct{ net.Conn }

func (s stuck) Read([]byte) (int, error) { select {} }

// handshakes begins TLS and WebSocket, and does not go on.
func (x *excess) handshakes() {
	for i := 0; !x.over(); i++ {
		at := []string{x.mqtts, x.wss, x.g.ws}[i%3]
		raw, err := net.DialTimeout("tcp", at, patience)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		x.keep(raw)
		raw.(*net.TCPConn).SetReadBuffer(4096)
		if i%3 < 2 {
			go tls.Client(stuck{raw}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		} else {
			raw.Write([]byte("GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\n"))
			for j := range 15 {
				fmt.Fprintf(raw, "X-%d: %s\r\n", j, strings.Repeat("y", 1000))
			}
		}
		if i%400 == 399 {
			time.Sleep(4 * time.Second)
		}
	}
}

// halfConnects sends CONNECTs of the largest size but their end.
func (x *excess) halfConnects() {
	p := wire.Append(nil, wire.V5, &wire.Connect{Version: wire.V5, ClientID: "c", HasPassword: true, Password: make([]byte, 60_000), HasUsername: true})
	for i := 0; !x.over(); i++ {
		if c, err := x.dial(i); err == nil {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.Write(p[:len(p)-1])
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		if i%200 == 199 {
			time.Sleep(2 * time.Second)
		}
	}
}

// halfPackets logs in and begins a publish of the largest size.
func (x *excess) halfPackets() {
	p := wire.Append(nil, wire.V5, &wire.Publish{Topic: "x", Payload: make([]byte, 1<<20-100)})
	for i := 0; !x.over(); i++ {
		if c := x.connect(i, login{user: user(i), version: wire.V5, clean: true}); c != nil {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.Write(p[:len(p)-1])
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		if i%60 == 59 {
			time.Sleep(time.Second)
		}
	}
}

// publisher publishes to a topic as fast as it is acknowledged.
func (x *excess) publisher(topic string, sizes ...int) {
	for i := 0; !x.over(); i++ {
		c := x.connect(0, login{user: "mallory", version: wire.V5, clean: true})
		if c == nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for j := 0; !x.over(); j++ {
			p := &wire.Publish{Topic: topic, QoS: byte(j % 2), Payload: make([]byte, sizes[j%len(sizes)])}
			if p.QoS > 0 {
				p.ID = 1
			}
			if c.send(p) != nil {
				break
			}
			if p.QoS == 0 {
				continue
			}
			if _, err := c.next(patience); err != nil {
				break
			}
		}
		c.Close()
	}
}

// notReading opens as many subscribers as there may be, of every kind, who read nothing.
func (x *excess) notReading() {
	for range 2 {
		x.wait.Go(func() { x.publisher("not/read", 100, 1000, 20_000, 200_000, 1_000_000, 60_000) })
	}
	for i := 0; !x.over(); i++ {
		l := login{user: user(i), id: fmt.Sprint("deaf", i%2000), version: []wire.Version{wire.V5, wire.V311}[i%2], clean: i%3 > 0, expiry: uint32(i % 3 / 2 * 60)}
		if c := x.connect(i/2, l); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "not/read", QoS: byte(i % 3)}}})
		} else {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// notAnswering opens subscribers of QoS 1 and 2 who read and never answer.
func (x *excess) notAnswering() {
	x.wait.Go(func() { x.publisher("not/answered", 10_000, 300_000) })
	for i := range 60 {
		l := login{user: user(i), id: fmt.Sprint("mute", i), version: wire.V5, clean: i%2 == 0, expiry: uint32(i % 2 * 60), receive: 65535}
		if c := x.connect(0, l); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "not/answered", QoS: byte(1 + i/2%2)}}})
			x.wait.Go(func() { io.Copy(io.Discard, c) })
		}
	}
	x.rest()
}

// absentFlights opens sessions that receive as much as they may have without an answer, and then go.
func (x *excess) absentFlights() {
	const sessions, workers = 3000, 8
	each := func(f func(i int)) {
		var wait sync.WaitGroup
		for w := range workers {
			wait.Go(func() {
				for i := w; i < sessions && !x.over(); i += workers {
					f(i)
				}
			})
		}
		wait.Wait()
	}
	l := func(i int) login {
		return login{user: user(i), id: fmt.Sprint("gone", i), version: wire.V5, expiry: 3600, receive: 65535}
	}
	each(func(i int) {
		if c := x.connect(0, l(i)); c != nil {
			c.subscribe(byte(1+i%2), nil, "gone/t")
			c.Close()
		}
	})
	if p := x.connect(0, login{user: "mallory", version: wire.V5, clean: true}); p != nil {
		for i := range 200 {
			p.send(&wire.Publish{Topic: "gone/t", QoS: 2, ID: uint16(i + 1)})
			p.next(patience)
			p.send(&wire.Ack{Type: wire.PUBREL, ID: uint16(i + 1)})
			p.next(patience)
		}
		p.Close()
	}
	each(func(i int) {
		if c := x.connect(0, l(i)); c != nil {
			for range 100 {
				if _, err := c.next(time.Second); err != nil {
					break
				}
				x.n.Add(1)
			}
			c.Close()
		}
	})
	x.rest()
}

// withoutPubrel leaves as many publishes of QoS 2 open as there may be, in sessions of both kinds.
func (x *excess) withoutPubrel() {
	for i := 0; !x.over(); i++ {
		l := login{user: user(i), id: fmt.Sprint("open", i%600), version: wire.V311, clean: i%2 == 0}
		c := x.connect(0, l)
		if c == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var b []byte
		for id := range 990 {
			b = wire.Append(b, l.version, &wire.Publish{Topic: "o", QoS: 2, ID: uint16(id + 1)})
		}
		c.raw(b)
		if i%2 == 1 {
			for range 990 {
				if _, err := c.next(time.Second); err != nil {
					break
				}
			}
			c.Close()
		}
	}
}

// manySessions fills the table with identifiers of the largest size.
func (x *excess) manySessions() {
	for i := 0; !x.over(); i++ {
		id := fmt.Sprintf("%d-%s", i, strings.Repeat("i", 1010))
		if c := x.connect(0, login{user: user(i), id: id, version: wire.V5, expiry: 0xffffffff}); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: fmt.Sprint("s/", i), QoS: 1}}})
			c.Close()
		} else {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// manyFilters fills the tree with filters that share nothing.
func (x *excess) manyFilters() {
	for i := 0; !x.over(); i++ {
		c := x.connect(0, login{user: user(i), id: fmt.Sprint("deep", i), version: wire.V5, expiry: 3600})
		if c == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		for j := range 4 {
			p := &wire.Subscribe{ID: uint16(j + 1)}
			for k := range 50 {
				p.Subscriptions = append(p.Subscriptions, wire.Subscription{QoS: 1, Filter: fmt.Sprintf("f%d_%d_%d", i, j, k) + strings.Repeat("/a", 60)})
			}
			c.send(p)
			c.next(time.Second)
		}
		c.Close()
		if i > 60 {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// manyWills leaves wills behind, large and small.
func (x *excess) manyWills() {
	for i := 0; !x.over(); i++ {
		l := login{user: user(i), id: fmt.Sprint("will", i), version: wire.V5, clean: true, expiry: 3600,
			will: &wire.Will{Topic: "will/" + fmt.Sprint(i), Payload: make([]byte, []int{10, 60_000}[i%2]), QoS: 1, Delay: 3600}}
		if c := x.connect(0, l); c != nil {
			c.Close()
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// manyRetained fills the store: many of no size in long topics, and large ones.
func (x *excess) manyRetained() {
	c := x.connect(0, login{user: "eve", version: wire.V5, clean: true})
	if c == nil {
		return
	}
	x.wait.Go(func() { io.Copy(io.Discard, c) })
	for i := 0; !x.over(); i++ {
		p := &wire.Publish{Topic: fmt.Sprintf("r/%d/", i) + strings.Repeat("r/", 30), Retain: true, Payload: make([]byte, 100)}
		if i%2000 == 0 {
			p.Payload = make([]byte, 900_000)
		}
		if c.send(p) != nil {
			return
		}
		if i > 12_000 {
			time.Sleep(time.Millisecond)
		}
	}
}

// manyAliases opens many connections with as many topic aliases as there may be, both ways.
func (x *excess) manyAliases() {
	for i := 0; i < 300 && !x.over(); i++ {
		l := login{user: user(i), version: wire.V5, clean: true}
		c := x.connect(0, l)
		if c == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		x.wait.Go(func() { io.Copy(io.Discard, c) })
		for a := range 32 {
			if c.send(&wire.Publish{Topic: fmt.Sprintf("%d-%d-%s", i, a, strings.Repeat("l", 230)), TopicAlias: uint16(a + 1)}) != nil {
				break
			}
		}
	}
	x.rest()
}

// wrongLogins makes the gateway compute the costly hash.
func (x *excess) wrongLogins() {
	for w := range 20 {
		x.wait.Go(func() {
			for i := 0; !x.over(); i++ {
				if c := x.connect(w, login{user: fmt.Sprint("boss", []string{"", fmt.Sprint(i)}[i%2]), password: fmt.Sprint("wrong", i), id: fmt.Sprint("guess", w, "-", i), version: wire.V5, clean: true}); c != nil {
					c.Close()
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// dashboards opens as many connections as there may be, with streams and answers that are not read.
func (x *excess) dashboards() {
	requests := []string{"/api/events", "/api/events", "/metrics", "/api/history?hours=24", "/", "/api/config"}
	for i := 0; !x.over(); i++ {
		raw, err := net.DialTimeout("tcp", x.g.web, patience)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		x.keep(raw)
		raw.(*net.TCPConn).SetReadBuffer(4096)
		raw.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		switch i % 8 {
		case 6:
			fmt.Fprintf(raw, "GET / HTTP/1.1\r\nHost: %s\r\nX: %s", x.g.web, strings.Repeat("y", 15_000))
		case 7:
			fmt.Fprintf(raw, "POST /api/login HTTP/1.1\r\nHost: %s\r\nContent-Length: 16000\r\n\r\n{\"user\":\"%s", x.g.web, strings.Repeat("y", 15_000))
		default:
			for range 20 { // one after the other, in one connection
				fmt.Fprintf(raw, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", requests[i%8], x.g.web)
			}
		}
		if i > 64 {
			time.Sleep(20 * time.Millisecond)
		}
	}
}
