package filters

import "strings"

// subscribers are those of one filter: a list while they are few.
type subscribers[T Subscriber] struct {
	few    []owner[T]
	many   map[T]Subscription
	groups map[string]*group[T] // by the group's name
}

type owner[T Subscriber] struct {
	target T
	sub    Subscription
}

const mostFew = 16 // subscribers in a list

func (s *subscribers[T]) empty() bool { return s == nil || len(s.few)+len(s.many)+len(s.groups) == 0 }

// set adds or replaces t and reports whether it was there.
func (s *subscribers[T]) set(t T, sub Subscription) (had bool) {
	for i := range s.few {
		if s.few[i].target == t {
			s.few[i].sub = sub
			return true
		}
	}
	if s.many == nil && len(s.few) < mostFew {
		s.few = append(s.few, owner[T]{t, sub})
		return false
	}
	if s.many == nil {
		s.many = make(map[T]Subscription, 2*mostFew)
		for _, o := range s.few {
			s.many[o.target] = o.sub
		}
		s.few = nil
	}
	_, had = s.many[t]
	s.many[t] = sub
	return had
}

func (s *subscribers[T]) unset(t T) (had bool) {
	if s.many != nil {
		_, had = s.many[t]
		delete(s.many, t)
		return had
	}
	for i := range s.few {
		if last := len(s.few) - 1; s.few[i].target == t {
			s.few[i], s.few[last] = s.few[last], owner[T]{}
			s.few = s.few[:last]
			return true
		}
	}
	return false
}

func put[T Subscriber](at **subscribers[T], name string, t T, sub Subscription) (isNew bool) {
	if *at == nil {
		*at = &subscribers[T]{}
	}
	s := *at
	if name == "" {
		return !s.set(t, sub)
	}
	g := s.groups[name]
	if g == nil {
		if s.groups == nil {
			s.groups = map[string]*group[T]{}
		}
		g = &group[T]{}
		s.groups[strings.Clone(name)] = g
	}
	return !g.set(t, sub)
}

func take[T Subscriber](at **subscribers[T], name string, t T) (found bool) {
	s := *at
	if s == nil {
		return false
	}
	if name == "" {
		found = s.unset(t)
	} else if g := s.groups[name]; g != nil {
		found = g.remove(t)
		if len(*g.members.Load()) == 0 {
			delete(s.groups, name)
		}
	}
	if s.empty() {
		*at = nil
	}
	return found
}
