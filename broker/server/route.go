package server

import (
	"fmt"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// FilterQoS is a topic filter and the most QoS that messages are wanted with.
type FilterQoS struct {
	Filter string
	QoS    byte
}

// Route is a durable subscriber inside the process: a bridge. Messages whose QoS and filter's QoS are
// both above 0 are owed to Reader; others are given to Deliver, which must not block.
type Route struct {
	Name    string // for errors
	Filters []FilterQoS
	Reader  *journal.Reader // has one route
	// Pick, if set, says for a topic which reader a message is owed to, instead of Reader, which then only
	// names the route. own is true of messages that this process has published by itself. It must not block, and
	// is called with the message that is owed.
	Pick    func(topic string, own bool) *journal.Reader
	Deliver func(*broker.Message)
}

// routes are those that there are.
type routes struct {
	mu       sync.Mutex
	byReader map[*journal.Reader]*route
}

type route struct {
	target  *target
	filters []FilterQoS
	version uint64 // of the index: what was matched before may not be owed
}

// Route adds a route, or changes the filters of the one that its Reader has, whose Deliver stays. There
// is no moment at which a message that both the old and the new filters match is not owed. A message
// that several filters match comes once.
func (s *Server) Route(r Route) error {
	for _, f := range r.Filters {
		if err := broker.CheckFilter(f.Filter); err != nil {
			return fmt.Errorf("server: route %s: %w", r.Name, err)
		}
	}
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	old := s.routes.byReader[r.Reader]
	now := &route{target: &target{reader: r.Reader, deliver: r.Deliver}, filters: r.Filters}
	kept := map[string]bool{}
	if old != nil {
		now.target = old.target
	} else {
		old = &route{}
	}
	if r.Pick != nil {
		now.target.pick.Store(&r.Pick)
	} else {
		now.target.pick.Store(nil)
	}
	for _, f := range r.Filters {
		s.index.add(f.Filter, now.target, subscription{qos: f.QoS, retainAsPublished: true}, noLimit, noLimit)
		kept[f.Filter] = true
	}
	now.version = s.index.version.Load()
	for _, f := range old.filters {
		if !kept[f.Filter] {
			s.index.remove(f.Filter, old.target)
		}
	}
	if s.routes.byReader == nil {
		s.routes.byReader = map[*journal.Reader]*route{}
	}
	s.routes.byReader[r.Reader] = now
	return nil
}

// Unroute ends the route of a reader: it is owed no further messages, but for those that are being
// published now.
func (s *Server) Unroute(reader *journal.Reader) {
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	if r := s.routes.byReader[reader]; r != nil {
		for _, f := range r.filters {
			s.index.remove(f.Filter, r.target)
		}
		delete(s.routes.byReader, reader)
	}
}
