package brokertest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"holdfast/broker/wire"
)

// patience is how long a test waits for a packet that must come; no test measures it.
const patience = 20 * time.Second

// Client is one MQTT connection that a test controls packet by packet. Its methods fail the
// test if the peer does not do as expected. It is for one goroutine.
type Client struct {
	t       testing.TB
	conn    net.Conn
	r       *wire.Reader
	version wire.Version
}

// Dial opens a TCP connection, which is closed when the test ends, and sends nothing.
func Dial(t testing.TB, addr string, version wire.Version) *Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, conn, version)
}

// NewClient returns a client on conn, which is closed when the test ends.
func NewClient(t testing.TB, conn net.Conn, version wire.Version) *Client {
	t.Cleanup(func() { conn.Close() })
	c := &Client{t: t, conn: conn, r: wire.NewReader(conn, wire.MaxSize), version: version}
	c.r.SetVersion(version)
	return c
}

// Connect sends a CONNECT and returns the answer.
func (c *Client) Connect(p wire.Connect) *wire.Connack {
	c.t.Helper()
	p.Version = c.version
	c.Send(&p)
	return Receive[*wire.Connack](c)
}

// Send writes packets, all at once.
func (c *Client) Send(packets ...wire.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		b = wire.Append(b, c.version, p)
	}
	c.SendBytes(b)
}

// SendBytes writes bytes that need not be packets.
func (c *Client) SendBytes(b []byte) {
	c.t.Helper()
	if err := c.TrySend(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// TrySend is SendBytes for a connection that the peer may have closed.
func (c *Client) TrySend(b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(2 * patience))
	_, err := c.conn.Write(b)
	return err
}

// Next returns the next packet, or the error that ended the connection.
func (c *Client) Next() (wire.Packet, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	return c.r.ReadPacket()
}

// Read reads bytes that need not be packets, instead of Next.
func (c *Client) Read(b []byte) (int, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	return c.conn.Read(b)
}

// Receive returns the next packet, which has to be of type P.
func Receive[P wire.Packet](c *Client) P {
	c.t.Helper()
	got, err := c.Next()
	if err != nil {
		var want P
		c.t.Fatalf("want %T, got %v", want, err)
	}
	p, ok := got.(P)
	if !ok {
		c.t.Fatalf("want %T, got %s", p, Describe(got))
	}
	return p
}

// Describe returns a packet as text for a test's message.
func Describe(p wire.Packet) string { return fmt.Sprintf("%T %+v", p, p) }

// Silent checks that the peer has sent nothing: the next packet is the answer to a PINGREQ.
func (c *Client) Silent() {
	c.t.Helper()
	c.Send(&wire.Ping{Type: wire.PINGREQ})
	Receive[*wire.Ping](c)
}

// Closed checks that the peer closes the connection, without another packet except a DISCONNECT of 5.0,
// whose reason code it returns.
func (c *Client) Closed() wire.Code {
	c.t.Helper()
	p, err := c.Next()
	var code wire.Code
	if d, ok := p.(*wire.Disconnect); ok && c.version == wire.V5 {
		code = d.Code
		p, err = c.Next()
	}
	if err == nil {
		c.t.Fatalf("want the end of the connection, got %s", Describe(p))
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("connection stays open")
	}
	if v := (*wire.Error)(nil); errors.As(err, &v) {
		c.t.Fatalf("want the end of the connection, got %v", err)
	}
	return code
}

// Close cuts the connection, as a lost network does.
func (c *Client) Close() { c.conn.Close() }

// Drain discards input until the connection ends.
func (c *Client) Drain() { io.Copy(io.Discard, c.conn) }
