package server

import (
	"context"
	"errors"
	"fmt"
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
	Open      func(context.Context) (net.Listener, error)
	Anonymous *bool // what holds here instead of Options.Anonymous; nil for that
	// Key tells it from others in SetListeners: one with the key of one that is open is that one, and
	// stays as it is. Empty for what is never the same.
	Key string
}

// place is a listener that is open. Connections know the one that they came in by.
type place struct {
	Listener
	net  net.Listener // guarded by listeners.mu
	gone bool         // takes nobody any more; guarded by Server.mu
}

type listeners struct {
	mu     sync.Mutex
	open   []*place
	closed bool // for good
}

// SetListeners has these listeners open and no others. Clients that came in by one that is closed are
// told that it is shutting down, and disconnected; all others notice nothing. If one cannot be opened
// the former ones are open afterwards, with their clients. ctx bounds the opening.
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
			p.net.Close() // now, because a new one may be on the same address
			gone = append(gone, p)
		}
	}
	for i, w := range want {
		if next[i] != nil {
			continue
		}
		next[i] = &place{Listener: w}
		if err := next[i].listen(ctx); err != nil {
			for _, p := range opened {
				p.net.Close()
			}
			return errors.Join(err, s.reopen(ctx, gone))
		}
		opened = append(opened, next[i])
	}
	l.open = next
	s.noteAnonymous(next)
	for _, p := range opened {
		s.acceptOn(p)
	}
	s.disconnect(gone)
	return nil
}

// reopen undoes the closing of listeners. Called with listeners.mu held.
func (s *Server) reopen(ctx context.Context, closed []*place) error {
	var errs []error
	for _, p := range closed {
		if err := p.listen(ctx); err != nil {
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
	if p.net, err = open(ctx); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
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
		p.net.Close()
	}
}

// Ready is closed when the first listeners are open.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addrs returns the listeners' addresses, in the order in which they were given, after Ready.
func (s *Server) Addrs() []net.Addr {
	<-s.ready
	s.listeners.mu.Lock()
	defer s.listeners.mu.Unlock()
	addrs := make([]net.Addr, len(s.listeners.open))
	for i, p := range s.listeners.open {
		addrs[i] = p.net.Addr()
	}
	return addrs
}
