package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/broker"
	"holdfast/broker/journal"
)

const (
	payloadSize = 256 // bytes
	topic       = "s/bench"
	maxClients  = 16 // connections that the messages in flight are spread over
)

// queue is a durable queue under measurement. put may be called by many goroutines, the rest by one.
type queue interface {
	// put queues a message and returns; it notifies c when the message is durable.
	put(m *message, c *client) error
	// consume hands out and acknowledges the backlog and then what is put, until ctx ends.
	consume(ctx context.Context) error
	// drain reads everything there is from the disk, in order, and acknowledges it. What f is called
	// with ends in the payload.
	drain(ctx context.Context, f func(m []byte)) (messages uint64, err error)
	commits() uint64
	behind() bool // whether what waited when consume began is not acknowledged yet
	close() error
}

// message is what is put, in both forms in which the queues take it: all of them store topic and
// payload.
type message struct {
	broker.Message
	stored []byte
}

// newMessages returns messages with random payloads, so many that compression within a block of a
// database finds nothing to save.
func newMessages() []message {
	random := rand.NewChaCha8([32]byte{})
	messages := make([]message, 4096)
	for i := range messages {
		b := make([]byte, 1+len(topic)+payloadSize)
		b[0] = byte(len(topic))
		copy(b[1:], topic)
		payload := b[1+len(topic):]
		random.Read(payload)
		messages[i] = message{broker.Message{Topic: topic, Payload: payload, QoS: 1}, b}
	}
	return messages
}

// client is a connection with a window of messages in flight: each one that becomes durable lets it
// send another. Clients, not messages, have goroutines, as in a broker.
type client struct {
	credit atomic.Int64 // messages that may be sent
	acked  atomic.Uint64
	wake   chan struct{} // credit is not 0
	failed atomic.Pointer[error]
}

func (c *client) done(err error) {
	if err != nil {
		c.fail(err)
	}
	c.acked.Add(1)
	if c.credit.Add(1) == 1 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *client) fail(err error) { c.failed.CompareAndSwap(nil, &err) }

// Committed makes a client a journal.Completer.
func (c *client) Committed(_ *journal.Entry, _ uint64, err error) { c.done(err) }

func (c *client) run(ctx context.Context, q queue, window int, messages []message, at int) error {
	free := int64(window)
	for {
		for ; free > 0 && ctx.Err() == nil; free-- {
			if err := q.put(&messages[at%len(messages)], c); err != nil {
				return err
			}
			at++
		}
		if err := c.failed.Load(); err != nil {
			return *err
		}
		if free == int64(window) {
			return nil
		}
		<-c.wake
		free += c.credit.Swap(0)
	}
}

// load keeps n messages in flight.
type load struct {
	clients []*client
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	errs    chan error
}

func startLoad(ctx context.Context, q queue, n int, messages []message) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, errs: make(chan error, maxClients)}
	for i := range min(n, maxClients) {
		c := &client{wake: make(chan struct{}, 1)}
		l.clients = append(l.clients, c)
		window := (n + i) / min(n, maxClients) // together n
		l.ended.Go(func() {
			if err := c.run(ctx, q, window, messages, i*251); err != nil {
				l.errs <- err
				cancel()
			}
		})
	}
	return l
}

func (l *load) acked() (sum uint64) {
	for _, c := range l.clients {
		sum += c.acked.Load()
	}
	return sum
}

// stop ends the load and waits until everything in flight is durable.
func (l *load) stop() error {
	l.cancel()
	l.ended.Wait()
	select {
	case err := <-l.errs:
		return fmt.Errorf("put: %w", err)
	default:
		return nil
	}
}

// fill puts count messages, a thousand in flight.
func fill(ctx context.Context, q queue, messages []message, count uint64) error {
	l := startLoad(ctx, q, 1000, messages)
	for l.acked() < count && ctx.Err() == nil && len(l.errs) == 0 {
		pause(ctx, 10*time.Millisecond)
	}
	if err := l.stop(); err != nil {
		return err
	}
	return ctx.Err()
}

// nap is a short sleep: time.Sleep takes at least a millisecond when nothing else runs.
func nap(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	for unix.Nanosleep(&left, &left) == unix.EINTR {
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
