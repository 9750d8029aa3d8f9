package server

import "sync/atomic"

// phase is how far the connection is between CONNECT and its end. Guarded by conn.mu; the reading goroutine, which alone
// sets connected and refused, also reads them without it.
type phase struct {
	reason      error       // why the server ends the connection
	over        atomic.Bool // closing, readable without mu
	connected   bool        // CONNACK with success has been sent
	refused     bool        // by a CONNACK
	closing     bool        // no more packets
	hasLastWord bool        // the last packet tells the client why the connection ends
}

// ending reports whether the connection is closing or is to be closed.
func (p *phase) ending() bool { return p.closing || p.reason != nil }

// close notes that no more packets are queued.
func (p *phase) close() {
	p.closing = true
	p.over.Store(true)
}

// because notes why the server ends the connection, unless there is a reason already.
func (p *phase) because(reason error) {
	if p.reason == nil {
		p.reason = reason
	}
}

// cause returns why the connection ends: the server's reason if it has one, otherwise err.
func (p *phase) cause(err error) error {
	if p.reason != nil {
		return p.reason
	}
	return err
}
