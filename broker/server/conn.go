package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// conn is one client's connection: a goroutine that reads and, after CONNECT, one that writes.
type conn struct {
	s   *Server
	nc  net.Conn
	log *slog.Logger
	// Whether a client without a name may come in.
	anonymous bool
	in        *wire.Reader
	pending   atomic.Int64  // entries that the journal has and has not settled
	wake      chan struct{} // for the writer
	ended     chan struct{} // closed when nothing of the connection is left

	// Set by CONNECT, before the writer starts.
	version   wire.Version
	session   *session
	keepAlive time.Duration // 0 means none
	maxPacket int           // the client's limit; 0 means none

	// Of the reading goroutine.
	will      *wire.Will
	aliases   map[uint16]string
	checked   string // the last topic that was found well-formed
	connected bool   // CONNACK said success

	mu      sync.Mutex
	room    sync.Cond // out was taken, a publish was settled, or the connection is ending
	out     []byte    // packets to write
	closing bool      // no more packets; the writer ends when out is written
	reason  error     // why the server ends the connection
	unacked int       // QoS 1 publishes of the client that were not answered
	open    map[uint16]struct{}
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		s: s, nc: nc, anonymous: s.opts.Anonymous,
		in: wire.NewReader(nc, s.opts.MaxPacket), version: wire.V311,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), open: map[uint16]struct{}{},
	}
	c.room.L = &c.mu
	c.log = s.log.With("remote", c.remote())
	return c
}

// serve reads packets until the connection ends, and then tidies up.
func (c *conn) serve() {
	defer close(c.ended)
	var writer sync.WaitGroup
	err := c.run(&writer)
	c.farewell(err)
	writer.Wait()
	c.nc.Close()
	if c.session != nil {
		c.s.leave(c)
	}
	c.report(err)
}

func (c *conn) run(writer *sync.WaitGroup) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if err := c.handshake(); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	writer.Go(c.write)
	for {
		if !c.in.Buffered() {
			if err := c.arm(); err != nil {
				return err
			}
		}
		p, err := c.in.ReadPacket()
		if err != nil {
			return err
		}
		if err := c.handle(p); err != nil {
			return err
		}
		if err := c.waitForRoom(); err != nil {
			return err
		}
	}
}

// arm gives the client the time of its keep alive for the next packet.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing || c.reason != nil:
		return net.ErrClosed
	case c.keepAlive > 0:
		return c.nc.SetReadDeadline(time.Now().Add(c.keepAlive * 3 / 2)) // [MQTT-3.1.2-22]
	}
	return c.nc.SetReadDeadline(time.Time{})
}

// errDisconnect is a client's orderly end.
var errDisconnect = errors.New("client disconnected")

// farewell tells a 5.0 client why the server ends the connection, and has the writer end.
func (c *conn) farewell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil {
		err = c.reason
	}
	var violation *wire.Error
	switch {
	case !c.connected || c.closing:
	case errors.As(err, &violation):
		c.disconnect(violation.Code)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.disconnect(wire.KeepAliveTimeout)
	case errors.Is(err, errDisconnect), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	default:
		c.disconnect(wire.Unspecified)
	}
	c.end()
}

// disconnect appends a DISCONNECT, which 3.1.1 does not know from a server. Called with mu held.
func (c *conn) disconnect(code wire.Code) {
	if c.version == wire.V5 {
		c.out = wire.Append(c.out, c.version, &wire.Disconnect{Code: code})
	}
}

// end lets the writer finish, but not for long. Called with mu held.
func (c *conn) end() {
	c.closing = true
	c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.room.Broadcast()
	c.poke()
}

// kick ends the connection from outside, telling a 5.0 client the reason.
func (c *conn) kick(code wire.Code) {
	c.mu.Lock()
	if !c.closing {
		c.reason = &wire.Error{Code: code, Text: "ended by the server"}
		if c.connected {
			c.disconnect(code)
		}
		c.end()
	}
	c.interrupt()
	c.mu.Unlock()
}

// interrupt ends the reading goroutine's wait. Called with mu held.
func (c *conn) interrupt() { c.nc.SetReadDeadline(time.Unix(1, 0)) }

func (c *conn) shutdown() { c.kick(wire.ServerShuttingDown) }

// fail ends the connection because of the server's own trouble.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.reason == nil {
		c.reason = err
	}
	c.room.Broadcast()
	c.interrupt()
	c.mu.Unlock()
}

// report logs why the connection ended, unless that is everyday.
func (c *conn) report(err error) {
	c.mu.Lock()
	if c.reason != nil {
		err = c.reason
	}
	c.mu.Unlock()
	var violation *wire.Error
	switch {
	case errors.Is(err, errDisconnect):
		c.log.Debug("client disconnected")
	case errors.As(err, &violation):
		c.log.Info("client disconnected", "reason", err)
	case errors.Is(err, errHandshake): // the place to look when a certificate does not do
		c.log.Info("no connection", "error", err)
	case !c.connected:
		c.log.Debug("no CONNECT", "error", err)
	default:
		c.log.Info("connection ended", "reason", err)
	}
}

// waitForRoom holds the client's further packets back while it does not read ours, or, where the
// protocol has no other way to say so, while too many of its publishes are on their way to disk.
func (c *conn) waitForRoom() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closing && c.reason == nil && (len(c.out) > c.s.opts.MaxQueued || c.pending.Load() > int64(c.s.opts.MaxInflight)) {
		c.room.Wait()
	}
	if c.closing || c.reason != nil {
		return net.ErrClosed
	}
	return nil
}

// settled notes that the journal is done with an entry of this client.
func (c *conn) settled() {
	if c.pending.Add(-1) == int64(c.s.opts.MaxInflight) {
		c.mu.Lock()
		c.room.Broadcast()
		c.mu.Unlock()
	}
}

// send queues a packet.
func (c *conn) send(p wire.Packet) {
	c.mu.Lock()
	if !c.closing {
		c.out = wire.Append(c.out, c.version, p)
	}
	c.mu.Unlock()
	c.poke()
}

// poke wakes the writer.
func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
