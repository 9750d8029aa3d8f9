package server

import "strings"

// subscribers are those of one filter: a list while they are few.
type subscribers struct {
	few    []owner
	many   map[*target]subscription
	groups map[string]*group // by the group's name
}

type owner struct {
	*target
	subscription
}

const mostFew = 16 // subscribers in a list

func (s *subscribers) empty() bool { return s == nil || len(s.few)+len(s.many)+len(s.groups) == 0 }

// set adds or replaces t and reports whether it was there.
func (s *subscribers) set(t *target, sub subscription) (had bool) {
	for i := range s.few {
		if s.few[i].target == t {
			s.few[i].subscription = sub
			return true
		}
	}
	if s.many == nil && len(s.few) < mostFew {
		s.few = append(s.few, owner{t, sub})
		return false
	}
	if s.many == nil {
		s.many = make(map[*target]subscription, 2*mostFew)
		for _, o := range s.few {
			s.many[o.target] = o.subscription
		}
		s.few = nil
	}
	_, had = s.many[t]
	s.many[t] = sub
	return had
}

func (s *subscribers) unset(t *target) (had bool) {
	if s.many != nil {
		_, had = s.many[t]
		delete(s.many, t)
		return had
	}
	for i := range s.few {
		if last := len(s.few) - 1; s.few[i].target == t {
			s.few[i], s.few[last] = s.few[last], owner{}
			s.few = s.few[:last]
			return true
		}
	}
	return false
}

func put(at **subscribers, name string, t *target, sub subscription) (isNew bool) {
	if *at == nil {
		*at = &subscribers{}
	}
	s := *at
	if name == "" {
		return !s.set(t, sub)
	}
	g := s.groups[name]
	if g == nil {
		if s.groups == nil {
			s.groups = map[string]*group{}
		}
		g = &group{}
		s.groups[strings.Clone(name)] = g
	}
	return !g.set(t, sub)
}

func take(at **subscribers, name string, t *target) (found bool) {
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
