package server

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"holdfast/broker/listen"
	"holdfast/broker/server/intake"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// conn is one client's connection: a goroutine that reads, and one that writes while the kernel does not
// take everything at once. Each group of fields has one owner; the order of locks is in lock.go.
type conn struct {
	s     *Server
	nc    net.Conn
	ended chan struct{} // closed when nothing of the connection is left

	place      *place        // the listener that accepted it; nil after Serve
	anonymous  bool          // whether an anonymous client may log in
	connecting *list.Element // in Server.conns.connecting, guarded by Server.mu; nil once CONNECT has arrived

	// Set by CONNECT, before anything else is written, and then constant.
	session *session
	peer    peer

	// For the reading goroutine alone.
	in      *intake.Reader
	scratch *scratch // lent to in; nil while it is idle
	aliases aliases
	will    *will
	firsts
	todo []func() // what is put off until Server.mu is free: logging may wait

	writer writer // who writes, and the socket; for the goroutine that writes

	mu     sync.Mutex // guards the fields below, but for the atomic ones in them
	room   sync.Cond  // out was taken, a publish was settled, writing has stopped, or the connection is ending
	phase  phase
	out    output // packets to write
	window window // the client's packets that are to be answered
}

// firsts is what a connection does once.
type firsts struct {
	announced    bool // the client has published to its state topic
	loggedDenied bool // the first denied publish was logged
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, anonymous: s.opts.Anonymous, ended: make(chan struct{})}
	c.peer.version = wire.V311
	c.room.L = &c.mu
	c.writer.init(nc)
	c.in = intake.New(host{c}, nc, c.writer.raw, s.unfinished, min(s.opts.MaxConnectPacket, s.opts.MaxPacket)) // until CONNECT has come
	return c
}

// later puts f off until the reading goroutine holds no lock.
func (c *conn) later(f func()) { c.todo = append(c.todo, f) }

// catchUp does what later put off.
func (c *conn) catchUp() {
	for _, f := range c.todo {
		f()
	}
	c.todo = nil
}

// logger returns the server's log with the client's address and identifier.
func (c *conn) logger() *slog.Logger {
	l := c.s.log.With("remote", c.remote())
	if c.session != nil {
		l = l.With("client", c.session.id)
	}
	return l
}

// serve reads packets until the connection ends, and then cleans up.
func (c *conn) serve() {
	defer c.linger()
	defer close(c.ended)
	err := c.run()
	c.farewell(err)
	if c.phase.connected {
		c.drain()
	}
	if c.session != nil {
		c.s.memory.gone(c)
		c.s.leave(c)
	}
	c.report(err)
}

// linger gives the client time to read why the server ends the connection: if it closed while bytes of the client
// are unread, or on their way, the kernel would send a reset, which discards our last packet too. The
// session is free by then.
func (c *conn) linger() {
	defer c.nc.Close()
	c.mu.Lock()
	wanted := c.phase.hasLastWord
	c.mu.Unlock()
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !wanted || !ok || half.CloseWrite() != nil {
		return
	}
	limit := lastRead
	if c.s.ending() {
		limit = lastReadAtShutdown
	}
	c.nc.SetReadDeadline(time.Now().Add(limit))
	io.CopyN(io.Discard, c.nc, lastReadBytes)
}

// What linger reads and drops before it closes.
const (
	lastRead           = 500 * time.Millisecond
	lastReadAtShutdown = 100 * time.Millisecond
	lastReadBytes      = 1 << 20
)

func (c *conn) run() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
		c.in.Drop() // the rest takes a moment, and many connections may end at once
	}()
	if err := c.handshake(); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	for {
		p, err := c.next()
		if err != nil && c.in.Late() && errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.tooLate(err)
		}
		if err != nil {
			return err
		}
		if err := c.handle(p, c.scratch); err != nil {
			return err
		}
		if err := c.waitForRoom(); err != nil {
			return err
		}
	}
}

// arm sets the read deadline. Until CONNECT the handshake's deadline holds.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase.ending() {
		return net.ErrClosed
	}
	if !c.phase.connected {
		return nil
	}
	due, change := c.in.Due(c.peer.keepAlive, c.s.opts.PacketTimeout)
	if !change {
		return nil
	}
	return c.nc.SetReadDeadline(due)
}

// errPacketTime ends a connection when the rest of its packet does not arrive in time.
var errPacketTime = &wire.Error{Code: wire.Unspecified, Text: "timeout for the rest of a packet"}

// tooLate returns the error of a connection whose deadline for the rest of a packet is over: err, if the server ends it
// for another reason and has woken the reading goroutine by that deadline.
func (c *conn) tooLate(err error) error {
	c.mu.Lock()
	kicked := c.phase.reason != nil
	c.mu.Unlock()
	if kicked {
		return err
	}
	c.s.limits.Reached(limits.PacketTime, "connection closed: timeout for the rest of a packet", "remote", c.remote(), "client", c.session.id)
	return errPacketTime
}

// errDisconnect is a client's orderly end.
var errDisconnect = errors.New("client disconnected")

// farewell sends a 5.0 client the reason why the server ends the connection, as the last packet.
func (c *conn) farewell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.phase.cause(err)
	var violation *wire.Error
	switch {
	case !c.phase.connected:
		if errors.As(err, &violation) && !c.phase.refused {
			c.s.counts.refusals.count(wire.CONNACK, violation.Code)
		}
	case c.phase.closing:
	case errors.As(err, &violation):
		c.disconnect(violation.Code, violation.Text)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.disconnect(wire.KeepAliveTimeout, "")
	case errors.Is(err, errDisconnect), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	default:
		c.disconnect(wire.Unspecified, "")
	}
	c.end()
}

// disconnect queues a DISCONNECT, which a server sends in 5.0 only. Called with mu held.
func (c *conn) disconnect(code wire.Code, text string) {
	c.s.counts.refusals.count(wire.DISCONNECT, code)
	if c.peer.version != wire.V5 {
		return
	}
	p := &wire.Disconnect{Code: code}
	if text != "" && c.peer.takes(len(text)+16) { // [MQTT-3.14.2-3]
		p.Properties.ReasonString = &text
	}
	c.queue(p)
	c.phase.hasLastWord = true
}

// end begins to close the connection; what is queued is still written, for up to lastWords. Called with mu held.
func (c *conn) end() {
	c.phase.close()
	c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.room.Broadcast()
	c.wake()
}

// kick ends the connection from another goroutine; a 5.0 client gets the reason in a DISCONNECT.
func (c *conn) kick(code wire.Code) { c.kickFor(&wire.Error{Code: code, Text: "ended by the server"}) }

func (c *conn) kickFor(reason *wire.Error) {
	c.mu.Lock()
	if !c.phase.closing {
		c.phase.reason = reason
		if c.phase.connected {
			c.disconnect(reason.Code, "")
		}
		c.end()
	}
	c.interrupt()
	c.mu.Unlock()
}

// interrupt wakes the reading goroutine with an error. Called with mu held.
func (c *conn) interrupt() { c.nc.SetReadDeadline(time.Unix(1, 0)) }

func (c *conn) shutdown() { c.kick(wire.ServerShuttingDown) }

// fail ends the connection because of an error of the server.
func (c *conn) fail(err error) {
	c.mu.Lock()
	c.failed(err)
	c.mu.Unlock()
}

// failed is fail, called with mu held.
func (c *conn) failed(err error) {
	c.phase.because(err)
	c.room.Broadcast()
	c.interrupt()
}

// report logs why the connection ended, at debug level if that is normal.
func (c *conn) report(err error) {
	c.mu.Lock()
	err = c.phase.cause(err)
	c.mu.Unlock()
	log := c.logger()
	var violation *wire.Error
	var revoked *listen.RevokedError
	switch {
	case errors.Is(err, errDisconnect):
		log.Debug("client disconnected")
	case errors.As(err, &violation) && violation.Code == wire.PacketTooLarge && violation.Size > 0:
		c.s.counts.oversized.Add(1)
		key := "broker.limits.packet"
		if !c.phase.connected && c.s.opts.MaxConnectPacket < c.s.opts.MaxPacket {
			key = "broker.limits.connect_packet"
		}
		log.Warn("client disconnected: its packet is larger than "+key+", which may be raised", "bytes", violation.Size, "limit", c.in.Most())
	case errors.As(err, &violation):
		log.Info("client disconnected", "reason", err)
	case errors.As(err, &revoked):
		c.noteRevoked(err)
	case errors.Is(err, listen.ErrHost), errors.Is(err, listen.ErrOrigin):
		c.s.counts.refusedHosts.Add(1)
		log.Warn("connection refused", "error", err)
	case errors.Is(err, errHandshake): // the place to look when a certificate does not do
		log.Info("no connection", "error", err)
	case !c.phase.connected:
		log.Debug("no CONNECT", "error", err)
	default:
		log.Info("connection ended", "reason", err)
	}
}

// waitForRoom stops reading while the client does not read our packets, or while too many of its publishes
// are on their way to disk, which the protocol of 3.1.1 cannot limit otherwise.
func (c *conn) waitForRoom() error {
	if c.window.changed { // changes are appended without waiting, under locks; here none is held
		c.window.changed = false
		if c.s.journal.Crowded() {
			c.scratch.finish(c.s)
			c.s.journal.WaitForRoom()
		}
	}
	most := int64(c.s.opts.MaxInflight)
	if !c.out.crowded.Load() && c.window.pending.Load() <= most {
		return nil
	}
	c.scratch.finish(c.s)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.phase.ending() && (c.out.crowded.Load() || c.window.pending.Load() > most) {
		c.room.Wait()
	}
	if c.phase.ending() {
		return net.ErrClosed
	}
	return nil
}

// settled notes that the journal has committed or refused an entry of this client, and that the consequences are
// done or in the inbox. It does not wait.
func (c *conn) settled() {
	if c.window.pending.Add(-1) == int64(c.s.opts.MaxInflight) {
		c.session.whenFree(c, c.room.Broadcast)
	}
}
