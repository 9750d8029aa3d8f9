package server

import (
	"sync"
	"time"

	"holdfast/broker/wire"
)

const (
	chargeStep = 4 << 10                // bytes of a buffer that are counted at a time
	ownBytes   = 8 << 10                // bytes that each client may have in memory whatever others have
	stalled    = time.Second            // how long a write waits before its connection may have to give way
	lookAgain  = 100 * time.Millisecond // while memory is short
)

// pressure is what the server does when clients that do not read take all the memory that there is for them
// (Options.MaxQueuedTotal): those whose writes have stalled are disconnected, the one with most in
// memory first. Durable sessions lose nothing by it, their messages are in the journal; others end with
// their connections in any case.
type pressure struct {
	mu      sync.Mutex // a leaf
	writing map[*conn]blocked
	starved map[*conn]struct{} // whose sessions wait for memory
	busy    bool               // a goroutine looks for memory
}

// blocked is a write that the kernel did not take at once.
type blocked struct {
	since time.Time
	bytes int
}

// full reports whether size more bytes for a client that has own already are too many: all of them together have what
// they may, and the client more than its own small part.
func (s *Server) full(own, size int) bool {
	if own+size <= ownBytes || s.waiting.Load()+int64(size) <= s.opts.MaxQueuedTotal {
		return false
	}
	s.relieve()
	return true
}

// maxTurns is how many connections may take from the journal at the same time, each up to a packet of the largest
// size, which is in memory three times: as read, as a message and as a packet. All that fits into half of the memory
// that there is.
func (o *Options) maxTurns() int {
	return int(max(2, o.MaxQueuedTotal/2/(3*int64(o.MaxPacket)+writeChunk)))
}

// beginTurn waits for the connection's turn to take from the journal. It is false if the buffers of clients that do not
// read have their half of the memory: then the connection is woken when they have it no more.
func (s *Server) beginTurn(c *conn) bool {
	if s.buffered.Load() <= s.opts.MaxQueuedTotal/2 {
		s.turns <- struct{}{}
		return true
	}
	p := &s.pressure
	p.mu.Lock()
	if p.starved == nil {
		p.starved = map[*conn]struct{}{}
	}
	p.starved[c] = struct{}{}
	p.mu.Unlock()
	s.relieve()
	return false
}

func (s *Server) endTurn() { <-s.turns }

// relieve has memory looked for by a goroutine that ends when there is some. It does not wait.
func (s *Server) relieve() {
	p := &s.pressure
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.busy {
		p.busy = true
		go s.findMemory()
	}
}

func (s *Server) findMemory() {
	p := &s.pressure
	half := s.opts.MaxQueuedTotal / 2
	for {
		var victim *conn
		now := time.Now()
		p.mu.Lock()
		if s.buffered.Load() <= half { // queues of clients that read and do not answer have limits of their own
			for c := range p.starved {
				c.wake()
			}
			clear(p.starved)
			p.busy = false
			p.mu.Unlock()
			return
		}
		most := 0
		for c, b := range p.writing {
			if now.Sub(b.since) >= stalled && b.bytes > most {
				victim, most = c, b.bytes
			}
		}
		delete(p.writing, victim)
		p.mu.Unlock()
		if victim != nil {
			s.reached(limitQueuedTotal, "client that does not read is disconnected: others need the memory", "client", victim.session.id, "remote", victim.remote(), "bytes", most)
			victim.cut()
			continue
		}
		time.Sleep(lookAgain)
	}
}

// writes notes that a write of the connection waits for the client.
func (p *pressure) writes(c *conn, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writing == nil {
		p.writing = map[*conn]blocked{}
	}
	p.writing[c] = blocked{time.Now(), bytes}
}

// wrote notes that it waits no more.
func (p *pressure) wrote(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.writing, c)
}

// gone forgets a connection that has ended.
func (p *pressure) gone(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.writing, c)
	delete(p.starved, c)
}

// cut ends the connection at once: what is queued is not written.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == nil {
		c.reason = &wire.Error{Code: wire.QuotaExceeded, Text: "does not read, and others need the memory"}
	}
	c.closing = true
	c.over.Store(true)
	c.nc.SetDeadline(time.Unix(1, 0))
	c.room.Broadcast()
}
