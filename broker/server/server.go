// Package server is the embedded MQTT broker, for 3.1.1 and 5.0.
//
// It acknowledges a QoS 1 or 2 publish that has a durable reader (a persistent session, a bridge, a
// retained value) only after the journal has it on disk. It delivers the messages of one publisher to
// one topic to each subscriber in order. A subscriber that is slow, gone or hostile costs a fixed
// amount of memory and never delays a publisher. Every dropped message is counted by reason.
//
// It does not promise to keep QoS 0 messages, nor messages for sessions that end with their
// connection.
//
// The path of a message: a connection's reading goroutine parses it (read.go), finds its subscribers
// (index.go) and appends it to the journal (publish.go); when it is durable the journal's completer
// acknowledges it and offers it to the subscribers (publish.go); each subscriber's writing goroutine
// takes as much as its client's receive maximum allows (deliver.go) and writes many packets at once
// (output.go).
package server

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// Options configure a Server. Zero limits mean the defaults.
type Options struct {
	Listeners []Listener
	Journal   *journal.Journal // not closed by the server
	Anonymous bool             // whether clients without a user and a certificate may come in
	Auth      *auth.Auth       // users and their rights; nil has no users and forbids nothing
	Log       *slog.Logger     // nil discards

	ServerKeepAlive time.Duration // longest keep alive of a 5.0 client, sent in CONNACK; whole seconds, 0 means no limit
	MaxAliases      int           // topic aliases that the server sets towards a client that accepts them; 32, -1 means none
	ResponseInfo    string        // Response Information for 5.0 clients that ask; %c is the client identifier
	SysInterval     time.Duration // between updates of $SYS; 0 means no $SYS
	Version         string        // of $SYS/broker/version

	ConnectRate        int // new connections per second, those from this machine not counted; 100; -1 means no limit
	ConnectRatePerAddr int // the same from one address; 20; -1 means no limit

	MaxConnections   int           // 1,000
	MaxSessions      int           // 2,000, connected or not
	MaxSubscriptions int           // 1,000 per session
	MaxFilters       int           // subscriptions of all sessions; 5,000
	MaxPacket        int           // bytes; 1 MiB
	MaxConnecting    int           // connections that have not sent CONNECT; 200
	MaxConnectPacket int           // bytes of a CONNECT; 64 KiB, or MaxPacket if that is less
	MaxUnfinished    int64         // bytes of packets that have arrived in part, of all connections; 2 MiB
	MaxMatching      int           // steps through the index of subscriptions that a publish may take; 1,000
	MaxWills         int64         // bytes of the wills of all clients, connected or not, each twice; 2 MiB
	MaxExpiry        time.Duration // of a session without a connection, also one of 3.1.1; 30 days, -1 means no limit
	UserShare        int           // percent of what all clients share that one user may have; 50
	MaxInflight      int           // receive maximum, each way; 100
	MaxQueued        int           // bytes queued in memory per client; 1 MiB
	MaxQueuedTotal   int64         // bytes queued in memory for all slow clients; 6 MiB
	MaxBacklog       int64         // bytes of the journal that an offline session may keep; 0 means no limit
	MaxRetained      int           // retained messages; 10,000
	MaxRetainedBytes int           // bytes of all retained messages; 4 MiB
	MaxLevels        int           // of a topic or filter; 64
	ConnectTimeout   time.Duration // until CONNECT has arrived; 10 s
	PacketTimeout    time.Duration // for each 64 KiB of a packet whose first byte has arrived; 30 s
	WriteTimeout     time.Duration // for a write to a client that does not read; 30 s
}

func (o *Options) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if o.MaxAliases < 0 {
		o.MaxAliases = 0
	} else {
		def(&o.MaxAliases, 32)
	}
	for v, d := range map[*int]int{&o.ConnectRate: 100, &o.ConnectRatePerAddr: 20} {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MaxConnections, 1000)
	def(&o.MaxSessions, 2000)
	def(&o.MaxSubscriptions, 1000)
	def(&o.MaxFilters, 5000)
	def(&o.MaxPacket, 1<<20)
	def(&o.MaxInflight, 100)
	def(&o.MaxQueued, 1<<20)
	def(&o.MaxRetained, 10_000)
	def(&o.MaxRetainedBytes, 4<<20)
	def(&o.MaxLevels, 64)
	if o.MaxQueuedTotal <= 0 {
		o.MaxQueuedTotal = 6 << 20
	}
	o.MaxInflight = min(o.MaxInflight, 65535)
	def(&o.MaxConnecting, 200)
	def(&o.MaxConnectPacket, 64<<10)
	def(&o.MaxMatching, 1000)
	def(&o.UserShare, 50)
	o.UserShare = min(o.UserShare, 100)
	if o.MaxUnfinished <= 0 {
		o.MaxUnfinished = 2 << 20
	}
	// One packet has to fit, whatever others have begun.
	o.MaxUnfinished = max(o.MaxUnfinished, 2*int64(o.MaxPacket))
	if o.MaxWills <= 0 {
		o.MaxWills = 2 << 20
	}
	switch {
	case o.MaxExpiry == 0:
		o.MaxExpiry = 30 * 24 * time.Hour
	case o.MaxExpiry < 0:
		o.MaxExpiry = 0
	}
	if o.PacketTimeout <= 0 {
		o.PacketTimeout = 30 * time.Second
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Server is an MQTT broker. All methods are safe for concurrent use.
type Server struct {
	opts      Options
	log       *slog.Logger
	journal   *journal.Journal
	epoch     []byte // the journal's, as stored with packet identifiers
	index     index
	topics    topicCache
	retained  retainedStore
	scratches sync.Pool
	coming    admission
	waiting   atomic.Int64  // bytes in memory for clients that do not take them at once
	buffered  atomic.Int64  // of them, those in connections' buffers
	turns     chan struct{} // has an element for each connection that takes from the journal
	pressure  pressure
	counts    counts

	limits     reached
	refusals   refusals
	unfinished unfinished
	wills      account     // bytes
	filters    account     // weights of filters
	steps      account     // by which searches of the index have grown
	anonymous  atomic.Bool // whether a listener lets anonymous clients in

	ready     chan struct{}
	listeners listeners
	routes    routes
	work      sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]*session
	tally    tally
	conns    map[*conn]struct{}
	// connecting are the connections whose CONNECT has not come, the oldest first.
	connecting list.List
	closing    bool
	due        []*will // of the last process's clients, for Run to publish
}

type counts struct {
	revoked                                                                           atomic.Uint64 // connections with a revoked certificate
	strangers                                                                         atomic.Uint64 // WebSocket requests with a wrong Host or Origin
	received, sent, droppedQueue, droppedSize, droppedExpired, refused, notRetained   atomic.Uint64
	packetsIn, packetsOut, bytesIn, bytesOut, publishBytesIn, publishBytesOut         atomic.Uint64
	sockets, connects, expired, deniedPublishes, logins, deniedReads, rate, oversized atomic.Uint64
}

// Stats are counters since New and current gauges.
type Stats struct {
	Connections, Sessions, Subscriptions, Retained int
	Connected                                      int    // sessions that have a connection
	Received, Sent                                 uint64 // PUBLISH packets
	DroppedQueue                                   uint64 // messages for clients whose memory queue was full
	DroppedSize                                    uint64 // messages larger than the client's maximum packet size
	DroppedExpired                                 uint64
	Refused                                        uint64 // publishes that the journal did not take
	NotRetained                                    uint64 // messages delivered but not retained, at a limit
	Denied                                         uint64 // publishes to topics that the client may not publish to
	DeniedDelivery                                 uint64 // messages that a subscriber may not read
	LoginsRefused                                  uint64
	RateLimited                                    uint64                       // connections closed at the rate limit
	Revoked                                        uint64                       // connections closed for a revoked certificate
	RefusedHosts                                   uint64                       // WebSocket requests refused for their Host or Origin
	Oversized                                      uint64                       // connections closed for a packet larger than MaxPacket
	Limits                                         map[string]uint64            // refusals and drops by the limit's name
	Refusals                                       map[string]map[string]uint64 // failure codes sent to clients, by packet and reason
}

// New returns a server with the sessions, subscriptions and retained messages of the journal.
func New(opts Options) (*Server, error) {
	opts.setDefaults()
	if opts.Journal == nil {
		return nil, errors.New("server: no journal")
	}
	if opts.Auth == nil {
		var err error
		if opts.Auth, err = auth.New(auth.Options{}); err != nil {
			return nil, fmt.Errorf("server: %w", err)
		}
	}
	s := &Server{
		turns: make(chan struct{}, opts.maxTurns()),
		opts:  opts, log: opts.Log, journal: opts.Journal, ready: make(chan struct{}),
		epoch:    binary.AppendUvarint(nil, opts.Journal.Epoch().Number),
		sessions: map[string]*session{}, conns: map[*conn]struct{}{},
	}
	s.unfinished.most, s.unfinished.held = opts.MaxUnfinished, map[*conn]int64{}
	s.coming.all, s.coming.each = float64(opts.ConnectRate), float64(opts.ConnectRatePerAddr)
	s.topics.seed, s.topics.levels = maphash.MakeSeed(), opts.MaxLevels
	s.scratches.New = s.newScratch
	s.retained.messages, s.retained.seed = map[string]retained{}, maphash.MakeSeed()
	s.journal.RangeRetained(func(m *broker.Message, t journal.Time) bool {
		s.retained.set(retained{message: m, at: t, before: true})
		return true
	})
	s.noteAnonymous(nil)
	if err := s.loadSessions(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.loadWills()
	return s, nil
}

// Run accepts connections until ctx ends. It then disconnects every client, and returns when every
// goroutine has ended. It returns early only if a listener that is not Patient cannot be opened.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeListeners()
	for _, w := range s.due {
		s.publishWill(w)
	}
	s.due = nil
	if err := s.SetListeners(ctx, s.opts.Listeners); err != nil {
		return err
	}
	close(s.ready)
	if s.opts.SysInterval > 0 {
		s.work.Go(func() { s.runSys(ctx) })
	}
	<-ctx.Done()
	s.closeListeners()
	s.shutdown()
	s.work.Wait()
	return nil
}

// Serve takes ownership of one connection and serves it in its own goroutines.
func (s *Server) Serve(nc net.Conn) { s.serve(newConn(s, nc)) }

func (s *Server) serve(c *conn) {
	s.mu.Lock()
	all, coming := len(s.conns), s.connecting.Len()
	// Those that have not logged in give way, but for some that take a moment to end.
	full := all >= s.opts.MaxConnections && (coming == 0 || all >= s.opts.MaxConnections+max(1, s.opts.MaxConnections/20))
	if s.closing || full || c.place != nil && c.place.gone {
		s.mu.Unlock()
		c.nc.Close()
		if full {
			s.reached(limitConnections, "connection refused: too many connections", "remote", c.remote(), "connections", s.opts.MaxConnections)
		}
		return
	}
	var oldest *conn
	if coming >= s.opts.MaxConnecting || coming > 0 && all >= s.opts.MaxConnections {
		oldest = s.connecting.Front().Value.(*conn)
		s.leaveConnecting(oldest)
	}
	c.waiting = s.connecting.PushBack(c)
	s.conns[c] = struct{}{}
	s.counts.sockets.Add(1)
	s.work.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.work.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.leaveConnecting(c)
		s.mu.Unlock()
	}()
	if oldest != nil {
		s.reached(limitConnecting, "connection closed: too many that have not logged in, and this is the oldest", "remote", oldest.remote())
		oldest.kick(wire.ServerBusy)
	}
}

// leaveConnecting notes that the CONNECT of a connection has come, or that the connection ends. Called with mu held.
func (s *Server) leaveConnecting(c *conn) {
	if c.waiting != nil {
		s.connecting.Remove(c.waiting)
		c.waiting = nil
	}
}

// ending reports whether the server is shutting down.
func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) shutdown() {
	s.mu.Lock()
	s.closing = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	for _, x := range s.sessions {
		x.stopTimers()
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown()
	}
}

// Stats returns the server's counters and gauges.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	st := Stats{Connections: len(s.conns), Sessions: len(s.sessions)}
	for _, x := range s.sessions {
		if x.conn.Load() != nil {
			st.Connected++
		}
	}
	s.mu.Unlock()
	st.Subscriptions = s.index.len()
	st.Retained = s.retained.len()
	st.Received, st.Sent = s.counts.received.Load(), s.counts.sent.Load()
	st.DroppedQueue, st.DroppedSize = s.counts.droppedQueue.Load(), s.counts.droppedSize.Load()
	st.DroppedExpired, st.Refused = s.counts.droppedExpired.Load(), s.counts.refused.Load()
	st.NotRetained, st.Denied = s.counts.notRetained.Load(), s.counts.deniedPublishes.Load()
	st.Revoked = s.counts.revoked.Load()
	st.RefusedHosts = s.counts.strangers.Load()
	st.LoginsRefused, st.RateLimited, st.DeniedDelivery = s.counts.logins.Load(), s.counts.rate.Load(), s.counts.deniedReads.Load()
	st.Oversized = s.counts.oversized.Load()
	st.Limits, st.Refusals = s.limits.snapshot(), s.refusals.snapshot()
	return st
}

// Subscribe calls f for each message that filter matches, until cancel. f must not block.
func (s *Server) Subscribe(filter string, f func(*broker.Message)) (cancel func(), err error) {
	if err := broker.CheckFilter(filter); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	t := &target{deliver: f}
	s.index.add(filter, t, subscription{qos: 2}, noLimit, noLimit)
	return func() { s.index.remove(filter, t) }, nil
}
