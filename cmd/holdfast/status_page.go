package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/gateway/status"
)

// status writes everything, sections without content left out.
func (p *page) status(s *status.Status) {
	looks := map[status.State]style{status.Running: good, status.Degraded: odd}
	look, ok := looks[s.State]
	if !ok {
		look = bold
	}
	p.row(span{s.Device, bold}, span{"  ", plain}, span{string(s.State), look},
		span{fmt.Sprintf("  for %s, since %s  holdfast %s", age(s.Time.Sub(s.Started)), s.Started.Local().Format(time.DateTime), s.Version), plain})
	if t := s.Config.Trial; t != nil {
		switch {
		case t.Outcome == status.RolledBack:
			p.row(span{fmt.Sprintf("a configuration was rolled back: %s", t.Reason), odd})
		case t.Outcome == "":
			p.row(span{fmt.Sprintf("a configuration is on trial for another %s: %s", age(t.Ends.Sub(s.Time)), strings.Join(append(t.Missing, "holdfast config confirm keeps it"), "; ")), odd})
		}
	}
	if c := s.Config.Last; c != nil && c.Error == "" {
		what := strings.Join(c.Changes, ", ")
		if what == "" {
			what = "nothing was different"
		}
		p.row(span{fmt.Sprintf("configuration read again %s ago (%s): %s", since(s.Time, c.Time), c.By, what), plain})
	}
	for _, text := range s.Problems {
		p.row(span{"! " + text, odd})
	}
	p.sensors(s)
	p.outputs(s)
	p.bridges(s)
	p.clients(s)
	p.journal(s)
}

func health(h status.Health) span {
	switch h.State {
	case "ok":
		return span{h.State, good}
	case status.Waiting:
		return span{h.State, dim}
	}
	return span{h.State, bad}
}

func (p *page) sensors(s *status.Status) {
	if len(s.Sensors) == 0 {
		return
	}
	p.head("SENSOR", "STATE", "AGE", "TAKEN", "FAILED", "MISSED", "READINGS")
	for _, x := range s.Sensors {
		var values []string
		var last time.Time
		for _, r := range x.Readings {
			values = append(values, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Quantity, decimal(r.Value), r.Unit)))
			if r.Time.After(last) {
				last = r.Time
			}
		}
		said := span{strings.Join(values, ", "), plain}
		if x.Reason != "" {
			said = span{x.Reason, odd}
		}
		p.cells(span{x.Name, plain}, health(x.Health), span{since(s.Time, last), plain},
			number(x.Taken, plain), number(x.Failures, odd), number(x.Missed, odd), said)
	}
}

func (p *page) outputs(s *status.Status) {
	if len(s.Outputs) == 0 {
		return
	}
	p.head("OUTPUT", "STATE", "VALUE", "SAFE", "FOR", "BY", "LINK")
	for _, x := range s.Outputs {
		value, link := span{"unknown", odd}, span{"-", dim}
		if x.Value != nil {
			value = span{decimal(*x.Value), plain}
		}
		if x.Link != nil {
			link = span{x.Link.Bridge + " connected", plain}
			if !x.Link.Connected {
				link = span{x.Link.Bridge + " lost", odd}
			}
		}
		by := x.By
		if x.Why != "" {
			by += ": " + x.Why
		}
		if x.Reason != "" {
			by = x.Reason
		}
		p.cells(span{x.Name, plain}, health(x.Health), value, span{decimal(x.Safe), plain}, span{since(s.Time, x.Set), plain}, span{by, plain}, link)
	}
}

func (p *page) bridges(s *status.Status) {
	if len(s.Bridges) == 0 {
		return
	}
	p.head("BRIDGE", "STATE", "WAITING", "OLDEST", "IN FLIGHT", "SENT", "RESENT", "REFUSED", "EXPIRED", "QOS 0 LOST", "RECONNECTS", "UPSTREAM")
	for _, b := range s.Bridges {
		state := span{"connected", good}
		if !b.Connected {
			state = span{"away", bad}
		}
		p.cells(span{b.Name, plain}, state, number(b.Depth, plain), span{since(s.Time, b.Oldest), plain}, number(uint64(b.InFlight), plain),
			number(b.Sent, plain), number(b.Resent, plain), number(b.Refused, odd), number(b.Expired, odd), number(b.QoS0Dropped, odd),
			number(b.Reconnects, plain), span{b.Upstream, plain})
	}
	for _, b := range s.Bridges {
		if b.ClientID != "" {
			p.row(span{b.Name + ": client identifier " + b.ClientID, plain})
		}
		if !b.Connected && b.LastError != "" {
			p.row(span{b.Name + ": " + b.LastError, odd})
		}
		for _, r := range b.Unmatched {
			p.row(span{fmt.Sprintf("%s: the %s rule %q has matched nothing for %s", b.Name, r.Direction, r.Filter, since(s.Time, r.Since)), odd})
		}
	}
}

func (p *page) clients(s *status.Status) {
	c := &s.Clients
	if len(c.List) > 0 {
		p.head("CLIENT", "STATE", "FOR", "MQTT", "SUBSCRIPTIONS", "WAITING", "FROM")
		for _, x := range c.List {
			state := span{"connected", good}
			if !x.Connected {
				state = span{"away", dim}
			}
			p.cells(span{x.ID, plain}, state, span{since(s.Time, x.Since), plain}, span{orDash(x.Protocol), plain},
				number(uint64(x.Subscriptions), plain), number(x.Depth, plain), span{orDash(x.Remote), plain})
		}
		if more := c.Sessions - len(c.List); more > 0 {
			p.row(span{fmt.Sprintf("and %d more", more), dim})
		}
	}
	p.row()
	line := func(name, format string, args ...any) {
		p.cells(span{name, dim}, span{fmt.Sprintf(format, args...), plain})
	}
	line("clients", "%d connected, %s, %s; %d messages received, %d sent", c.Connected,
		plural(uint64(c.Sessions), "session", "sessions"), plural(uint64(c.Subscriptions), "subscription", "subscriptions"), c.Received, c.Sent)
	d := c.Dropped
	if d != (status.Drops{}) || c.LoginsRefused+c.RateLimited > 0 {
		line("", "dropped: %d slow client, %d too large, %d expired, %d not stored, %d not retained; forbidden: %d publishes, %d deliveries, %d logins; %d connections too fast",
			d.Queue, d.Size, d.Expired, d.Refused, d.NotRetained, d.Denied, d.Unread, c.LoginsRefused, c.RateLimited)
	}
	if len(c.Limits) > 0 {
		var at []string
		for _, name := range slices.Sorted(maps.Keys(c.Limits)) {
			at = append(at, fmt.Sprintf("%s %d", name, c.Limits[name]))
		}
		line("", "refused at broker.limits: %s", strings.Join(at, ", "))
	}
}

// journal goes on with the lines of clients, and ends with the machine.
func (p *page) journal(s *status.Status) {
	j := &s.Journal
	line := func(name string, look style, format string, args ...any) {
		p.cells(span{name, dim}, span{fmt.Sprintf(format, args...), look})
	}
	waiting := "nothing waits"
	if j.Depth > 0 {
		waiting = fmt.Sprintf("%s, the oldest for %s", plural(j.Depth, "message waits", "messages wait"), since(s.Time, j.Oldest))
	}
	line("journal", plain, "%s; %s of %s in %s", waiting, sizeOf(j.Bytes), sizeOf(j.MaxSize), plural(uint64(j.Segments), "segment", "segments"))
	switch {
	case j.Broken != "":
		line("", bad, "keeps nothing: %s", j.Broken)
	case j.Failed:
		line("", bad, "the storage refuses writes: %d failed", j.Failures)
	case j.Full:
		line("", bad, "full: %s refused", plural(j.Refused, "message", "messages"))
	}
	if j.Free >= 0 {
		line("disk", plain, "%s free of %s, %s are to stay free", sizeOf(j.Free), sizeOf(j.Capacity), sizeOf(j.KeepFree))
	}
	if j.PerDay > 0 {
		line("flash", plain, "%s a day: a card of %s lasts for about %.0f years of that", sizeOf(int64(j.PerDay)), sizeOf(j.Capacity), j.Lifetime.Hours()/24/365)
	}
	if len(j.Losses) == 0 {
		line("lost", plain, "nothing")
	}
	for _, l := range j.Losses {
		if l.Reason == "unknown" {
			line("lost", bad, "%s, %s ago: see 'holdfast journal losses'", unknownNumber(orDash(l.Reader)), since(s.Time, l.Last))
			continue
		}
		line("lost", bad, "%s of %s: %s, last %s ago", plural(l.Count, "message", "messages"), orDash(l.Reader), l.Reason, since(s.Time, l.Last))
	}
	if c := s.Clock; c.Synchronised {
		line("clock", plain, "synchronised, off by %v, at most %v", c.Offset.Round(time.Microsecond), c.MaxError.Round(time.Millisecond))
	} else {
		line("clock", odd, "not synchronised")
	}
	if w := s.Power; w != nil {
		switch {
		case w.UnderVoltage:
			line("power", bad, "too little voltage")
		case w.UnderVoltageSince:
			line("power", odd, "enough voltage now, but too little at times since the start")
		default:
			line("power", plain, "enough voltage")
		}
		if w.Throttled || w.ThrottledSince {
			line("", odd, "the processor is, or was, slowed down")
		}
	}
	r := s.Process
	line("process", plain, "%d: %s of memory, %s of processor time, %d goroutines, %d descriptors", r.PID, sizeOf(r.RSS), r.CPU.Round(10*time.Millisecond), r.Goroutines, r.Descriptors)
}

// number is dim if it is 0 and looks as it should otherwise.
func number(n uint64, look style) span {
	if n == 0 {
		look = dim
	}
	return span{strconv.FormatUint(n, 10), look}
}

// decimal writes a value for people: six digits, more in front of the point if there are more, and an exponent only
// where zeros would hide the digits.
func decimal(v float64) string {
	a := math.Abs(v)
	if a != 0 && (a < 1e-4 || a >= 1e15) || math.IsNaN(a) {
		return strconv.FormatFloat(v, 'g', 6, 64)
	}
	digits := 5
	for ; digits > 0 && a >= 10; a /= 10 {
		digits--
	}
	for ; a > 0 && a < 1; a *= 10 {
		digits++
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// since is how long ago t was, seen from now.
func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return age(now.Sub(t))
}

// age writes a duration for people, with its two largest units.
func age(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	days, hours, minutes, seconds := d/(24*time.Hour), d/time.Hour%24, d/time.Minute%60, d/time.Second%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}
