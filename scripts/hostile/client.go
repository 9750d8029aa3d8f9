package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net"
	"sync"
	"time"

	"holdfast/broker/listen"
	"holdfast/broker/wire"
)

// client is one MQTT connection that its caller controls. Sending is for several goroutines, receiving for one.
type client struct {
	net.Conn
	r       *wire.Reader
	version wire.Version
	ack     *wire.Connack
	mu      sync.Mutex // guards writes
}

// login is what a client connects with.
type login struct {
	user     string // whose password is "pw-" and the name, unless password has another; "" is anonymous
	password string
	id       string
	version  wire.Version
	clean    bool
	keep     uint16
	expiry   uint32 // of the session, over version 5
	receive  uint16 // receive maximum, over version 5; 0 leaves it out
	will     *wire.Will
	ws       bool // over WebSocket: the address is that listener's
	buffer   int  // of the socket, for what is received; 0 leaves it to the kernel
}

func (l login) packet() *wire.Connect {
	p := &wire.Connect{Version: l.version, CleanStart: l.clean, ClientID: l.id, KeepAlive: l.keep, Will: l.will}
	if l.user != "" {
		p.HasUsername, p.Username, p.HasPassword, p.Password = true, l.user, true, []byte(l.password)
		if l.password == "" {
			p.Password = []byte("pw-" + l.user)
		}
	}
	if l.version == wire.V5 {
		if l.expiry > 0 {
			p.Properties.SessionExpiry = &l.expiry
		}
		if l.receive > 0 {
			p.Properties.ReceiveMaximum = &l.receive
		}
	}
	return p
}

// dial connects and sends nothing of MQTT.
func dial(addr string, l login, most time.Duration) (*client, error) {
	ctx, stop := context.WithTimeout(context.Background(), most)
	defer stop()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if l.buffer > 0 {
		conn.(*net.TCPConn).SetReadBuffer(l.buffer)
	}
	if l.ws {
		if conn, _, err = listen.DialWebSocket(ctx, conn, "ws://"+addr+"/mqtt"); err != nil {
			return nil, err
		}
	}
	c := &client{Conn: conn, r: wire.NewReader(conn, wire.MaxSize), version: l.version}
	c.r.SetVersion(l.version)
	return c, nil
}

// refused is the answer to a CONNECT that is not taken.
type refused struct{ code wire.Code }

func (r refused) Error() string { return fmt.Sprintf("connection refused: %v", r.code) }

// open connects and returns when CONNACK has come.
func open(addr string, l login, most time.Duration) (*client, error) {
	c, err := dial(addr, l, most)
	if err != nil {
		return nil, err
	}
	if err = c.send(l.packet()); err == nil {
		var p wire.Packet
		if p, err = c.next(most); err == nil {
			ok := false
			if c.ack, ok = p.(*wire.Connack); !ok {
				err = fmt.Errorf("%T instead of CONNACK", p)
			} else if c.ack.Code != 0 {
				err = refused{c.ack.Code}
			}
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) send(packets ...wire.Packet) error {
	var b []byte
	for _, p := range packets {
		b = wire.Append(b, c.version, p)
	}
	return c.raw(b)
}

// raw writes bytes that need not be packets.
func (c *client) raw(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.SetWriteDeadline(time.Now().Add(30 * time.Second))
	_, err := c.Write(b)
	return err
}

func (c *client) next(most time.Duration) (wire.Packet, error) {
	c.SetReadDeadline(time.Now().Add(most))
	return c.r.ReadPacket()
}

// close ends the connection in order; Close cuts it.
func (c *client) close() {
	c.send(&wire.Disconnect{})
	c.Close()
}

// answer sends what completes the delivery of p, as an honest subscriber does, and reports whether p is a message.
func (c *client) answer(p wire.Packet) (m *wire.Publish, err error) {
	switch p := p.(type) {
	case *wire.Publish:
		switch p.QoS {
		case 1:
			err = c.send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
		case 2:
			err = c.send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
		}
		return p, err
	case *wire.Ack:
		if p.Type == wire.PUBREL {
			err = c.send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
		}
	case *wire.Disconnect:
		err = fmt.Errorf("disconnected: %v", p.Code)
	}
	return nil, err
}

// subscribe returns the codes of the SUBACK. Messages that come before it are handed to early.
func (c *client) subscribe(qos byte, early func(wire.Packet), filters ...string) ([]wire.Code, error) {
	p := &wire.Subscribe{ID: 0xfffe}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, wire.Subscription{Filter: f, QoS: qos})
	}
	if err := c.send(p); err != nil {
		return nil, err
	}
	for {
		got, err := c.next(patience)
		if err != nil {
			return nil, err
		}
		if a, ok := got.(*wire.Suback); ok {
			return a.Codes, nil
		}
		if early != nil {
			early(got)
		}
	}
}

// cheapHash is a line's hash in the form of mosquitto_passwd, with so few iterations that logins cost nothing:
// what a login may cost is the matter of one user with a costly hash.
func cheapHash(user string) string {
	salt := []byte("hostile-salt")
	key, err := pbkdf2.Key(sha512.New, "pw-"+user, salt, 10, sha512.Size)
	if err != nil {
		panic(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return "$7$10$" + b64(salt) + "$" + b64(key)
}

// frame is a control packet of any bytes.
func frame(first byte, body []byte) []byte {
	b := []byte{first}
	for n := len(body); ; {
		d := byte(n & 127)
		if n >>= 7; n > 0 {
			b = append(b, d|128)
			continue
		}
		return append(append(b, d), body...)
	}
}

func field[T string | []byte](b []byte, s T) []byte {
	return append(append(b, byte(len(s)>>8), byte(len(s))), s...)
}

// peekHTTP reads one line of an answer.
func peekHTTP(conn net.Conn, most time.Duration) string {
	conn.SetReadDeadline(time.Now().Add(most))
	line, _ := bufio.NewReader(conn).ReadSlice('\n')
	return string(bytes.TrimSpace(line))
}
