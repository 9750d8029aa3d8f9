package config

import (
	"errors"
	"math"
	"time"
)

// Limits bound what clients may cost the gateway. broker/server/README.md says what happens at each.
type Limits struct {
	Connections   int   // at a time; default 1000
	Sessions      int   // connected or not; default 2000
	Subscriptions int   // of a session; default 1000
	Filters       int   // subscriptions of all sessions; default 5000
	Matching      int   // steps of a publish through the subscriptions; default 1000
	UserShare     int   // percent of what all share that one user may have; default 50
	Packet        int64 // bytes; default 1 MiB
	Connecting    int   // connections whose CONNECT has not come; default 200
	ConnectPacket int64 // bytes; default 64 KiB
	Unfinished    int64 // bytes of all packets that have begun and not ended; default 2 MiB
	Wills         int64 // bytes of the wills of all clients, each twice; default 2 MiB
	Inflight      int   // receive maximum, each way; default 100
	TopicLevels   int   // default 64
	Queued        int64 // bytes that wait in memory for a client; default 1 MiB
	QueuedTotal   int64 // bytes that wait in memory for all of them; default 6 MiB
	Backlog       int64 // bytes of the journal that an offline session may keep; 0 for no limit; default 256 MiB
	Retained      int   // messages; default 10000
	RetainedTotal int64 // bytes of all of them; default 4 MiB
	ConnectRate   int   // new connections per second, those from this device not counted; 0 for no limit; default 100
	// ConnectRatePerAddress is the same for each address; default 20.
	ConnectRatePerAddress int
	ConnectTime           time.Duration
	PacketTime            time.Duration // for each 64 KiB of a packet that has begun; default 30 s
	WriteTime             time.Duration
	SessionExpiry         time.Duration // of a session without a connection; 0 for no limit; default 30 days
}

func (l *loader) brokerKeys(b *Broker) []key {
	m := &b.Limits
	const most = math.MaxInt32
	limits := newTable(
		key{"connections", "1000", "Clients that are connected at a time.", number(&m.Connections, 1, most, "")},
		key{"sessions", "2000", "Sessions, connected or not. One in ten is kept for those that end with their connection.", number(&m.Sessions, 1, most, "")},
		key{"session_expiry", "30d", "Longest life of a session without a connection, also of a 3.1.1 client; `0s` for no limit.", sessionExpiry(&m.SessionExpiry)},
		key{"subscriptions", "1000", "Subscriptions of one session. A filter counts once for each 8 levels, or 128 bytes with the client identifier, that it has begun.",
			number(&m.Subscriptions, 1, most, "")},
		key{"filters", "5000", "Subscriptions of all sessions, counted likewise.", number(&m.Filters, 1, most, "")},
		key{"matching", "1000", "Steps that a publish may take to find its subscribers: `+` in filters makes them more.", number(&m.Matching, 16, most, "")},
		key{"user_share", "50", "Percent of `connections`, `sessions`, `filters`, `matching` and `wills` that the clients of one user may have; those without a user count as one. The last eighth is for users who have no more than a sixteenth.",
			number(&m.UserShare, 1, 100, "")},
		key{"packet", "1MiB", "Largest packet from a client.", atMost(size(&m.Packet, 1<<10, "1KiB"), &m.Packet, 256<<20-1, "268435455B")},
		key{"connect_packet", "64KiB", "Largest CONNECT, which comes before a client is known; its will and password count.",
			atMost(size(&m.ConnectPacket, 1<<10, "1KiB"), &m.ConnectPacket, 1<<20, "1MiB")},
		key{"connecting", "200", "Connections that have not logged in. The oldest is closed for a new one.", number(&m.Connecting, 1, most, "")},
		key{"unfinished", "2MiB", "Memory of packets that have begun and not ended, of all connections. The largest gives way; at least two of the largest packets fit.",
			size(&m.Unfinished, 64<<10, "64KiB")},
		key{"packet_time", "30s", "Time that a client has for each 64 KiB of a packet that has begun.", duration(&m.PacketTime, time.Second, "")},
		key{"wills", "2MiB", "Bytes of the wills of all clients, connected or not. Each is in memory twice, and counts so.", size(&m.Wills, 64<<10, "64KiB")},
		key{"inflight", "100", "Publishes without acknowledgement, from a client and to it.", number(&m.Inflight, 1, math.MaxUint16, "")},
		key{"topic_levels", "64", "Levels of a topic or filter.", number(&m.TopicLevels, 1, 1000, "")},
		key{"queued", "1MiB", "Memory of the messages queued for a client that does not read, or whose session ends with the connection.",
			atMost(size(&m.Queued, 64<<10, "64KiB"), &m.Queued, 1<<30, "1GiB")},
		key{"queued_total", "6MiB", "The same, of all clients together.", size(&m.QueuedTotal, 1<<20, "1MiB")},
		key{"backlog", "256MiB", "Space in the journal that the messages of one session may keep while its client is away; `0B` for no limit.", size(&m.Backlog, 0, "0B")},
		key{"retained", "10000", "Retained messages.", number(&m.Retained, 1, most, "")},
		key{"retained_total", "4MiB", "Bytes of all retained messages, which are kept in memory. Of this and of `retained`, one part in eight is kept for what the gateway itself publishes.", atMost(size(&m.RetainedTotal, 64<<10, "64KiB"), &m.RetainedTotal, 1<<30, "1GiB")},
		key{"connect_rate", "100", "New connections per second, those from this device not counted; five times as many may come at once; `0` for no limit.",
			number(&m.ConnectRate, 0, most, "")},
		key{"connect_rate_per_address", "20", "The same for each address.", number(&m.ConnectRatePerAddress, 0, most, "")},
		key{"connect_time", "10s", "Time from the connection to the end of CONNECT.", duration(&m.ConnectTime, time.Second, "")},
		key{"write_time", "30s", "Time that a client has to take 64 KiB.", duration(&m.WriteTime, time.Second, "")},
	)
	return []key{
		{"limits", "", "What clients may cost; see broker/server for what happens at each limit.", l.section(limits)},
		{"server_keep_alive", "0s", "Longest keep alive of MQTT 5 clients, announced to them in CONNACK; `0s` leaves it to them.", serverKeepAlive(&b.ServerKeepAlive)},
		{"topic_aliases", "32", "Topic aliases that the broker uses towards an MQTT 5 client that takes them; `0` for none.", number(&b.TopicAliases, 0, 1000, "")},
		{"sys_interval", "10s", "Time between updates of `$SYS`; `0s` for no `$SYS`.", duration(&b.SysInterval, 0, "")},
		{"response_information", "", "Front of response topics, for MQTT 5 clients that ask for it; `%c` is the client identifier.", part(&b.ResponseInformation)},
	}
}

// sessionExpiry may be 0, and else a second or more.
func sessionExpiry(to *time.Duration) kind {
	k := duration(to, 0, "")
	parse := k.parse
	k.parse = func(s string) error {
		if err := parse(s); err != nil {
			return err
		}
		if *to > 0 && *to < time.Second {
			return errors.New("want 0s, or at least 1s")
		}
		return nil
	}
	return k
}

// atMost adds an upper limit to a size.
func atMost(k kind, to *int64, most int64, what string) kind {
	parse := k.parse
	k.parse = func(s string) error {
		if err := parse(s); err != nil {
			return err
		}
		if *to > most {
			return errors.New("want at most " + what)
		}
		return nil
	}
	return k
}

// serverKeepAlive may be 0, and has else to fit the packet's 16-bit field.
func serverKeepAlive(to *time.Duration) kind {
	k := keepAlive(to)
	parse := k.parse
	k.parse = func(s string) error {
		if s == "0s" {
			*to = 0
			return nil
		}
		return parse(s)
	}
	return k
}
