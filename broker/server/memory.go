package server

import (
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

const (
	chargeStep = 4 << 10                // bytes of a buffer that are counted at a time
	ownBytes   = 8 << 10                // bytes that each client may always have in memory
	stalled    = time.Second            // how long a write waits before its connection may be disconnected
	lookAgain  = 100 * time.Millisecond // between checks while memory is short
)

// memory is what all clients share for messages and packets that they do not take at once (Options.MaxQueuedTotal). When
// buffers of clients that do not read take half of it, and others need it, it disconnects such clients: of those whose
// writes have stalled, the one with most in memory first. Durable sessions lose nothing by it, their messages are in the
// journal; others end with their connections in any case.
type memory struct {
	most     int64         // Options.MaxQueuedTotal
	waiting  atomic.Int64  // bytes in memory for clients that do not take them at once
	buffered atomic.Int64  // of them, those in connections' buffers
	turns    chan struct{} // has an element for each connection that takes from the journal

	mu      sync.Mutex // a leaf; guards what follows
	writing map[*conn]blocked
	starved map[*conn]struct{} // whose sessions wait for memory
	busy    bool               // a goroutine looks for memory
}

// blocked is a write that the kernel did not take at once.
type blocked struct {
	since time.Time
	bytes int
}

// charge counts what was appended to a buffer, in steps of chargeStep.
func (m *memory) charge(b *buffer) {
	if n := int64(len(b.b)) - b.charged; n >= chargeStep {
		n -= n % chargeStep
		b.charged += n
		m.waiting.Add(n)
		m.buffered.Add(n)
	}
}

// put takes back a buffer.
func (m *memory) put(b *buffer) {
	if b.charged > 0 {
		m.waiting.Add(-b.charged)
		m.buffered.Add(-b.charged)
		b.charged = 0
	}
	if cap(b.b) <= keepBuffer {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

// full reports whether size more bytes are too many for a client that has own already: the memory of all clients is
// used up, and the client has more than ownBytes.
func (m *memory) full(own, size int) bool {
	if own+size <= ownBytes || m.waiting.Load()+int64(size) <= m.most {
		return false
	}
	m.relieve()
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
func (m *memory) beginTurn(c *conn) bool {
	if m.buffered.Load() <= m.most/2 {
		m.turns <- struct{}{}
		return true
	}
	m.mu.Lock()
	if m.starved == nil {
		m.starved = map[*conn]struct{}{}
	}
	m.starved[c] = struct{}{}
	m.mu.Unlock()
	m.relieve()
	return false
}

func (m *memory) endTurn() { <-m.turns }

// relieve starts a goroutine that frees memory and ends when there is enough. It does not wait.
func (m *memory) relieve() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.busy {
		m.busy = true
		go m.findMemory()
	}
}

func (m *memory) findMemory() {
	for {
		var victim *conn
		now := time.Now()
		m.mu.Lock()
		if m.buffered.Load() <= m.most/2 { // queues of clients that read and do not answer have limits of their own
			for c := range m.starved {
				c.wake()
			}
			clear(m.starved)
			m.busy = false
			m.mu.Unlock()
			return
		}
		most := 0
		for c, b := range m.writing {
			if now.Sub(b.since) >= stalled && b.bytes > most {
				victim, most = c, b.bytes
			}
		}
		delete(m.writing, victim)
		m.mu.Unlock()
		if victim != nil {
			victim.s.limits.Reached(limits.QueuedTotal, "client that does not read is disconnected: others need the memory", "client", victim.session.id, "remote", victim.remote(), "bytes", most)
			victim.cut()
			continue
		}
		time.Sleep(lookAgain)
	}
}

// writes notes that a write of the connection waits for the client.
func (m *memory) writes(c *conn, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writing == nil {
		m.writing = map[*conn]blocked{}
	}
	m.writing[c] = blocked{time.Now(), bytes}
}

// wrote notes that it waits no more.
func (m *memory) wrote(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.writing, c)
}

// gone forgets a connection that has ended.
func (m *memory) gone(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.writing, c)
	delete(m.starved, c)
}

// cut ends the connection at once, without writing queued packets.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase.because(&wire.Error{Code: wire.QuotaExceeded, Text: "does not read, and others need the memory"})
	c.phase.close()
	c.nc.SetDeadline(time.Unix(1, 0))
	c.room.Broadcast()
}
