// Package tap notifies parts of the gateway of its events: readings, states, connections.
//
// It promises that a subscriber gets events in the order in which their publisher published them, and that it
// never holds a publisher up: it has a bounded queue and a goroutine of its own. When the queue is full the oldest
// event is dropped, counted, and a Missed comes in its place. Nothing here outlives the process: a subscriber that
// must not miss anything opens a reader of the journal, see Durable.
package tap

import (
	"log/slog"
	"slices"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/sensors"
)

// Event is one of the types below, sensors.Status, outputs.State or, for a subscriber of Messages, *broker.Message.
// Events are shared and must not be changed.
type Event any

// Reading was taken, and is about to be published under the number Seq.
type Reading struct {
	sensors.Reading
	Seq uint64
}

// Settled is the outcome of a reading: durable if it is queued for a reader, or refused.
type Settled struct {
	Seq uint64
	Err error
}

// Forgotten names sensors and outputs that have another configuration, or none. What comes later under these
// names is of another one.
type Forgotten struct{ Names []string }

// Connection of a bridge has come or gone.
type Connection struct {
	Bridge    string
	Connected bool
	Err       error // why it went
}

// Missed stands for N events that were dropped because the subscriber's queue was full.
type Missed struct{ N uint64 }

// Options are a subscription.
type Options struct {
	Name string      // for the log
	Size int         // of the queue, in events, beside those that are being taken; 0 means 1024
	Take func(Event) // called with one event at a time. It may take its time, and must not call Flush or Close
}

const defaultSize = 1024

// Hub distributes the events of one gateway to its subscribers. Methods are safe for concurrent use.
type Hub struct {
	log *slog.Logger

	mu   sync.Mutex
	subs []*Subscription // replaced, never changed
}

// NewHub returns a hub without subscribers.
func NewHub(log *slog.Logger) *Hub { return &Hub{log: log} }

// Publish gives e to each subscriber. It does not wait for any.
func (h *Hub) Publish(e Event) {
	h.mu.Lock()
	subs := h.subs
	h.mu.Unlock()
	for _, s := range subs {
		s.add(e)
	}
}

// Subscribe starts a subscription to every event from now on, until Close.
func (h *Hub) Subscribe(o Options) *Subscription {
	s := h.subscription(o)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = append(slices.Clone(h.subs), s)
	s.cancel = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.subs = slices.DeleteFunc(slices.Clone(h.subs), func(x *Subscription) bool { return x == s })
	}
	return s
}

// Messages starts a subscription to each message that a broker takes and filter matches, until Close.
func (h *Hub) Messages(b *server.Server, filter string, o Options) (*Subscription, error) {
	s := h.subscription(o)
	cancel, err := b.Subscribe(filter, func(m *broker.Message) { s.add(m) })
	if err != nil {
		s.Close()
		return nil, err
	}
	s.cancel = cancel
	return s, nil
}

func (h *Hub) subscription(o Options) *Subscription {
	if o.Size == 0 {
		o.Size = defaultSize
	}
	s := &Subscription{opts: o, log: h.log, more: make(chan struct{}, 1), end: make(chan struct{}), cancel: func() {}}
	s.ended.Go(s.run)
	return s
}

// Subscription is one subscriber's queue.
type Subscription struct {
	opts   Options
	log    *slog.Logger
	more   chan struct{}
	end    chan struct{}
	ended  sync.WaitGroup
	cancel func()

	taking sync.Mutex // while an event is taken; before mu

	mu      sync.Mutex
	waiting []Event
	missed  uint64 // since the last event that was taken
	dropped uint64
}

func (s *Subscription) add(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= s.opts.Size {
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.missed++
		if s.dropped++; s.dropped == 1 {
			s.log.Warn("events are dropped: a subscriber inside the gateway does not keep up", "subscriber", s.opts.Name)
		}
	}
	s.waiting = append(s.waiting, e)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *Subscription) run() {
	for {
		select {
		case <-s.more:
			s.Flush()
		case <-s.end:
			s.Flush()
			return
		}
	}
}

// Flush returns when every event that was published before it was called has been taken.
func (s *Subscription) Flush() {
	s.taking.Lock()
	defer s.taking.Unlock()
	s.mu.Lock()
	missed, all := s.missed, s.waiting
	s.missed, s.waiting = 0, nil
	s.mu.Unlock()
	if missed > 0 {
		s.opts.Take(Missed{missed})
	}
	for _, e := range all {
		s.opts.Take(e)
	}
}

// Dropped returns how many events were dropped because the queue was full.
func (s *Subscription) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Close ends the subscription, and returns when what was published before has been taken.
func (s *Subscription) Close() {
	s.cancel()
	close(s.end)
	s.ended.Wait()
}

// Durable subscribes a reader of the journal to messages: those of QoS 1 and 2 stay on disk until the reader
// acknowledges them, also over a restart. live gets those of QoS 0, and must not block.
func Durable(j *journal.Journal, b *server.Server, reader string, filters []server.FilterQoS, live func(*broker.Message)) (*journal.Reader, error) {
	r, err := j.OpenReader(reader)
	if err != nil {
		return nil, err
	}
	return r, b.Route(server.Route{Name: reader, Reader: r, Deliver: live, Filters: filters})
}
