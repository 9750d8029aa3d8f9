package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/backoff"
	"holdfast/broker/listen"
	"holdfast/broker/server/limits"
)

// Listener configures an address to accept connections on.
type Listener struct {
	Network, Address string // for package net, unless Open is set
	// Open replaces the plain listener (package listen). If its connections have a Handshake, the server calls
	// that first; if they have a ConnectionState, the client's certificate comes from there.
	Open func(context.Context) (net.Listener, error)
	// Revoked returns a *listen.RevokedError if the connection's certificate has been revoked; nil checks nothing.
	Revoked   func(tls.ConnectionState) error
	Anonymous *bool // overrides Options.Anonymous; nil uses that
	// Patient retries a listener that cannot be opened, with growing and random delays of at most
	// longestReopen, until it is open or removed. Without Patient a failure is an error.
	Patient bool
	// Name identifies the listener in the log; empty means its address.
	Name string
	// Key identifies the listener in SetListeners: an open listener with the same key stays open,
	// unchanged. An empty key matches no listener.
	Key string
}

// place is a listener that is open or being retried. A connection refers to the one that accepted it.
type place struct {
	Listener
	net    net.Listener  // nil while it is not open; guarded by listeners.mu, like the next two
	failed error         // why it is not open
	since  time.Time     // when it was opened, or first failed
	stop   chan struct{} // closed when it is removed; nil for one that opened at the first attempt
	gone   bool          // accepts no more connections; guarded by Server.mu
}

// close ends listening, or trying to. Called with listeners.mu held.
func (p *place) close() {
	if p.net != nil {
		p.net.Close()
	}
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
}

// listeners are the places where connections come in.
type listeners struct {
	ready     chan struct{} // closed when each of the first ones is open or being retried
	coming    *limits.Rate  // the rate of new connections
	anonymous atomic.Bool   // whether one lets anonymous clients in

	mu     sync.Mutex // guards what follows
	open   []*place   // and those being retried
	closed bool       // for good
}

func (l *listeners) init(o *Options) {
	l.ready = make(chan struct{})
	l.coming = limits.NewRate(float64(o.ConnectRate), float64(o.ConnectRatePerAddr))
}

// ListenerState reports whether a listener is open, and if not, why.
type ListenerState struct {
	Key   string
	Addr  net.Addr  // nil while the listener is not open
	Err   error     // why it is not open; nil if it is
	Since time.Time // when it was opened, or first failed
}

// ListenerStates returns the state of each listener, in the order of SetListeners.
func (s *Server) ListenerStates() []ListenerState {
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]ListenerState, len(l.open))
	for i, p := range l.open {
		list[i] = ListenerState{Key: p.Key, Err: p.failed, Since: p.since}
		if p.net != nil {
			list[i].Addr = p.net.Addr()
		}
	}
	return list
}

// SetListeners opens the listeners of want and closes all others. It disconnects the clients of a closed
// listener (0x8B, server shutting down); other clients stay connected. If a listener that is not Patient
// cannot be opened, it restores the previous listeners, with their clients. ctx bounds the opening.
func (s *Server) SetListeners(ctx context.Context, want []Listener) error {
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.New("server: it has stopped")
	}
	next := make([]*place, len(want))
	for i, w := range want {
		if j := slices.IndexFunc(l.open, func(p *place) bool { return w.Key != "" && p.Key == w.Key }); j >= 0 {
			next[i] = l.open[j]
		}
	}
	var gone, opened []*place
	for _, p := range l.open {
		if !slices.Contains(next, p) {
			p.close() // now, because a new one may be on the same address
			gone = append(gone, p)
		}
	}
	for i, w := range want {
		if next[i] != nil {
			continue
		}
		next[i] = &place{Listener: w}
		err := next[i].listen(ctx)
		if err != nil && !w.Patient {
			for _, p := range opened {
				p.close()
			}
			return errors.Join(err, s.reopen(ctx, gone))
		}
		opened = append(opened, next[i])
	}
	l.open = next
	s.noteAnonymous(next)
	for _, p := range opened {
		if p.failed != nil {
			s.tryAgain(p)
		} else {
			s.acceptOn(p)
		}
	}
	s.disconnect(gone)
	return nil
}

// reopen undoes the closing of listeners. Called with listeners.mu held.
func (s *Server) reopen(ctx context.Context, closed []*place) error {
	var errs []error
	for _, p := range closed {
		err := p.listen(ctx)
		if err != nil && p.Patient {
			s.tryAgain(p)
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reopening the previous listener: %w", err))
			continue
		}
		s.acceptOn(p)
	}
	return errors.Join(errs...)
}

func (p *place) listen(ctx context.Context) (err error) {
	open := p.Open
	if open == nil {
		open = listen.Options{Network: p.Network, Address: p.Address}.Open
	}
	var l net.Listener
	if l, err = open(ctx); err != nil {
		if p.failed == nil {
			p.since = time.Now()
		}
		p.net, p.failed = nil, err
		return fmt.Errorf("server: %w", err)
	}
	p.net, p.failed, p.since = l, nil, time.Now()
	return nil
}

// Delays between attempts to open a listener.
const (
	firstReopen   = time.Second
	longestReopen = 10 * time.Second // how long a port may be free without being taken
)

// tryAgain retries a place until it is open, in a goroutine that ends then or when the place is removed. Called with
// listeners.mu held.
func (s *Server) tryAgain(p *place) {
	name := p.Name
	if name == "" {
		name = p.Address
	}
	s.log.Error("listener not open: it is retried, the others keep working", "listener", name, "error", p.failed)
	p.stop = make(chan struct{})
	stop, logged := p.stop, p.failed.Error()
	s.work.Go(func() {
		for wait := (backoff.Backoff{Min: firstReopen, Max: longestReopen}); ; {
			timer := time.NewTimer(wait.Local())
			select {
			case <-stop:
				timer.Stop()
				return
			case <-timer.C:
			}
			if s.reopened(p, stop, &logged, name) {
				return
			}
		}
	})
}

// reopened tries to open a place and reports whether retrying is over: the place is open, or removed. It logs a new
// reason of failure.
func (s *Server) reopened(p *place, stop chan struct{}, logged *string, name string) bool {
	s.listeners.mu.Lock()
	defer s.listeners.mu.Unlock()
	select {
	case <-stop:
		return true
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestReopen)
	defer cancel()
	if p.listen(ctx) == nil {
		p.stop = nil
		s.acceptOn(p)
		return true
	}
	if text := p.failed.Error(); text != *logged {
		*logged = text
		s.log.Error("listener still not open", "listener", name, "error", p.failed)
	}
	return false
}

// acceptOn accepts connections until the listener is closed. Called with listeners.mu held.
func (s *Server) acceptOn(p *place) {
	l := p.net
	s.log.Info("listening", "address", l.Addr().String())
	s.work.Go(func() { s.accept(l, p) })
}

func (s *Server) accept(l net.Listener, p *place) {
	for delay := time.Duration(0); ; {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: others may be freed
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log.Error("accept failed", "error", err)
			time.Sleep(delay)
			continue
		}
		delay = 0
		if ok, turnedAway := s.listeners.coming.Allows(nc.RemoteAddr(), time.Now()); !ok {
			s.counts.rateLimited.Add(1)
			nc.Close()
			if turnedAway > 0 {
				s.log.Warn("connections closed: too many new ones per second", "remote", nc.RemoteAddr().String(), "closed", turnedAway)
			}
			continue
		}
		c := newConn(s, nc)
		c.place = p
		if p.Anonymous != nil {
			c.anonymous = *p.Anonymous
		}
		s.serve(c)
	}
}

// disconnect closes the connections that those places accepted.
func (s *Server) disconnect(places []*place) {
	s.mu.Lock()
	for _, p := range places {
		p.gone = true
	}
	var conns []*conn
	for c := range s.conns.all {
		if slices.Contains(places, c.place) {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown()
	}
}

func (s *Server) closeListeners() {
	s.listeners.mu.Lock()
	defer s.listeners.mu.Unlock()
	s.listeners.closed = true
	for _, p := range s.listeners.open {
		p.close()
	}
}

// Ready returns a channel that is closed when each of the first listeners is open or being retried.
func (s *Server) Ready() <-chan struct{} { return s.listeners.ready }

// Addrs waits for Ready and returns the addresses of the open listeners, in the order of SetListeners.
func (s *Server) Addrs() []net.Addr {
	<-s.listeners.ready
	s.listeners.mu.Lock()
	defer s.listeners.mu.Unlock()
	var addrs []net.Addr
	for _, p := range s.listeners.open {
		if p.net != nil {
			addrs = append(addrs, p.net.Addr())
		}
	}
	return addrs
}
