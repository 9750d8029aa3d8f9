package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
	"holdfast/gateway/status"
	"holdfast/sensors"
	"holdfast/sensors/chips"
)

// Status returns a picture of the whole gateway. It may be called at any time after New.
func (a *Agent) Status() status.Status {
	s := status.Status{
		Time: time.Now(), Device: a.config().Device.ID, Version: a.version, Started: a.started,
		State: a.phase.Load().(status.State), Problems: []string{},
		Bridges: a.bridgeStatus(), Clients: a.clientStatus(), Journal: a.journalStatus(),
		Config: a.changes.Status(), Clock: status.ReadClock(), Power: a.power(), Process: status.ReadProcess(),
	}
	s.Sensors, s.Outputs = a.sensorStatus(), a.outputStatus(s.Bridges)
	s.Listeners = a.listenerStatus()
	s.Problems = problems(&s)
	if s.State == status.Running && len(s.Problems) > 0 {
		s.State = status.Degraded
	}
	s.Redate()
	return s
}

func (a *Agent) sensorStatus() []status.Sensor {
	list := make([]status.Sensor, 0, len(a.config().Sensors))
	var counts map[string]sensors.Counts
	if a.sensors != nil {
		counts = a.sensors.Counts()
	}
	a.latest.mu.Lock()
	defer a.latest.mu.Unlock()
	for _, c := range a.config().Sensors {
		n := counts[c.Name]
		s := status.Sensor{
			Name: c.Name, Driver: c.Driver, Bus: c.Bus, Every: c.Every, Health: a.latest.of(c.Name),
			Taken: n.Taken, Failures: n.Failed, Readings: append([]status.Reading{}, a.latest.readings[c.Name]...),
		}
		for _, r := range s.Readings { // a status tells only of changes
			if r.Time.After(s.LastGood) {
				s.LastGood = r.Time
			}
		}
		list = append(list, s)
	}
	return list
}

func (a *Agent) outputStatus(bridges []status.Bridge) []status.Output {
	list := make([]status.Output, 0, len(a.config().Outputs))
	a.latest.mu.Lock()
	defer a.latest.mu.Unlock()
	for _, c := range a.config().Outputs {
		o := status.Output{Name: c.Name, Driver: c.Driver, Bus: c.Bus, Health: a.latest.of(c.Name), Safe: c.Safe}
		if s, ok := a.latest.outputs[c.Name]; ok {
			o.Set, o.By, o.Why = s.Since, string(s.By), s.Why
			if s.Known {
				o.Value = &s.Value
			}
		}
		if c.Link != "" {
			i := slices.IndexFunc(bridges, func(b status.Bridge) bool { return b.Name == c.Link })
			o.Link = &status.Link{Bridge: c.Link, Connected: i >= 0 && bridges[i].Connected}
		}
		list = append(list, o)
	}
	return list
}

func (a *Agent) clientStatus() status.Clients {
	s := a.server.Stats()
	c := status.Clients{
		Connections: s.Connections, Connected: s.Connected, Sessions: s.Sessions,
		Subscriptions: s.Subscriptions, Retained: s.Retained, Received: s.Received, Sent: s.Sent,
		Dropped: status.Drops{
			Queue: s.DroppedQueue, Size: s.DroppedSize, Expired: s.DroppedExpired, Refused: s.Refused,
			NotRetained: s.NotRetained, Denied: s.Denied, Unread: s.DeniedDelivery,
		},
		LoginsRefused: s.LoginsRefused, RateLimited: s.RateLimited, RefusedHosts: s.RefusedHosts, Revoked: s.Revoked, Oversized: s.Oversized, Limits: s.Limits, Refusals: s.Refusals, List: []status.Client{},
	}
	for _, x := range a.server.Clients(status.MaxClients) {
		one := status.Client{
			ID: x.ID, Remote: x.Remote, Connected: x.Connected, Since: x.Since, Subscriptions: x.Subscriptions, Depth: x.Depth,
		}
		one.Protocol = protocol(x.Version)
		c.List = append(c.List, one)
	}
	return c
}

func protocol(v wire.Version) string {
	switch v {
	case wire.V5:
		return "5"
	case wire.V311:
		return "3.1.1"
	}
	return ""
}

func (a *Agent) bridgeStatus() []status.Bridge {
	list := []status.Bridge{}
	a.mu.Lock()
	links := slices.Clone(a.links)
	a.mu.Unlock()
	for _, l := range links {
		s := l.now.Load().Stats()
		one := status.Bridge{
			Name: s.Name, ClientID: l.config.ClientID, Connected: s.Connected, Since: s.Since, Upstream: s.Upstream, Protocol: protocol(s.Version),
			Received: s.Received, Duplicates: s.Duplicates, Looped: s.Looped,
			Depth: s.Depth, InFlight: s.InFlight, Sent: s.Sent, Acked: s.Acknowledged, Resent: s.Resent,
			Refused: s.Refused, Expired: s.Expired, QoS0Sent: s.QoS0Sent, QoS0Drops: s.QoS0Dropped,
			Reconnects: s.Reconnects, LastError: s.LastError, Problems: l.now.Load().Problems(),
		}
		one.Unmatched = l.usage.Load().unmatched(time.Now())
		one.Oldest = a.oldest(s.Name)
		for _, e := range l.dialer.Load().Expiries() {
			one.Certificates = append(one.Certificates, status.Certificate{What: e.What, Name: e.Name, Expires: e.NotAfter})
		}
		list = append(list, one)
	}
	return list
}

func (a *Agent) journalStatus() status.Journal {
	s := a.journal.Stats()
	j := status.Journal{
		Bytes: s.Size, Segments: s.Segments, MaxSize: a.config().Journal.MaxSize, Free: -1, KeepFree: a.config().Journal.KeepFree,
		Full: s.Full, Failed: s.Failed, Messages: s.Messages, Commits: s.Commits, Syncs: s.Syncs,
		Written: s.Written, Refused: s.Refused, Failures: s.Failures, Damaged: s.Damaged,
		Losses: sum(a.journal.Losses()), Readers: []status.Reader{}, PerDay: s.Ledger.PerDay(time.Now()),
	}
	j.Foreign = a.foreign
	if a.broken != nil {
		j.Broken = a.broken.Error()
	}
	readers := slices.DeleteFunc(a.journal.Readers(), func(r journal.ReaderInfo) bool { return r.Depth == 0 })
	if len(readers) > 0 {
		// Only the last one of all is looked up: there may be thousands, of sessions.
		last := slices.MinFunc(readers, func(a, b journal.ReaderInfo) int { return cmp.Compare(a.Cursor, b.Cursor) })
		if t, ok := a.journal.Oldest(last.Name); ok {
			j.Oldest = a.date(t)
		}
	}
	slices.SortStableFunc(readers, func(a, b journal.ReaderInfo) int { return cmp.Compare(b.Depth, a.Depth) })
	for _, r := range readers[:min(len(readers), status.MaxReaders)] {
		j.Readers = append(j.Readers, status.Reader{Name: r.Name, Depth: r.Depth})
	}
	if len(readers) > 0 {
		j.Depth = readers[0].Depth
	}
	var st unix.Statfs_t
	if unix.Statfs(a.config().DataDir, &st) == nil {
		j.Free, j.Capacity = int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
		j.Lifetime = journal.Lifetime(j.PerDay, uint64(j.Capacity))
	}
	return j
}

// date returns when a message of the journal was appended, by the wall clock as it is now: that may have been wrong then.
func (a *Agent) date(t journal.Time) time.Time {
	at := time.Now().Round(0).Add(-a.journal.Waited(t))
	if at.Sub(t.Wall).Abs() < time.Second {
		return t.Wall // which does not move from call to call
	}
	return at.Round(time.Second)
}

// sum adds losses up by reader and reason.
func sum(losses []journal.Loss) []status.Loss {
	list := []status.Loss{}
	for _, l := range losses {
		i := slices.IndexFunc(list, func(s status.Loss) bool { return s.Reader == l.Reader && s.Reason == l.Reason })
		if i < 0 {
			i = len(list)
			list = append(list, status.Loss{Reader: l.Reader, Reason: l.Reason})
		}
		list[i].Count += l.Count
		list[i].Last = l.Time
	}
	slices.SortFunc(list, func(a, b status.Loss) int {
		return cmp.Or(cmp.Compare(a.Reader, b.Reader), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}

// power is what the machine shows of its supply; nil if it shows nothing.
func (a *Agent) power() *status.Power {
	sys, err := a.buses.Sysfs("")
	if err != nil {
		return nil
	}
	flags := chips.Board(sys)
	if _, ok := flags["undervoltage"]; !ok {
		return nil
	}
	return &status.Power{
		UnderVoltage: flags["undervoltage"], UnderVoltageSince: flags["undervoltage_since_start"],
		Throttled: flags["throttled"], ThrottledSince: flags["throttled_since_start"],
	}
}

// problems says what is wrong at the moment.
func problems(s *status.Status) []string {
	list := []string{}
	add := func(is bool, format string, args ...any) {
		if is {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	j := &s.Journal
	add(j.Broken != "", "the journal could not be opened and keeps nothing: %s", j.Broken)
	add(j.Broken == "" && j.Failed, "the storage of the journal refuses writes")
	add(j.Foreign != "", "data_dir was written by device %q: if it was copied from another gateway, an unknown number of messages of this one is lost; if the device was renamed, nothing is", j.Foreign)
	add(j.Full, "the journal is full and refuses new messages")
	var ill []string
	for _, x := range s.Sensors {
		if x.State != string(sensors.StateOK) && x.State != status.Waiting {
			ill = append(ill, x.Name+" "+x.State)
		}
	}
	add(len(ill) > 0, "sensors: %s", strings.Join(ill, ", "))
	ill = nil
	for _, x := range s.Outputs {
		if x.State != string(sensors.StateOK) && x.State != status.Waiting {
			ill = append(ill, x.Name+" "+x.State)
		}
	}
	add(len(ill) > 0, "outputs: %s", strings.Join(ill, ", "))
	for _, l := range s.Listeners {
		add(!l.Open, "%s is not open and is tried again: %s", l.URL, l.Error)
		add(l.Warning != "", "%s: %s", l.URL, l.Warning)
	}
	for _, b := range s.Bridges {
		add(!b.Connected, "bridge %s is not connected: %d waiting", b.Name, b.Depth)
		for _, p := range b.Problems {
			add(true, "bridge %s: %s", b.Name, p)
		}
	}
	if c := s.Config.Last; c != nil {
		add(c.Error != "", "the configuration that was read last is not in use: %s", strings.ReplaceAll(c.Error, "\n", "; "))
	}
	if t := s.Config.Trial; t != nil {
		add(t.Unwritten, "%s still holds a configuration that was rolled back: put the earlier one in place with `sudo holdfast config rollback`", t.File)
	}
	add(!s.Clock.Synchronised, "the clock is not synchronised: times of readings may be wrong")
	add(s.Power != nil && s.Power.UnderVoltage, "the supply voltage is too low: use a stronger supply or a shorter cable")
	add(s.Power != nil && s.Power.Throttled, "the processor is slowed down, for its temperature or supply")
	return list
}
