package main

import (
	"fmt"
	"strings"
	"time"

	"holdfast/broker/wire"
)

// halfConnections opens connections and says nothing.
func halfConnections(a *attack) {
	for range 50 + a.IntN(200) {
		if a.over() || a.bare(login{ws: a.IntN(8) == 0, version: wire.V5}) == nil {
			break
		}
	}
	a.linger = a.IntN(2) == 0
	a.rest()
}

// halfConnects sends all of a large CONNECT but its end.
func halfConnects(a *attack) {
	body := append(field(nil, "MQTT"), 5, 2, 0, byte(a.IntN(2)))
	body = append(body, bits32(17*60_006)...)
	for range 17 {
		body = field(field(append(body, 0x26), "k"), strings.Repeat("v", 60_000))
	}
	p := frame(0x10, body)
	p = p[:min(len(p), pick(a, 4<<10, 64<<10, 1<<20))]
	for range 20 + a.IntN(100) {
		c := a.bare(login{version: wire.V5, ws: a.IntN(8) == 0})
		if a.over() || c == nil {
			break
		}
		c.SetWriteDeadline(time.Now().Add(a.left()))
		c.Write(p)
	}
	a.linger = a.IntN(2) == 0
	a.rest()
}

// bits32 is a variable byte integer.
func bits32(n int) []byte {
	var b []byte
	for {
		d := byte(n & 127)
		if n >>= 7; n == 0 {
			return append(b, d)
		}
		b = append(b, d|128)
	}
}

// halfPackets begins large publishes after a login and never ends them.
func halfPackets(a *attack) {
	p := wire.Append(nil, wire.V5, &wire.Publish{Topic: "play/x", Payload: make([]byte, 1<<20-100)})
	for range 10 + a.IntN(60) {
		l := a.as("mallory")
		l.id, l.version, l.clean, l.ws = "", wire.V5, true, false
		c := a.connect(l)
		if a.over() || c == nil {
			break
		}
		c.SetWriteDeadline(time.Now().Add(a.left()))
		c.Write(p[:len(p)-1-a.IntN(1000)])
	}
	a.linger = a.IntN(2) == 0
	a.rest()
}

// aliases breaks the rules of topic aliases.
func aliases(a *attack) {
	for !a.over() {
		l := a.as("mallory")
		l.version, l.ws = wire.V5, false
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, honest(c))
		for range 20 {
			p := &wire.Publish{TopicAlias: pick(a, uint16(1), 2, 10, 32, 33, 65535), QoS: byte(a.IntN(3)), ID: uint16(1 + a.IntN(50))}
			if a.IntN(3) == 0 {
				p.Topic = pick(a, "play/alias", "victim/one", "")
			}
			if c.send(p) != nil {
				break
			}
		}
		c.raw(frame(0x30, append(field(nil, "play/x"), 3, 0x23, 0, 0)))
		time.Sleep(5 * time.Millisecond)
		c.Close()
	}
}

// oversize announces more than may come.
func oversize(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		if a.IntN(2) == 0 {
			c.send(l.packet())
		}
		c.raw(pick(a, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0x7f}, []byte{0x32, 0x80, 0x80, 0x41}, []byte{0x82, 0xff, 0xff, 0x3f}))
		for range 10 {
			if a.over() || c.raw(make([]byte, 20_000)) != nil {
				break
			}
		}
		c.Close()
	}
}

// bytes returns n random bytes.
func (a *attack) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(a.Uint32())
	}
	return b
}

// randomBytes sends what is no MQTT, before and after CONNECT.
func randomBytes(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		if a.IntN(2) == 0 {
			c.send(l.packet())
		}
		for range 1 + a.IntN(5) {
			b := a.bytes(1 + a.IntN(200))
			if a.IntN(2) == 0 { // at least a type and a length
				b = frame(b[0], b[1:])
			}
			c.raw(b)
		}
		time.Sleep(2 * time.Millisecond)
		c.Close()
	}
}

// packet returns any packet that a client may send to its own topics.
func (a *attack) packet(l login) wire.Packet {
	front := topicOf(l.user)
	id := uint16(1 + a.IntN(100))
	switch a.IntN(10) {
	case 0:
		return &wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: front + pick(a, "#", "+/+", "a/b"), QoS: byte(a.IntN(3)), RetainHandling: byte(a.IntN(3))}}}
	case 1:
		return &wire.Unsubscribe{ID: id, Filters: []string{front + pick(a, "#", "+/+", "a/b")}}
	case 2:
		return &wire.Ack{Type: pick(a, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP), ID: id}
	case 3:
		return &wire.Ping{Type: wire.PINGREQ}
	case 4:
		if a.IntN(4) == 0 {
			return l.packet()
		}
		return &wire.Disconnect{}
	}
	q := byte(a.IntN(3))
	p := &wire.Publish{Topic: front + pick(a, "a", "a/b", "c"), QoS: q, Retain: a.IntN(4) == 0, Dup: q > 0 && a.IntN(4) == 0, Payload: make([]byte, a.IntN(300)),
		Expires: a.IntN(3) == 0, Expiry: uint32(a.IntN(3))}
	if q > 0 {
		p.ID = id
	}
	return p
}

// mutatedPackets flips bits of good packets, cuts them and puts them together wrongly.
func mutatedPackets(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		b := wire.Append(nil, l.version, l.packet())
		if a.IntN(4) > 0 {
			c.raw(b)
			b = nil
		}
		for range 1 + a.IntN(20) {
			b = wire.Append(b, l.version, a.packet(l))
		}
		for range a.IntN(4) {
			b[a.IntN(len(b))] ^= 1 << a.IntN(8)
		}
		c.raw(b[:len(b)-a.IntN(min(len(b), 3))])
		time.Sleep(2 * time.Millisecond)
		c.Close()
	}
}

// websocketGarbage breaks the handshake and the frames.
func websocketGarbage(a *attack) {
	for !a.over() {
		if a.IntN(2) == 0 { // a handshake that should fail
			c := a.bare(login{version: wire.V5})
			if c == nil {
				return
			}
			c.Close()
			raw, err := dial(a.g.ws, login{}, patience)
			if err != nil {
				return
			}
			raw.raw([]byte(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: %d\r\nSec-WebSocket-Protocol: %s\r\nOrigin: http://evil.example\r\nX: %s\r\n\r\n",
				pick(a, "/mqtt", "/", "/../etc/passwd", "/"+strings.Repeat("a", 5000)), pick(a, a.g.ws, "evil.example", ""),
				pick(a, "dGhlIHNhbXBsZSBub25jZQ==", "x"), pick(a, 13, 8, -1), pick(a, "mqtt", "mqttv3.1", "soap"), strings.Repeat("y", pick(a, 1, 10_000, 2_000_000)))))
			peekHTTP(raw, 50*time.Millisecond)
			raw.Close()
			continue
		}
		conn, err := dial(a.g.ws, login{}, patience)
		if err != nil {
			return
		}
		conn.raw([]byte("GET /mqtt HTTP/1.1\r\nHost: " + a.g.ws + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"))
		peekHTTP(conn, 200*time.Millisecond)
		for range 1 + a.IntN(10) {
			body := a.bytes(a.IntN(200))
			first := pick(a, byte(0x82), 0x02, 0x80, 0x81, 0x89, 0x8a, 0x88, 0xf2, 0x8f)
			length := pick(a, byte(len(body)&127)|0x80, byte(len(body)&127), 0xfe, 0xff)
			conn.raw(append([]byte{first, length}, body...))
		}
		conn.Close()
	}
}

// properties sends large and wrong properties.
func properties(a *attack) {
	for !a.over() {
		l := a.as("mallory")
		l.version, l.clean = wire.V5, true
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, honest(c))
		var many []byte
		for range 1 << a.IntN(14) {
			many = field(field(append(many, 0x26), "k"), "v")
		}
		c.send(&wire.Publish{Topic: "play/p", QoS: 1, ID: 1, Forward: many, Retain: a.IntN(2) == 0})
		first := pick(a, byte(0x30), 0x82, 0xa2, 0xe0)
		body := append([]byte{}, pick(a, []byte{0x18, 0, 0, 0, 1}, []byte{0x7f, 1}, []byte{0x23, 0, 1, 0x23, 0, 2}, []byte{0x0b, 0}, []byte{0x26, 0xff, 0xff})...)
		body = append(bits32(len(body)), body...)
		switch first {
		case 0x30:
			body = append(field(nil, "play/p"), body...)
		case 0xe0:
			body = append([]byte{0}, body...)
		default:
			body = append(field(append([]byte{0, 1}, body...), "play/#"), 0)
		}
		c.raw(frame(first, body))
		time.Sleep(5 * time.Millisecond)
		c.Close()
	}
}
