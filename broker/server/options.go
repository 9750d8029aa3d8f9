package server

import (
	"log/slog"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/journal"
)

// Defaults of the limits in Options, where 0 means them. They fit 512 MB of memory; README.md says what each may cost. The
// configuration prints them.
const (
	DefaultAliases            = 32
	DefaultConnectRate        = 100 // per second
	DefaultConnectRatePerAddr = 20  // per second

	DefaultConnections   = 1000
	DefaultSessions      = 2000
	DefaultSubscriptions = 1000
	DefaultFilters       = 5000
	DefaultPacket        = 1 << 20
	DefaultConnecting    = 200
	DefaultConnectPacket = 64 << 10
	DefaultUnfinished    = 2 << 20
	DefaultMatching      = 1000
	DefaultWills         = 2 << 20
	DefaultExpiry        = 30 * 24 * time.Hour
	DefaultUserShare     = 50 // percent
	DefaultInflight      = 100
	DefaultQueued        = 1 << 20
	DefaultQueuedTotal   = 6 << 20
	DefaultRetained      = 10_000
	DefaultRetainedBytes = 4 << 20
	DefaultLevels        = 64

	DefaultConnectTimeout = 10 * time.Second
	DefaultPacketTimeout  = 30 * time.Second
	DefaultWriteTimeout   = 30 * time.Second
)

// Options configure a Server. A limit that is 0 means its default.
type Options struct {
	Listeners []Listener
	Journal   *journal.Journal // not closed by the server
	Anonymous bool             // whether clients without a user and a certificate may come in
	Auth      *auth.Auth       // users and their rights; nil has no users and forbids nothing
	Log       *slog.Logger     // nil discards

	ServerKeepAlive time.Duration // longest keep alive of a 5.0 client, sent in CONNACK; whole seconds, 0 means no limit
	MaxAliases      int           // topic aliases that the server sets towards a client that accepts them; -1 means none
	ResponseInfo    string        // Response Information for 5.0 clients that ask; %c is the client identifier
	SysInterval     time.Duration // between updates of $SYS; 0 means no $SYS
	Version         string        // of $SYS/broker/version

	ConnectRate        int // new connections per second, those from this machine not counted; -1 means no limit
	ConnectRatePerAddr int // the same from one address; -1 means no limit

	MaxConnections   int
	MaxSessions      int           // connected or not
	MaxSubscriptions int           // of one session
	MaxFilters       int           // subscriptions of all sessions
	MaxPacket        int           // bytes
	MaxConnecting    int           // connections that have not sent CONNECT
	MaxConnectPacket int           // bytes of a CONNECT; MaxPacket, if that is less
	MaxUnfinished    int64         // bytes of packets that have arrived in part, of all connections
	MaxMatching      int           // steps through the index of subscriptions that a publish may take
	MaxWills         int64         // bytes of the wills of all clients, connected or not, each twice
	MaxExpiry        time.Duration // of a session without a connection, also one of 3.1.1; -1 means no limit
	UserShare        int           // percent of what all clients share that one user may have
	MaxInflight      int           // receive maximum, each way
	MaxQueued        int           // bytes queued in memory per client
	MaxQueuedTotal   int64         // bytes queued in memory for all slow clients
	MaxBacklog       int64         // bytes of the journal that an offline session may keep; 0 means no limit
	MaxRetained      int           // retained messages
	MaxRetainedBytes int           // bytes of all retained messages
	MaxLevels        int           // of a topic or filter
	ConnectTimeout   time.Duration // until CONNECT has arrived
	PacketTimeout    time.Duration // for each 64 KiB of a packet whose first byte has arrived
	WriteTimeout     time.Duration // for a write to a client that does not read
}

// def sets a field that has no value to its default.
func def[T int | int64 | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// orNone is def for a field where less than 0 means none.
func orNone[T int | time.Duration](v *T, value, none T) {
	switch {
	case *v == 0:
		*v = value
	case *v < 0:
		*v = none
	}
}

func (o *Options) setDefaults() {
	orNone(&o.MaxAliases, DefaultAliases, 0)
	orNone(&o.ConnectRate, DefaultConnectRate, -1)
	orNone(&o.ConnectRatePerAddr, DefaultConnectRatePerAddr, -1)
	orNone(&o.MaxExpiry, DefaultExpiry, 0)
	def(&o.MaxConnections, DefaultConnections)
	def(&o.MaxSessions, DefaultSessions)
	def(&o.MaxSubscriptions, DefaultSubscriptions)
	def(&o.MaxFilters, DefaultFilters)
	def(&o.MaxPacket, DefaultPacket)
	def(&o.MaxConnecting, DefaultConnecting)
	def(&o.MaxConnectPacket, DefaultConnectPacket)
	def(&o.MaxUnfinished, DefaultUnfinished)
	def(&o.MaxMatching, DefaultMatching)
	def(&o.MaxWills, DefaultWills)
	def(&o.UserShare, DefaultUserShare)
	def(&o.MaxInflight, DefaultInflight)
	def(&o.MaxQueued, DefaultQueued)
	def(&o.MaxQueuedTotal, DefaultQueuedTotal)
	def(&o.MaxRetained, DefaultRetained)
	def(&o.MaxRetainedBytes, DefaultRetainedBytes)
	def(&o.MaxLevels, DefaultLevels)
	def(&o.ConnectTimeout, DefaultConnectTimeout)
	def(&o.PacketTimeout, DefaultPacketTimeout)
	def(&o.WriteTimeout, DefaultWriteTimeout)
	o.MaxInflight = min(o.MaxInflight, 65535)
	o.UserShare = min(o.UserShare, 100)
	// One packet has to fit, whatever others have begun.
	o.MaxUnfinished = max(o.MaxUnfinished, 2*int64(o.MaxPacket))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}
