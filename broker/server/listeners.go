package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"holdfast/broker/listen"
)

// Listener is a place to accept connections on.
type Listener struct {
	Network, Address string // for package net, unless Open is set
	// Open listens in another way (package listen). Connections may have a Handshake, which is called
	// first, and a ConnectionState that a client's certificate is taken from.
	Open func(context.Context) (net.Listener, error)
	// Revoked returns a *listen.RevokedError where the certificate of a connection is not accepted any more; nil for never.
	Revoked   func(tls.ConnectionState) error
	Anonymous *bool // what holds here instead of Options.Anonymous; nil for that
	// Patient has one that cannot be opened tried again, with growing and random delays of at most
	// longestReopen, until it is open or not wanted any more. Without it that is an error.
	Patient bool
	// Name is what the log calls it; empty for its address.
	Name string
	// Key tells it from others in SetListeners: one with the key of one that is open is that one, and
	// stays as it is. Empty for what is never the same.
	Key string
}

// place is a listener that is open. Connections know the one that they came in by.
type place struct {
	Listener
	net    net.Listener  // nil while it is not open; guarded by listeners.mu, like the next two
	failed error         // why it is not open
	since  time.Time     // when it was opened, or failed first
	stop   chan struct{} // closed when it is not wanted any more; nil for one that was open from the beginning
	gone   bool          // takes nobody any more; guarded by Server.mu
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

type listeners struct {
	mu     sync.Mutex // guards everything below; Server.mu may be taken under it
	open   []*place   // and those that are being tried
	closed bool       // for good
}

// ListenerState is how a listener is doing.
type ListenerState struct {
	Key   string
	Addr  net.Addr  // nil while it is not open
	Err   error     // why it is not open; nil if it is
	Since time.Time // that it is so
}

// ListenerStates returns how the listeners are doing, in the order in which they were given.
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

// SetListeners has these listeners open and no others. Clients that came in by one that is closed are
// told that it is shutting down, and disconnected; all others notice nothing. If one cannot be opened that
// is not Patient, the former ones are open afterwards, with their clients. ctx bounds the opening.
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
			errs = append(errs, fmt.Errorf("and what was open cannot be opened again: %w", err))
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
	longestReopen = 10 * time.Second // how long a port may be free without being taken, less the jitter of a half
)

// tryAgain opens a place when that can be done, in a goroutine that ends then or when the place is not wanted
// any more. Called with listeners.mu held.
func (s *Server) tryAgain(p *place) {
	name := p.Name
	if name == "" {
		name = p.Address
	}
	s.log.Error("listener not open: everything else goes on, and it is tried again", "listener", name, "error", p.failed)
	p.stop = make(chan struct{})
	stop, told := p.stop, p.failed.Error()
	s.work.Go(func() {
		for wait := firstReopen; ; wait = min(2*wait, longestReopen) {
			timer := time.NewTimer(wait/2 + rand.N(wait/2))
			select {
			case <-stop:
				timer.Stop()
				return
			case <-timer.C:
			}
			if s.reopened(p, stop, &told, name) {
				return
			}
		}
	})
}

// reopened reports whether a place is open now, or not wanted any more. A new reason why not is logged.
func (s *Server) reopened(p *place, stop chan struct{}, told *string, name string) bool {
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
	if text := p.failed.Error(); text != *told {
		*told = text
		s.log.Error("listener still not open", "listener", name, "error", p.failed)
	}
	return false
}

// acceptOn takes connections until the listener is closed. Called with listeners.mu held.
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
		if ok, turnedAway := s.coming.allows(nc.RemoteAddr(), time.Now()); !ok {
			s.counts.rate.Add(1)
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

// disconnect ends the connections that came in by one of those.
func (s *Server) disconnect(places []*place) {
	s.mu.Lock()
	for _, p := range places {
		p.gone = true
	}
	var conns []*conn
	for c := range s.conns {
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

// Ready is closed when the first listeners are open, or are being tried again.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addrs returns the addresses of the listeners that are open, in the order in which they were given, after
// Ready.
func (s *Server) Addrs() []net.Addr {
	<-s.ready
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
