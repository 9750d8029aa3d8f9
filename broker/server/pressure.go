package server

import (
	"sync"
	"time"

	"holdfast/broker/wire"
)

const (
	chargeStep = 4 << 10                // bytes of a buffer that are counted at a time
	ownBytes   = 8 << 10                // bytes that each client may always have in memory
	stalled    = time.Second            // how long a write waits before its connection may be disconnected
	lookAgain  = 100 * time.Millisecond // between checks while memory is short
)

// pressure disconnects clients that do not read when they take all of their common memory
// (Options.MaxQueuedTotal): of those whose writes have stalled, the one with most in
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

// full reports whether size more bytes are too many for a client that has own already: the memory of all clients is
// used up, and the client has more than ownBytes.
func (s *Server) full(own, size int) bool {
	if own+size <= ownBytes || s.waiting.Load()+int64(size) <= s.opts.MaxQueuedTotal {
		return false
	}
	s.relieve()
	return true
}

// maxTurns returns how many connections may read the journal at the same time, each up to a packet of the largest
// size, which is in memory three times: as read, as a message and as a packet. Together they fit into half of
// MaxQueuedTotal.
func (o *Options) maxTurns() int {
	return int(max(2, o.MaxQueuedTotal/2/(3*int64(o.MaxPacket)+writeChunk)))
}

// beginTurn waits for the connection's turn to read the journal. It returns false if the buffers of clients that do not
// read take more than half of the memory: then it wakes the connection when they take less.
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

// relieve starts a goroutine that frees memory and ends when there is enough. It does not wait.
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

// cut ends the connection at once, without writing queued packets.
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
