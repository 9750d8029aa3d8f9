package server

import (
	"sync"
	"sync/atomic"
)

// inbox keeps, in order, what was to be done with a session while others held its locks. Who must not wait,
// above all the journal's completer, leaves it here, and a goroutine that ends when it is done does it.
// What it holds is bounded: answers by the publishes and changes that a connection may have on their way to
// disk, messages by Options.MaxQueued.
type inbox struct {
	busy atomic.Bool // something is here or being done: what comes later stands behind it

	mu     sync.Mutex // a leaf, held for moves of pointers only; guards the rest, and busy for writing
	work   []func()
	queued int // bytes of the messages in work
}

// lockTries is how often a lock is tried before what needs it is left to the inbox: a few hundred
// nanoseconds, for which most holders have it.
const lockTries = 64

// lockNow takes mu and reports whether it did. It does not wait.
func lockNow(mu *sync.Mutex) bool {
	for range lockTries {
		if mu.TryLock() {
			return true
		}
	}
	return false
}

// whenFree calls f with x.mu and, if c is not nil, c.mu held: at once if nobody holds them and the inbox
// is empty, else soon, in order. It waits for nothing, and f must not either.
func (x *session) whenFree(c *conn, f func()) {
	if x.enter(c) {
		f()
		x.exit(c)
		return
	}
	x.later(c, 0, f)
}

// enter takes x.mu and, if c is not nil, c.mu. It is false if that is not possible at once, or if something in
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

// later leaves f, which holds a message of size bytes or none, to the inbox. It is false, and f is not called,
// if too much of messages is there already.
func (x *session) later(c *conn, size int, f func()) bool {
	in := &x.inbox
	in.mu.Lock()
	defer in.mu.Unlock()
	if size > 0 && in.queued > 0 && (in.queued+size > x.s.opts.MaxQueued || x.s.waiting.Load() > x.s.opts.MaxQueuedTotal) {
		return false
	}
	in.queued += size
	x.s.waiting.Add(int64(size))
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
			x.s.waiting.Add(-int64(size))
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
