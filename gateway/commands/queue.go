package commands

import (
	"errors"
	"sync"

	"holdfast/broker"
	"holdfast/gateway/tap"
)

// maxQueued bounds the commands queued for one output. With maxCommand it bounds their memory: 2 MiB.
const maxQueued = 512

// request is a queued command.
type request struct {
	m       *broker.Message
	age     func() freshness // how old it is when it is carried out
	settled func()           // called when it was answered
	follows bool             // m is a reading that the output follows
	reading *tap.Reading     // likewise, of this device; then m is nil
}

// queue holds the commands to one output, in order. A full queue refuses further commands: a command is worth
// nothing when it is old, and the answers show the sender that it sends too many.
type queue struct {
	name string
	more chan struct{} // there may be something to do

	mu      sync.Mutex
	waiting []request
	refused uint64 // since the queue was empty
	closed  bool

	last place // of the readings that the output follows; for the worker alone
}

func newQueue(name string) *queue { return &queue{name: name, more: make(chan struct{}, 1)} }

// add queues a command, and reports whether the queue had space. refused counts those refused since it was empty.
func (q *queue) add(x request) (ok bool, refused uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= maxQueued {
		q.refused++
		return false, q.refused
	}
	q.waiting = append(q.waiting, x)
	q.wake()
	return true, 0
}

// next returns the oldest command. Without one, ended reports whether there will be none.
func (q *queue) next() (x request, ok, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting, q.refused = nil, 0
		return x, false, q.closed
	}
	x, q.waiting[0] = q.waiting[0], request{}
	q.waiting = q.waiting[1:]
	return x, true, false
}

// close ends the worker after the queued commands.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

var errTooMany = errors.New("too many commands at once")

// enqueue gives a command to the queue of its output, or refuses it. It does not wait.
func (r *router) enqueue(name string, x request) {
	r.mu.Lock()
	if _, ok := r.configs[name]; !ok {
		r.mu.Unlock()
		r.refuse(name, &parsed{}, x, errNoOutput)
		return
	}
	q := r.queues[name]
	if q == nil {
		q = newQueue(name)
		r.queues[name] = q
		if r.running != nil {
			r.startWorker(q)
		}
	}
	ok, refused := q.add(x)
	r.mu.Unlock()
	if ok {
		return
	}
	if refused == 1 {
		r.log.Warn("commands are refused: too many at once; send fewer, or wait for each answer", "output", name, "queued", maxQueued)
	}
	r.refuse(name, &parsed{}, x, errTooMany)
}

// startWorker starts a goroutine that carries out the commands of one output until run ends or the output is
// gone. Called with mu held.
func (r *router) startWorker(q *queue) {
	ctx := r.running
	if ctx.Err() != nil {
		return // the commands in the journal are there at the next start
	}
	r.workers.Go(func() {
		for ctx.Err() == nil {
			x, ok, ended := q.next()
			switch {
			case ok:
				r.carryOut(ctx, q, x)
				continue
			case ended:
				return
			}
			select {
			case <-q.more:
			case <-ctx.Done():
			}
		}
	})
}
