package uplinks

import (
	"time"

	"holdfast/gateway/status"
)

// Status returns how the bridges are doing, in the order of the configuration.
func (u *Uplinks) Status() []status.Bridge {
	list := []status.Bridge{}
	for _, l := range u.current() {
		s := l.sender().Stats()
		one := status.Bridge{
			Name: s.Name, ClientID: l.usage.Load().client, Connected: s.Connected, Since: s.Since, Upstream: s.Upstream, Protocol: status.Protocol(s.Version),
			Received: s.Received, Duplicates: s.Duplicates, Looped: s.Looped,
			Depth: s.Depth, InFlight: s.InFlight, Sent: s.Sent, Acknowledged: s.Acknowledged, Resent: s.Resent,
			Refused: s.Refused, Expired: s.Expired, QoS0Sent: s.QoS0Sent, QoS0Dropped: s.QoS0Dropped,
			Reconnects: s.Reconnects, LastError: s.LastError, Problems: l.sender().Problems(),
		}
		one.Unmatched = l.usage.Load().unmatched(u.opts.Now())
		one.Oldest = u.oldest(s.Name)
		for _, e := range l.dialer.Load().Expiries() {
			one.Certificates = append(one.Certificates, status.Certificate{What: e.What, Name: e.Name, Expires: e.NotAfter})
		}
		list = append(list, one)
	}
	return list
}

// oldest returns when the oldest message of a bridge's backlog was taken; zero without one.
func (u *Uplinks) oldest(bridge string) (t time.Time) {
	for _, r := range u.journal.Readers() {
		if name, ok := bridgeOf(r.Name); !ok || name != bridge || r.Depth == 0 {
			continue
		}
		if o, ok := u.journal.Oldest(r.Name); ok {
			if at := u.journal.Date(o); t.IsZero() || at.Before(t) {
				t = at
			}
		}
	}
	return t
}
