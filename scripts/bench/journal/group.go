package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// store is a peer: a durable log or table that takes one transaction at a time.
type store interface {
	// commit makes messages durable, numbered from first on, and forgets those below acked, in one
	// transaction where the store has such a thing. Either part may be empty.
	commit(first uint64, messages [][]byte, acked uint64) error
	// read calls f for at most limit messages from number from on and returns how many there were.
	read(from uint64, limit int, f func(m []byte)) (int, error)
	// bounds returns the number of the oldest message, and one past the newest.
	bounds() (first, next uint64, err error)
	close() error
}

const (
	ackStep   = 20_000  // acknowledgements of one commit
	drainAcks = 100_000 // messages read between two acknowledgements, unless a second has passed
	drainRead = 4096
	maxBatch  = 3 << 20 // bytes of one commit, as in the journal
)

// group is the group commit that all peers share, the same as the journal's: one goroutine commits,
// everything that came meanwhile goes together, and a batch is gathered as long as it grows, for at
// most an eighth of a commit. Messages are acknowledged from memory: reading costs a peer nothing.
type group struct {
	s         store
	committed atomic.Uint64
	stopped   chan struct{}

	mu        sync.Mutex
	changed   sync.Cond
	pending   batch
	closing   bool
	consuming bool
	next      uint64 // number of the next message to commit
	acked     uint64 // what is below it was forgotten
	failure   error
}

type batch struct {
	messages [][]byte
	clients  []*client
}

func newGroup(s store) (*group, error) {
	first, next, err := s.bounds()
	if err != nil {
		return nil, err
	}
	g := &group{s: s, stopped: make(chan struct{}), next: next, acked: first}
	g.changed.L = &g.mu
	go g.run()
	return g, nil
}

func (g *group) put(m *message, c *client) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.pending.messages)*len(m.stored) > maxBatch && g.failure == nil {
		g.changed.Wait()
	}
	if g.failure != nil {
		return g.failure
	}
	g.pending.messages = append(g.pending.messages, m.stored)
	g.pending.clients = append(g.pending.clients, c)
	if len(g.pending.messages) == 1 {
		g.changed.Broadcast()
	}
	return nil
}

func (g *group) run() {
	defer close(g.stopped)
	var free batch
	var commitTime time.Duration
	crowd := 0
	for {
		g.mu.Lock()
		for len(g.pending.messages) == 0 && !g.closing && !g.backlog() {
			g.changed.Wait()
		}
		if crowd > 1 {
			g.gather(crowd, commitTime/8)
		}
		b := g.pending
		g.pending = free
		first, acked := g.next, g.acked
		if g.consuming {
			acked = min(first, acked+ackStep)
		}
		if len(b.messages) == 0 && acked == g.acked && g.closing {
			g.mu.Unlock()
			return
		}
		g.changed.Broadcast()
		g.mu.Unlock()

		start := time.Now()
		err := g.s.commit(first, b.messages, acked)
		commitTime += (time.Since(start) - commitTime) / 8
		g.committed.Add(1)
		g.mu.Lock()
		g.next, g.acked = first+uint64(len(b.messages)), acked
		if err != nil {
			g.failure, g.closing = err, true
		}
		g.mu.Unlock()
		crowd = len(b.messages)
		for _, c := range b.clients {
			c.done(err)
		}
		clear(b.messages)
		clear(b.clients)
		free = batch{b.messages[:0], b.clients[:0]}
	}
}

// backlog reports whether there are so many acknowledgements that they do not wait for a message's commit.
// Called with mu held.
func (g *group) backlog() bool { return g.consuming && g.next-g.acked > ackStep }

// gather is called, and returns, with mu held.
func (g *group) gather(crowd int, most time.Duration) {
	for range 4 {
		before := len(g.pending.messages)
		if before >= crowd {
			return
		}
		g.mu.Unlock()
		nap(max(most/4, 10*time.Microsecond))
		g.mu.Lock()
		if len(g.pending.messages) == before {
			return
		}
	}
}

func (g *group) consume(ctx context.Context) error {
	g.setConsuming(true)
	<-ctx.Done()
	g.setConsuming(false)
	return nil
}

func (g *group) setConsuming(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.consuming = on
	g.changed.Broadcast()
}

func (g *group) behind() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.backlog()
}

func (g *group) drain(ctx context.Context, f func([]byte)) (count uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from, acked := g.acked, time.Now()
	for ctx.Err() == nil && from < g.next {
		n, err := g.s.read(from, drainRead, f)
		if err != nil {
			return count, err
		}
		from += uint64(n)
		count += uint64(n)
		if n == 0 || from == g.next || from-g.acked >= drainAcks || time.Since(acked) > time.Second {
			if err := g.s.commit(g.next, nil, from); err != nil {
				return count, err
			}
			g.acked, acked = from, time.Now()
		}
		if n == 0 {
			break
		}
	}
	return count, ctx.Err()
}

func (g *group) commits() uint64 { return g.committed.Load() }

func (g *group) close() error {
	g.mu.Lock()
	g.closing = true
	g.changed.Broadcast()
	g.mu.Unlock()
	<-g.stopped
	return g.s.close()
}
