package status

import "time"

// Date returns when t was by the wall clock as it is at now, which time.Now has returned. A time that this process has
// taken keeps its distance to now: what was taken before the clock was set right, or stepped, is given as that clock
// has it now. Any other time is as it was written down. It is the same in each call until the clock steps.
func Date(now, t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	moved := now.Round(0).Sub(t.Round(0)) - now.Sub(t)
	if moved.Abs() < time.Second { // the kernel slews it
		moved = 0
	}
	return t.Round(0).Add(moved.Round(time.Second))
}

// Redate gives all times in s as the wall clock has them at s.Time.
func (s *Status) Redate() {
	now := s.Time
	at := func(all ...*time.Time) {
		for _, t := range all {
			*t = Date(now, *t)
		}
	}
	at(&s.Time, &s.Started)
	for i := range s.Sensors {
		x := &s.Sensors[i]
		at(&x.Since, &x.LastGood)
		for k := range x.Readings {
			at(&x.Readings[k].Time)
		}
	}
	for i := range s.Outputs {
		x := &s.Outputs[i]
		at(&x.Since, &x.LastGood, &x.Set)
	}
	for i := range s.Clients.List {
		at(&s.Clients.List[i].Since)
	}
	for i := range s.Bridges {
		b := &s.Bridges[i]
		at(&b.Since)
		for k := range b.Unmatched {
			at(&b.Unmatched[k].Since)
		}
	}
	for i := range s.Listeners {
		at(&s.Listeners[i].Since)
	}
	for i := range s.Journal.Losses {
		at(&s.Journal.Losses[i].Last)
	}
	if s.Config.Last != nil {
		last := *s.Config.Last
		at(&last.Time)
		s.Config.Last = &last
	}
	if s.Config.Trial != nil {
		trial := *s.Config.Trial
		at(&trial.Begun, &trial.Ends)
		s.Config.Trial = &trial
	}
}
