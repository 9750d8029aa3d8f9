// Package server is the embedded MQTT broker, for 3.1.1 and 5.0.
//
// It acknowledges a QoS 1 or 2 publish that has a durable reader (a persistent session, a bridge, a
// retained value) only after the journal has it on disk. It delivers the messages of one publisher to
// one topic to each subscriber in order. A subscriber that is slow, gone or hostile costs a fixed
// amount of memory and never delays a publisher. Every dropped message is counted by reason.
//
// It does not promise to keep QoS 0 messages, nor messages for sessions that end with their
// connection.
//
// The path of a message: a connection's reading goroutine parses it (read.go, receive.go), finds its
// subscribers (package filters) and appends it to the journal (publish.go); when it is durable the journal's
// completer acknowledges it and offers it to the subscribers (publish.go, offer.go); each subscriber's writing
// goroutine takes as much as its client's receive maximum allows (deliver.go, flight.go), encodes it (put.go) and
// writes many packets at once (output.go, writer.go). Which lock guards what: lock.go.
package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/journal"
	"holdfast/broker/server/filters"
	"holdfast/broker/server/intake"
	"holdfast/broker/server/limits"
	"holdfast/broker/server/retained"
)

// Server is an MQTT broker. All methods are safe for concurrent use.
type Server struct {
	opts      Options
	log       *slog.Logger
	journal   *journal.Journal
	epoch     []byte         // the journal's, as stored with packet identifiers
	scratches sync.Pool      // of *scratch
	work      sync.WaitGroup // all goroutines but those that write, and those of inboxes

	// Each has a lock of its own, or needs none.
	listeners  listeners
	index      *filters.Index[*target] // who gets which topic
	filters    filterUse
	limits     *limits.Log
	routes     routes
	retained   *retained.Store
	memory     memory         // for clients that do not take their messages at once
	unfinished *intake.Memory // for packets that have arrived in part
	wills      wills
	counts     counts

	mu       sync.Mutex // guards what follows; the order of locks is in lock.go
	sessions sessions
	conns    connections
	closing  bool // shutting down
}

// New returns a server with the sessions, subscriptions and retained messages of the journal.
func New(opts Options) (*Server, error) {
	opts.setDefaults()
	if opts.Journal == nil {
		return nil, errors.New("server: no journal")
	}
	if opts.Auth == nil {
		var err error
		if opts.Auth, err = auth.New(auth.Options{}); err != nil {
			return nil, fmt.Errorf("server: %w", err)
		}
	}
	s := &Server{
		opts: opts, log: opts.Log, limits: limits.NewLog(opts.Log), journal: opts.Journal,
		epoch: binary.AppendUvarint(nil, opts.Journal.Epoch().Number),
	}
	s.scratches.New = s.newScratch
	s.listeners.init(&opts)
	s.index = filters.New[*target](opts.MaxLevels)
	s.filters.init(&opts)
	s.retained = retained.New(retained.Load{Messages: opts.MaxRetained, Bytes: opts.MaxRetainedBytes}, isSys)
	s.memory.most, s.memory.turns = opts.MaxQueuedTotal, make(chan struct{}, opts.maxTurns())
	s.unfinished = intake.NewMemory(opts.MaxUnfinished)
	s.wills.Limit(limits.Wills, opts.MaxWills, opts.UserShare)
	s.sessions.byID, s.conns.all = map[string]*session{}, map[*conn]struct{}{}
	s.journal.RangeRetained(func(m *broker.Message, t journal.Time) bool {
		s.retained.Set(retained.Entry{Message: m, At: t, Before: true})
		return true
	})
	s.noteAnonymous(nil)
	if err := s.loadSessions(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.loadWills()
	return s, nil
}

// Run accepts connections until ctx ends. It then disconnects every client, and returns when every
// goroutine has ended. It returns early only if a listener that is not Patient cannot be opened.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeListeners()
	for _, w := range s.wills.due {
		s.publishWill(w)
	}
	s.wills.due = nil
	if err := s.SetListeners(ctx, s.opts.Listeners); err != nil {
		return err
	}
	close(s.listeners.ready)
	if s.opts.SysInterval > 0 {
		s.work.Go(func() { s.runSys(ctx) })
	}
	<-ctx.Done()
	s.closeListeners()
	s.shutdown()
	s.work.Wait()
	return nil
}

// Serve takes ownership of one connection and serves it in its own goroutines.
func (s *Server) Serve(nc net.Conn) { s.serve(newConn(s, nc)) }

// ending reports whether the server is shutting down.
func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) shutdown() {
	s.mu.Lock()
	s.closing = true
	conns := make([]*conn, 0, len(s.conns.all))
	for c := range s.conns.all {
		conns = append(conns, c)
	}
	for _, x := range s.sessions.byID {
		x.stopTimers()
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown()
	}
}

// Subscribe calls f for each message that filter matches, until cancel. f must not block.
func (s *Server) Subscribe(filter string, f func(*broker.Message)) (cancel func(), err error) {
	if err := checkOwn(filter); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	t := &target{deliver: f}
	s.index.Add(filter, t, filters.Subscription{QoS: 2}, filters.NoLimit, filters.NoLimit)
	return func() { s.index.Remove(filter, t) }, nil
}
