package server

import (
	"sync"
	"sync/atomic"
)

// inbox queues, in order, work on a session whose locks were taken. Goroutines that must not wait,
// above all the journal's completer, leave work here, and a goroutine that ends with the last of it does it.
// Its length is bounded: answers by the publishes and changes that a connection may have on their way to
// disk, messages by Options.MaxQueued.
type inbox struct {
	busy atomic.Bool // work is queued or being done: later work queues behind it

	mu     sync.Mutex // a leaf, held for moves of pointers only; guards the rest, and busy for writing
	work   []func()
	queued int // bytes of the messages in work
}

// whenFree calls f with x.mu and, if c is not nil, c.mu held: at once if they are free and the inbox
// is empty, else soon, in order. It does not wait, and f must not either.
func (x *session) whenFree(c *conn, f func()) {
	if x.enter(c) {
		f()
		x.exit(c)
		return
	}
	x.later(c, 0, f)
}

// enter takes x.mu and, if c is not nil, c.mu. It returns false if that is not possible at once, or if work in
// the inbox has to come first.
func (x *session) enter(c *conn) bool {
	if x.inbox.busy.Load() || !lockNow(&x.mu) {
		return false
	}
	if c != nil && !lockNow(&c.mu) {
		x.mu.Unlock()
		return false
	}
	return true
}

func (x *session) exit(c *conn) {
	if c != nil {
		c.mu.Unlock()
	}
	x.mu.Unlock()
}

// later queues f, which holds a message of size bytes or none, in the inbox. It returns false, without queueing f,
// if the inbox holds too many bytes of messages already.
func (x *session) later(c *conn, size int, f func()) bool {
	in := &x.inbox
	in.mu.Lock()
	defer in.mu.Unlock()
	if size > 0 && in.queued > 0 && (in.queued+size > x.s.opts.MaxQueued || x.s.memory.waiting.Load() > x.s.opts.MaxQueuedTotal) {
		return false
	}
	in.queued += size
	x.s.memory.waiting.Add(int64(size))
	in.work = append(in.work, func() {
		x.mu.Lock()
		if c != nil {
			c.mu.Lock()
		}
		f()
		x.exit(c)
		if size > 0 {
			in.mu.Lock()
			in.queued -= size
			in.mu.Unlock()
			x.s.memory.waiting.Add(-int64(size))
		}
		if c != nil {
			c.wake()
		}
	})
	if !in.busy.Swap(true) {
		go in.run()
	}
	return true
}

// run does what is in the inbox until it is empty.
func (in *inbox) run() {
	for {
		in.mu.Lock()
		work := in.work
		in.work = nil
		if len(work) == 0 {
			in.busy.Store(false)
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
		for _, f := range work {
			f()
		}
	}
}
