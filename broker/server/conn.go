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
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/listen"
	"holdfast/broker/wire"
)

// conn is one client's connection: a goroutine that reads, and one that writes while the kernel does not
// take everything at once.
type conn struct {
	s       *Server
	nc      net.Conn
	in      input
	pending atomic.Int64  // entries appended to the journal and not committed
	ended   chan struct{} // closed when nothing of the connection is left

	waiting *list.Element // in Server.connecting, guarded by Server.mu; nil once CONNECT has arrived

	place     *place // the listener that accepted it; nil after Serve
	anonymous bool   // whether an anonymous client may log in

	// Set by CONNECT, before anything else is written.
	version   wire.Version
	since     time.Time
	session   *session
	grant     *auth.Grant
	publisher string        // the owner of its publishes in the journal: the user, or else the client itself
	keepAlive time.Duration // 0 means none
	maxPacket int           // the client's limit; 0 means none
	aliasMax  uint16        // topic aliases that the client accepts
	bridge    bool          // the client is another broker's bridge
	noReasons bool          // the client wants neither reason strings nor user properties

	// For the reading goroutine alone.
	will                *will
	aliases             map[uint16]*topic // that the client has set
	aliasBytes          int               // of their topics
	connected           bool              // CONNACK with success has been sent
	changed             bool              // it has appended changes
	heard               time.Time         // when the last whole packet came
	armed               bool              // a read deadline is set
	late                bool              // that deadline is for the rest of a packet
	announced           bool              // the client has published to its state topic
	loggedDeniedPublish bool              // the first denied publish was logged
	todo                []func()          // what is put off until Server.mu is free: logging may wait

	// For the goroutine that has set work to busy.
	raw     syscall.RawConn // nil if nc is not a socket of the kernel's
	try     func(fd uintptr) bool
	tried   []byte // what try is to write
	written int    // how much it has

	loggedDeniedRead bool // a message that may not be read any more was logged

	work    atomic.Uint32 // idle, busy or again
	dirty   atomic.Bool   // on a scratch's list of connections to flush
	crowded atomic.Bool   // out is longer than MaxQueued
	over    atomic.Bool   // closing, readable without mu

	mu          sync.Mutex
	room        sync.Cond // out was taken, a publish was settled, writing has stopped, or the connection is ending
	out         *buffer   // packets to write; nil if there are none
	given       map[string]uint16
	closing     bool  // no more packets
	reason      error // why the server ends the connection
	hasLastWord bool  // the last packet tells the client why the connection ends
	refused     bool  // by a CONNACK
	unacked     int   // QoS 1 publishes of the client that were not answered
	open        map[uint16]struct{}

	// Of what is in out.
	packets, publishes, publishBytes uint64
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, anonymous: s.opts.Anonymous, version: wire.V311, ended: make(chan struct{})}
	c.room.L = &c.mu
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.try = raw, c.tryWrite
		}
	}
	c.in.init(c)
	c.work.Store(again) // nothing is written before CONNACK
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
	if c.connected {
		c.drain()
	}
	if c.session != nil {
		c.s.pressure.gone(c)
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
	wanted := c.hasLastWord
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
		c.in.drop() // the rest takes a moment, and many connections may end at once
	}()
	if err := c.handshake(); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	for {
		p, err := c.in.next(c.arm)
		if err != nil && c.late && errors.Is(err, os.ErrDeadlineExceeded) {
			c.mu.Lock()
			kicked := c.reason != nil
			c.mu.Unlock()
			if !kicked {
				c.s.reached(limitPacketTime, "connection closed: timeout for the rest of a packet", "remote", c.remote(), "client", c.session.id)
				err = errPacketTime
			}
		}
		if err != nil {
			return err
		}
		c.heard = c.in.scratch.now
		if err := c.handle(p, c.in.scratch); err != nil {
			return err
		}
		if err := c.waitForRoom(); err != nil {
			return err
		}
	}
}

// arm sets the read deadline: the keep alive for the next whole packet, and packet_time for each 64 KiB of one that
// has arrived in part, also without a keep alive. Until CONNECT the handshake's deadline holds.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due time.Time
	switch {
	case c.closing || c.reason != nil:
		return net.ErrClosed
	case !c.connected:
		return nil
	case c.keepAlive > 0:
		due = c.heard.Add(c.keepAlive * 3 / 2) // [MQTT-3.1.2-22]
	}
	c.late = false
	if !c.in.begun.IsZero() {
		rest := time.Duration(1+len(c.in.buf)/packetStep) * c.s.opts.PacketTimeout
		if end := c.in.begun.Add(rest); due.IsZero() || end.Before(due) {
			due, c.late = end, true
		}
	}
	if due.IsZero() && !c.armed {
		return nil
	}
	c.armed = !due.IsZero()
	return c.nc.SetReadDeadline(due)
}

// packetStep is how much of a packet has to arrive within Options.PacketTimeout.
const packetStep = 64 << 10

// errPacketTime ends a connection when the rest of its packet does not arrive in time.
var errPacketTime = &wire.Error{Code: wire.Unspecified, Text: "timeout for the rest of a packet"}

// errDisconnect is a client's orderly end.
var errDisconnect = errors.New("client disconnected")

// farewell sends a 5.0 client the reason why the server ends the connection, as the last packet.
func (c *conn) farewell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil {
		err = c.reason
	}
	var violation *wire.Error
	switch {
	case !c.connected:
		if errors.As(err, &violation) && !c.refused {
			c.s.refusals.count(wire.CONNACK, violation.Code)
		}
	case c.closing:
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
	c.s.refusals.count(wire.DISCONNECT, code)
	if c.version != wire.V5 {
		return
	}
	p := &wire.Disconnect{Code: code}
	if text != "" && (c.maxPacket == 0 || len(text)+16 <= c.maxPacket) { // [MQTT-3.14.2-3]
		p.Properties.ReasonString = &text
	}
	c.queue(p)
	c.hasLastWord = true
}

// end begins to close the connection: queued packets have lastWords to be written. Called with mu held.
func (c *conn) end() {
	c.closing = true
	c.over.Store(true)
	c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.room.Broadcast()
	c.wake()
}

// kick ends the connection from another goroutine; a 5.0 client gets the reason in a DISCONNECT.
func (c *conn) kick(code wire.Code) { c.kickFor(&wire.Error{Code: code, Text: "ended by the server"}) }

func (c *conn) kickFor(reason *wire.Error) {
	c.mu.Lock()
	if !c.closing {
		c.reason = reason
		if c.connected {
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
	if c.reason == nil {
		c.reason = err
	}
	c.room.Broadcast()
	c.interrupt()
}

// report logs why the connection ended, at debug level if that is normal.
func (c *conn) report(err error) {
	c.mu.Lock()
	if c.reason != nil {
		err = c.reason
	}
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
		if !c.connected && c.s.opts.MaxConnectPacket < c.s.opts.MaxPacket {
			key = "broker.limits.connect_packet"
		}
		log.Warn("client disconnected: its packet is larger than "+key+", which may be raised", "bytes", violation.Size, "limit", c.in.max)
	case errors.As(err, &violation):
		log.Info("client disconnected", "reason", err)
	case errors.As(err, &revoked):
		c.noteRevoked(err)
	case errors.Is(err, listen.ErrHost), errors.Is(err, listen.ErrOrigin):
		c.s.counts.strangers.Add(1)
		log.Warn("connection refused", "error", err)
	case errors.Is(err, errHandshake): // the place to look when a certificate does not do
		log.Info("no connection", "error", err)
	case !c.connected:
		log.Debug("no CONNECT", "error", err)
	default:
		log.Info("connection ended", "reason", err)
	}
}

// waitForRoom stops reading while the client does not read our packets, or while too many of its publishes
// are on their way to disk, which the protocol of 3.1.1 cannot limit otherwise.
func (c *conn) waitForRoom() error {
	if c.changed { // changes are appended without waiting, under locks; here none is held
		c.changed = false
		if c.s.journal.Crowded() {
			c.in.scratch.finish(c.s)
			c.s.journal.WaitForRoom()
		}
	}
	most := int64(c.s.opts.MaxInflight)
	if !c.crowded.Load() && c.pending.Load() <= most {
		return nil
	}
	c.in.scratch.finish(c.s)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closing && c.reason == nil && (c.crowded.Load() || c.pending.Load() > most) {
		c.room.Wait()
	}
	if c.closing || c.reason != nil {
		return net.ErrClosed
	}
	return nil
}

// settled notes that the journal has committed or refused an entry of this client, and that the consequences are
// done or in the inbox. It does not wait.
func (c *conn) settled() {
	if c.pending.Add(-1) == int64(c.s.opts.MaxInflight) {
		c.session.whenFree(c, c.room.Broadcast)
	}
}
