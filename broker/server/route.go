package server

import (
	"fmt"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/filters"
)

// FilterQoS is a topic filter with its maximum QoS.
type FilterQoS struct {
	Filter string
	QoS    byte
}

// Route is a durable subscriber inside the process: a bridge. A message whose QoS and filter's QoS are
// both above 0 is owed to Reader; any other is passed to Deliver, which must not block.
type Route struct {
	Name    string // for errors
	Filters []FilterQoS
	Reader  *journal.Reader // has one route
	// Pick, if set, returns the reader that a message of the topic is owed to, instead of Reader, which then only
	// identifies the route. own is true of messages that this process published on its own behalf. Pick must not
	// block; it is called for each message that is owed.
	Pick    func(topic string, own bool) *journal.Reader
	Deliver func(*broker.Message)
}

// routes holds the current routes.
type routes struct {
	mu       sync.Mutex
	byReader map[*journal.Reader]*route
}

type route struct {
	target  *target
	filters []FilterQoS
	version uint64 // of the index: what was matched before may not be owed
}

// checkOwn checks a filter of this process: only clients share subscriptions with each other.
func checkOwn(filter string) error {
	if isShared(filter) {
		return fmt.Errorf("%w: %q: want a filter that is not shared", broker.ErrTopic, filter)
	}
	return broker.CheckFilter(filter)
}

// Route adds a route, or replaces the filters of its Reader's route, which keeps its Deliver. A message
// that both the old and the new filters match is owed throughout the change. A message that several
// filters match is owed once.
func (s *Server) Route(r Route) error {
	for _, f := range r.Filters {
		if err := checkOwn(f.Filter); err != nil {
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
		s.index.Add(f.Filter, now.target, filters.Subscription{QoS: f.QoS, RetainAsPublished: true}, filters.NoLimit, filters.NoLimit)
		kept[f.Filter] = true
	}
	now.version = s.index.Version()
	for _, f := range old.filters {
		if !kept[f.Filter] {
			s.index.Remove(f.Filter, old.target)
		}
	}
	if s.routes.byReader == nil {
		s.routes.byReader = map[*journal.Reader]*route{}
	}
	s.routes.byReader[r.Reader] = now
	return nil
}

// Unroute removes the route of a reader: it is owed no further messages, except those whose publish has
// already begun.
func (s *Server) Unroute(reader *journal.Reader) {
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	if r := s.routes.byReader[reader]; r != nil {
		for _, f := range r.filters {
			s.index.Remove(f.Filter, r.target)
		}
		delete(s.routes.byReader, reader)
	}
}
