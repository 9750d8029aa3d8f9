package main

import (
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/broker/wire"
)

// conduct is how the upstream behaves towards the bridge.
type conduct int

const (
	takes   conduct = iota // everything, and acknowledges it
	stalls                 // keeps the connection and acknowledges nothing
	refuses                // closes every connection
)

// upstream is the scripted broker that the gateway's bridge connects to, over MQTT 5. It ends the connection at a
// message of play/up/poison, as some services do.
type upstream struct {
	addr string
	l    net.Listener

	mu       sync.Mutex
	conduct  conduct
	conns    map[net.Conn]bool
	accounts map[string]*account // by topic
	readings map[int64]bool      // seq
	down     *account
	n        int  // of the last message of down
	pending  bool // it has no PUBACK
	wait     sync.WaitGroup
	known    map[string]bool // client identifiers with a session
	begun    chan struct{}   // closed when a client has subscribed to down
	poisoned int
}

func newUpstream() (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{addr: l.Addr().String(), l: l, conns: map[net.Conn]bool{}, readings: map[int64]bool{}, known: map[string]bool{}, begun: make(chan struct{})}
	u.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			if u.conduct == refuses {
				c.Close()
			} else {
				u.conns[c] = true
				u.wait.Go(func() { u.serve(c) })
			}
			u.mu.Unlock()
		}
	})
	return u, nil
}

func (u *upstream) close() {
	u.l.Close()
	u.behave(refuses)
	u.wait.Wait()
}

// behave changes the conduct; connections begin anew.
func (u *upstream) behave(c conduct) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conduct == c {
		return
	}
	u.conduct = c
	for conn := range u.conns {
		conn.Close()
	}
}

func (u *upstream) serve(conn net.Conn) {
	c := &client{Conn: conn, r: wire.NewReader(conn, wire.MaxSize), version: wire.V5}
	c.r.SetVersion(wire.V5)
	var sender sync.WaitGroup
	gone := make(chan struct{})
	defer func() {
		conn.Close()
		close(gone)
		sender.Wait()
		u.mu.Lock()
		delete(u.conns, conn)
		u.mu.Unlock()
	}()
	acked := make(chan uint16, 8)
	sending := false
	for {
		p, err := c.next(time.Hour)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *wire.Connect:
			u.mu.Lock()
			present := u.known[p.ClientID] && !p.CleanStart
			u.known[p.ClientID] = true
			u.mu.Unlock()
			c.send(&wire.Connack{SessionPresent: present})
		case *wire.Subscribe:
			s := &wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: make([]wire.Code, len(p.Subscriptions))}
			for i := range s.Codes {
				s.Codes[i] = 1
			}
			c.send(s)
			if u.down != nil && !sending { // a further subscription asks for what is retained, and there is nothing
				sending = true
				sender.Go(func() { u.send(c, acked, gone) })
			}
		case *wire.Ping:
			c.send(&wire.Ping{Type: wire.PINGRESP})
		case *wire.Ack:
			if p.Type == wire.PUBACK {
				select {
				case acked <- p.ID:
				case <-gone:
				default:
				}
			}
		case *wire.Disconnect:
			return
		case *wire.Publish:
			if !u.take(p) {
				return
			}
			u.mu.Lock()
			stalled := u.conduct == stalls
			u.mu.Unlock()
			if p.QoS == 1 && !stalled {
				c.send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
			}
		}
	}
}

// take books a message and reports whether the connection may go on.
func (u *upstream) take(p *wire.Publish) bool {
	u.mu.Lock()
	a := u.accounts[p.Topic]
	if strings.HasPrefix(p.Topic, "sensors/") {
		var x struct {
			Seq int64 `json:"seq"`
		}
		if json.Unmarshal(p.Payload, &x) == nil && x.Seq > 0 {
			u.readings[x.Seq] = true
		}
	}
	poison := strings.HasPrefix(p.Topic, "play/up/poison")
	if poison {
		u.poisoned++
	}
	u.mu.Unlock()
	if n := number(p.Payload); a != nil && n > 0 {
		a.received(n, true)
	}
	return !poison
}

// holes returns the readings' numbers that have not come between the first and the last one that has.
func (u *upstream) holes() (missing []int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []int64
	for n := range u.readings {
		all = append(all, n)
	}
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		for n := all[i-1] + 1; n < all[i]; n++ {
			missing = append(missing, int(n))
		}
	}
	return missing
}

// send publishes numbered messages on down/n, one after the other: one without PUBACK comes again on the next
// connection, with DUP, as in a session that goes on.
func (u *upstream) send(c *client, acked chan uint16, gone chan struct{}) {
	select {
	case <-gone:
		return
	case <-u.begun:
	}
	for {
		u.mu.Lock()
		again := u.pending
		if !again {
			u.n++
			u.pending = true
		}
		n := u.n
		u.mu.Unlock()
		id := uint16(n%60000 + 1)
		if c.send(&wire.Publish{Topic: "down/n", QoS: 1, ID: id, Dup: again, Payload: strconv.AppendInt(nil, int64(n), 10)}) != nil {
			return
		}
		for got := false; !got; {
			select {
			case <-gone:
				return
			case x := <-acked:
				got = x == id
			}
		}
		u.down.acknowledged(n)
		u.mu.Lock()
		u.pending = false
		u.mu.Unlock()
		select {
		case <-gone:
			return
		case <-time.After(60 * time.Millisecond):
		}
	}
}
