package server

import (
	"log/slog"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/journal"
)

// Options configure a Server. Zero limits mean the defaults.
type Options struct {
	Listeners []Listener
	Journal   *journal.Journal // not closed by the server
	Anonymous bool             // whether clients without a user and a certificate may come in
	Auth      *auth.Auth       // users and their rights; nil has no users and forbids nothing
	Log       *slog.Logger     // nil discards

	ServerKeepAlive time.Duration // longest keep alive of a 5.0 client, sent in CONNACK; whole seconds, 0 means no limit
	MaxAliases      int           // topic aliases that the server sets towards a client that accepts them; 32, -1 means none
	ResponseInfo    string        // Response Information for 5.0 clients that ask; %c is the client identifier
	SysInterval     time.Duration // between updates of $SYS; 0 means no $SYS
	Version         string        // of $SYS/broker/version

	ConnectRate        int // new connections per second, those from this machine not counted; 100; -1 means no limit
	ConnectRatePerAddr int // the same from one address; 20; -1 means no limit

	MaxConnections   int           // 1,000
	MaxSessions      int           // 2,000, connected or not
	MaxSubscriptions int           // 1,000 per session
	MaxFilters       int           // subscriptions of all sessions; 5,000
	MaxPacket        int           // bytes; 1 MiB
	MaxConnecting    int           // connections that have not sent CONNECT; 200
	MaxConnectPacket int           // bytes of a CONNECT; 64 KiB, or MaxPacket if that is less
	MaxUnfinished    int64         // bytes of packets that have arrived in part, of all connections; 2 MiB
	MaxMatching      int           // steps through the index of subscriptions that a publish may take; 1,000
	MaxWills         int64         // bytes of the wills of all clients, connected or not, each twice; 2 MiB
	MaxExpiry        time.Duration // of a session without a connection, also one of 3.1.1; 30 days, -1 means no limit
	UserShare        int           // percent of what all clients share that one user may have; 50
	MaxInflight      int           // receive maximum, each way; 100
	MaxQueued        int           // bytes queued in memory per client; 1 MiB
	MaxQueuedTotal   int64         // bytes queued in memory for all slow clients; 6 MiB
	MaxBacklog       int64         // bytes of the journal that an offline session may keep; 0 means no limit
	MaxRetained      int           // retained messages; 10,000
	MaxRetainedBytes int           // bytes of all retained messages; 4 MiB
	MaxLevels        int           // of a topic or filter; 64
	ConnectTimeout   time.Duration // until CONNECT has arrived; 10 s
	PacketTimeout    time.Duration // for each 64 KiB of a packet whose first byte has arrived; 30 s
	WriteTimeout     time.Duration // for a write to a client that does not read; 30 s
}

func (o *Options) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if o.MaxAliases < 0 {
		o.MaxAliases = 0
	} else {
		def(&o.MaxAliases, 32)
	}
	for v, d := range map[*int]int{&o.ConnectRate: 100, &o.ConnectRatePerAddr: 20} {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MaxConnections, 1000)
	def(&o.MaxSessions, 2000)
	def(&o.MaxSubscriptions, 1000)
	def(&o.MaxFilters, 5000)
	def(&o.MaxPacket, 1<<20)
	def(&o.MaxInflight, 100)
	def(&o.MaxQueued, 1<<20)
	def(&o.MaxRetained, 10_000)
	def(&o.MaxRetainedBytes, 4<<20)
	def(&o.MaxLevels, 64)
	if o.MaxQueuedTotal <= 0 {
		o.MaxQueuedTotal = 6 << 20
	}
	o.MaxInflight = min(o.MaxInflight, 65535)
	def(&o.MaxConnecting, 200)
	def(&o.MaxConnectPacket, 64<<10)
	def(&o.MaxMatching, 1000)
	def(&o.UserShare, 50)
	o.UserShare = min(o.UserShare, 100)
	if o.MaxUnfinished <= 0 {
		o.MaxUnfinished = 2 << 20
	}
	// One packet has to fit, whatever others have begun.
	o.MaxUnfinished = max(o.MaxUnfinished, 2*int64(o.MaxPacket))
	if o.MaxWills <= 0 {
		o.MaxWills = 2 << 20
	}
	switch {
	case o.MaxExpiry == 0:
		o.MaxExpiry = 30 * 24 * time.Hour
	case o.MaxExpiry < 0:
		o.MaxExpiry = 0
	}
	if o.PacketTimeout <= 0 {
		o.PacketTimeout = 30 * time.Second
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}
