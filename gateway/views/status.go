package views

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/broker/journal"
	"holdfast/gateway/status"
	"holdfast/sensors"
	"holdfast/sensors/chips"
)

// Status returns a picture of the whole gateway.
func (v *Views) Status() status.Status {
	v.flush()
	clock, _ := status.ReadClock() // not synchronised, if that is unknown
	s := status.Status{
		Time: time.Now(), Device: v.Config().Device.ID, Version: v.version, Started: v.started,
		State: v.phase.Load().(status.State), Problems: []string{},
		Bridges: v.Bridges(), Clients: v.clientStatus(), Journal: v.journalStatus(),
		Config: v.Changes(), Clock: clock, Power: v.power(), Process: status.ReadProcess(),
	}
	s.Sensors, s.Outputs = v.sensorStatus(), v.outputStatus(s.Bridges)
	s.Listeners = append(v.Listeners(), v.Others()...)
	s.Dashboard = v.Refused()
	s.Problems = problems(&s)
	if s.State == status.Running && len(s.Problems) > 0 {
		s.State = status.Degraded
	}
	s.Redate()
	return s
}

func (v *Views) sensorStatus() []status.Sensor {
	list := make([]status.Sensor, 0, len(v.Config().Sensors))
	var counts map[string]sensors.Counts
	if v.Sensors != nil {
		counts = v.Sensors()
	}
	v.latest.mu.Lock()
	defer v.latest.mu.Unlock()
	for _, c := range v.Config().Sensors {
		n := counts[c.Name]
		s := status.Sensor{
			Name: c.Name, Driver: c.Driver, Bus: c.Bus, Every: c.Every, Health: v.latest.of(c.Name),
			Taken: n.Taken, Failures: n.Failures, Missed: n.Missed, LeftOut: n.LeftOut, Behind: n.Behind, Readings: append([]status.Reading{}, v.latest.readings[c.Name]...),
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

func (v *Views) outputStatus(bridges []status.Bridge) []status.Output {
	list := make([]status.Output, 0, len(v.Config().Outputs))
	v.latest.mu.Lock()
	defer v.latest.mu.Unlock()
	for _, c := range v.Config().Outputs {
		o := status.Output{Name: c.Name, Driver: c.Driver, Bus: c.Bus, Health: v.latest.of(c.Name), Safe: c.Safe}
		if s, ok := v.latest.outputs[c.Name]; ok {
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

func (v *Views) clientStatus() status.Clients {
	s := v.Server.Stats()
	c := status.Clients{
		Connections: s.Connections, Connected: s.Connected, Sessions: s.Sessions,
		Subscriptions: s.Subscriptions, Retained: s.Retained, Received: s.Received, Sent: s.Sent,
		Dropped: s.Dropped, LoginsRefused: s.LoginsRefused, RateLimited: s.RateLimited, RefusedHosts: s.RefusedHosts, Revoked: s.Revoked, Oversized: s.Oversized, Limits: s.Limits, Refusals: s.Refusals, List: []status.Client{},
	}
	for _, x := range v.Server.Clients(status.MaxClients) {
		one := status.Client{
			ID: x.ID, Remote: x.Remote, Connected: x.Connected, Since: x.Since, Subscriptions: x.Subscriptions, Depth: x.Depth,
		}
		one.Protocol = status.Protocol(x.Version)
		c.List = append(c.List, one)
	}
	return c
}

func (v *Views) journalStatus() status.Journal {
	s := v.Journal.Stats()
	j := status.Journal{
		Bytes: s.Size, Segments: s.Segments, MaxSize: v.Config().Journal.MaxSize, Free: -1, KeepFree: v.Config().Journal.KeepFree,
		Full: s.Full, Failed: s.Failed, Messages: s.Messages, Commits: s.Commits, Syncs: s.Syncs,
		Written: s.Written, Refused: s.Refused, Failures: s.Failures, Damaged: s.Damaged,
		Losses: sum(v.Journal.Losses()), Readers: []status.Reader{}, PerDay: s.Ledger.PerDay(time.Now()),
	}
	j.Foreign = v.Foreign
	if v.Broken != nil {
		j.Broken = v.Broken.Error()
	}
	readers := slices.DeleteFunc(v.Journal.Readers(), func(r journal.ReaderInfo) bool { return r.Depth == 0 })
	if len(readers) > 0 {
		// Only the last one of all is looked up: there may be thousands, of sessions.
		last := slices.MinFunc(readers, func(a, b journal.ReaderInfo) int { return cmp.Compare(a.Cursor, b.Cursor) })
		if t, ok := v.Journal.Oldest(last.Name); ok {
			j.Oldest = v.Journal.Date(t)
		}
	}
	slices.SortStableFunc(readers, func(a, b journal.ReaderInfo) int { return cmp.Compare(b.Depth, a.Depth) })
	for _, r := range readers[:min(len(readers), status.MaxReaders)] {
		j.Readers = append(j.Readers, status.Reader{Name: r.Name, Depth: r.Depth})
	}
	if len(readers) > 0 {
		j.Depth = readers[0].Depth
	}
	if size, free, err := journal.Space(v.Config().DataDir); err == nil {
		j.Free, j.Capacity = free, size
		j.Lifetime = journal.Lifetime(j.PerDay, uint64(j.Capacity))
	}
	return j
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
func (v *Views) power() *status.Power {
	sys, err := v.Buses.Sysfs("")
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

// some names the first of a list.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// problems returns what is wrong at the moment, in words.
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
	for _, x := range s.Sensors {
		if x.Behind {
			ill = append(ill, x.Name)
		}
	}
	add(len(ill) > 0, "readings are missed, because the bus, the sensor or the processor is too slow for the interval: set every higher: sensors %s", some(ill))
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
