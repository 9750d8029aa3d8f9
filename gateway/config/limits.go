package config

import (
	"errors"
	"math"
	"time"

	"holdfast/broker/server"
)

// Limits bound what clients may cost the gateway. broker/server/README.md says what happens at each, and has the defaults.
type Limits struct {
	Connections   int   // at a time
	Sessions      int   // connected or not
	Subscriptions int   // of a session
	Filters       int   // subscriptions of all sessions
	Matching      int   // steps of a publish through the subscriptions
	UserShare     int   // percent of what all share that one user may have
	Packet        int64 // bytes
	Connecting    int   // connections whose CONNECT has not come
	ConnectPacket int64 // bytes
	Unfinished    int64 // bytes of all packets that have begun and not ended
	Wills         int64 // bytes of the wills of all clients, each twice
	Inflight      int   // receive maximum, each way
	TopicLevels   int
	Queued        int64 // bytes that wait in memory for a client
	QueuedTotal   int64 // bytes that wait in memory for all of them
	Backlog       int64 // bytes of the journal that an offline session may keep; 0 for no limit
	Retained      int   // messages
	RetainedTotal int64 // bytes of all of them
	ConnectRate   int   // new connections per second, those from this device not counted; 0 for no limit
	// ConnectRatePerAddress is the same for each address.
	ConnectRatePerAddress int
	ConnectTime           time.Duration
	PacketTime            time.Duration // for each 64 KiB of a packet that has begun
	WriteTime             time.Duration
	SessionExpiry         time.Duration // of a session without a connection; 0 for no limit
}

func (l *loader) brokerKeys(b *Broker) []key {
	m := &b.Limits
	const most = math.MaxInt32
	limits := newTable(
		key{"connections", count(server.DefaultConnections), "Clients that are connected at a time.", number(&m.Connections, 1, most, "")},
		key{"sessions", count(server.DefaultSessions), "Sessions, connected or not. One in ten is kept for those that end with their connection.", number(&m.Sessions, 1, most, "")},
		key{"session_expiry", span(server.DefaultExpiry), "Longest life of a session without a connection, also of a 3.1.1 client; `0s` for no limit.", sessionExpiry(&m.SessionExpiry)},
		key{"subscriptions", count(server.DefaultSubscriptions), "Subscriptions of one session. A filter counts once for each 8 levels, or 128 bytes with the client identifier, that it has begun.",
			number(&m.Subscriptions, 1, most, "")},
		key{"filters", count(server.DefaultFilters), "Subscriptions of all sessions, counted likewise.", number(&m.Filters, 1, most, "")},
		key{"matching", count(server.DefaultMatching), "Steps that a publish may take to find its subscribers: `+` in filters makes them more.", number(&m.Matching, 16, most, "")},
		key{"user_share", count(server.DefaultUserShare), "Percent of `connections`, `sessions`, `filters`, `matching` and `wills` that the clients of one user may have; those without a user count as one. The last eighth is for users who have no more than a sixteenth.",
			number(&m.UserShare, 1, 100, "")},
		key{"packet", bytesOf(server.DefaultPacket), "Largest packet from a client.", atMost(size(&m.Packet, 1<<10, "1KiB"), &m.Packet, 256<<20-1, "268435455B")},
		key{"connect_packet", bytesOf(server.DefaultConnectPacket), "Largest CONNECT, which comes before a client is known; its will and password count.",
			atMost(size(&m.ConnectPacket, 1<<10, "1KiB"), &m.ConnectPacket, 1<<20, "1MiB")},
		key{"connecting", count(server.DefaultConnecting), "Connections that have not logged in. The oldest is closed for a new one.", number(&m.Connecting, 1, most, "")},
		key{"unfinished", bytesOf(server.DefaultUnfinished), "Memory of packets that have begun and not ended, of all connections. The largest gives way; at least two of the largest packets fit.",
			size(&m.Unfinished, 64<<10, "64KiB")},
		key{"packet_time", span(server.DefaultPacketTimeout), "Time that a client has for each 64 KiB of a packet that has begun.", duration(&m.PacketTime, time.Second, "")},
		key{"wills", bytesOf(server.DefaultWills), "Bytes of the wills of all clients, connected or not. Each is in memory twice, and counts so.", size(&m.Wills, 64<<10, "64KiB")},
		key{"inflight", count(server.DefaultInflight), "Publishes without acknowledgement, from a client and to it.", number(&m.Inflight, 1, math.MaxUint16, "")},
		key{"topic_levels", count(server.DefaultLevels), "Levels of a topic or filter.", number(&m.TopicLevels, 1, 1000, "")},
		key{"queued", bytesOf(server.DefaultQueued), "Memory of the messages queued for a client that does not read, or whose session ends with the connection.",
			atMost(size(&m.Queued, 64<<10, "64KiB"), &m.Queued, 1<<30, "1GiB")},
		key{"queued_total", bytesOf(server.DefaultQueuedTotal), "The same, of all clients together.", size(&m.QueuedTotal, 1<<20, "1MiB")},
		key{"backlog", "256MiB", "Space in the journal that the messages of one session may keep while its client is away; `0B` for no limit.", size(&m.Backlog, 0, "0B")},
		key{"retained", count(server.DefaultRetained), "Retained messages.", number(&m.Retained, 1, most, "")},
		key{"retained_total", bytesOf(server.DefaultRetainedBytes), "Bytes of all retained messages, which are kept in memory. Of this and of `retained`, one part in eight is kept for what the gateway itself publishes.", atMost(size(&m.RetainedTotal, 64<<10, "64KiB"), &m.RetainedTotal, 1<<30, "1GiB")},
		key{"connect_rate", count(server.DefaultConnectRate), "New connections per second, those from this device not counted; five times as many may come at once; `0` for no limit.",
			number(&m.ConnectRate, 0, most, "")},
		key{"connect_rate_per_address", count(server.DefaultConnectRatePerAddr), "The same for each address.", number(&m.ConnectRatePerAddress, 0, most, "")},
		key{"connect_time", span(server.DefaultConnectTimeout), "Time from the connection to the end of CONNECT.", duration(&m.ConnectTime, time.Second, "")},
		key{"write_time", span(server.DefaultWriteTimeout), "Time that a client has to take 64 KiB.", duration(&m.WriteTime, time.Second, "")},
	)
	return []key{
		{"limits", "", "What clients may cost; see broker/server for what happens at each limit.", l.section(limits)},
		{"server_keep_alive", "0s", "Longest keep alive of MQTT 5 clients, announced to them in CONNACK; `0s` leaves it to them.", serverKeepAlive(&b.ServerKeepAlive)},
		{"topic_aliases", count(server.DefaultAliases), "Topic aliases that the broker uses towards an MQTT 5 client that takes them; `0` for none.", number(&b.TopicAliases, 0, 1000, "")},
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
