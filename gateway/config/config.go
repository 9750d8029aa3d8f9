// Package config reads a gateway's YAML configuration.
//
// Load returns a configuration that is complete and possible, or every mistake in it: misspelt and
// repeated keys, values of the wrong type or unit, repeated names, references to nothing, and values
// that contradict each other, each with file, line, key and what to write instead. What Load returns
// has its defaults filled in and needs no further checks. Text that came from the environment or
// from another file, and passwords, never appear in an error or when the configuration is printed.
//
// It does not touch hardware or the network: whether a bus, a chip or an upstream exists is found
// out when the gateway uses it. It does not watch files, and it does not write them.
package config

import (
	"io/fs"
	"os"
	"time"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/outbox"
	"holdfast/broker/sinks"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// Config is a complete gateway configuration. The zero value is not a valid one: Load fills in the
// defaults, which the rows of the keys have, and README.md from them. It belongs to the caller and shares nothing with other results of Load.
type Config struct {
	Device  Device
	DataDir string // where everything durable lives
	Broker  Broker
	Control string // path of the control socket; empty for its default place
	Watch   bool   // whether files that change are noticed
	Journal Journal
	Bridges []Bridge         // in the order in which the files first name them; may be empty
	Sensors []sensors.Config // likewise; Options is typed, checked and has its defaults
	Outputs []outputs.Config // likewise
	Web     Web
	// Retained names the sensors whose readings are published as retained messages; nil for none.
	Retained map[string]bool

	warnings Errors
}

// Device identifies this gateway.
type Device struct {
	ID string // one MQTT topic level of at most 64 bytes; default the host name
}

// Broker configures the embedded broker.
type Broker struct {
	// Listeners is empty only if the configuration says so ("listeners: []"): then the gateway
	// serves no clients. The default is mqtt://127.0.0.1:1883.
	Listeners []Listener
	Limits    Limits

	ServerKeepAlive     time.Duration // longest keep alive of 5.0 clients, in whole seconds; 0 leaves it to them
	TopicAliases        int           // towards a client
	SysInterval         time.Duration // between updates of $SYS; 0 for none
	ResponseInformation string        // told to 5.0 clients that ask; %c is the client identifier

	// Once there is a user or a rule, what no rule allows is forbidden.
	Users        []User
	PasswordFile string // further users; empty for none
	Groups       []auth.Group
	ACL          []auth.Rule
	ACLFile      string // further rules; empty for none
}

// Listener is a place where clients connect.
type Listener struct {
	Endpoint
	Scheme string // "mqtt", "mqtts", "ws", "wss" or "unix"
	Path   string // of ws and wss: the only one that is served; empty serves any

	// Of mqtts and wss. Paths are relative to the working directory, as the program's own are.
	Cert, Key, CA            string
	CRL                      string // never without CA
	RequireClientCertificate bool   // never without CA

	Hosts   []string    // of ws and wss: further names that clients may reach it by
	Origins []string    // of ws and wss: the web pages that may connect, beside those of the same host
	Mode    fs.FileMode // of unix
	// Anonymous lets clients in without a name and password. The default is broker.anonymous, and
	// without that, whether only this device can connect.
	Anonymous bool
}

// TLS reports whether connections are encrypted.
func (l Listener) TLS() bool { return l.Scheme == "mqtts" || l.Scheme == "wss" }

// WebSocket reports whether MQTT is in WebSocket messages.
func (l Listener) WebSocket() bool { return l.Scheme == "ws" || l.Scheme == "wss" }

// Endpoint is a place to listen on or to connect to, with the port filled in.
type Endpoint struct {
	Network string // for package net: "tcp", or "unix" for a listener
	Address string // for package net: "host:port", or a path; a listener's host may be empty, its port 0
	URL     string // as messages name it: "mqtt://host:port"
}

// WhenFull is what the journal does with a new message when it is at a limit.
type WhenFull string

// The policies for a full journal.
const (
	DropOldest WhenFull = "drop-oldest" // make space by dropping the oldest records, counted and reported
	RefuseNew  WhenFull = "refuse-new"  // keep the queued messages and refuse new ones
)

// Journal bounds the durable log.
type Journal struct {
	MaxSize     int64         // bytes on disk, at least 32 MiB
	KeepFree    int64         // bytes left free on the file system; 0 leaves none
	MaxAge      time.Duration // older records are dropped; 0 means no limit
	WhenFull    WhenFull
	DeadLetters int64         // bytes of messages that upstreams refused for good; 0 keeps none
	CommitEvery time.Duration // how long the gateway's own readings may wait for a shared commit; 0 means no wait
}

// Bridge is one connection to one upstream broker, which may have several addresses.
type Bridge struct {
	Name     string     // unique; one MQTT topic level of at most 64 bytes
	Upstream []Endpoint // at least one, in order of preference
	ClientID string     // unique on each upstream address; default the device id
	// NewClientID is the identifier of a device that has none in use yet; empty if client_id or device.id is given.
	NewClientID string
	Protocol    Protocol
	MaxPacket   int64         // bytes; 0 means what the upstream says
	Username    string        // empty connects without
	Password    Secret        // never set without Username [MQTT-3.1.2-22]
	Window      int           // messages in flight, 1 to 65535
	KeepAlive   time.Duration // whole seconds, 1 s to 65535 s
	Out         []Rule        // in the order of the file; at least one, or one of In
	In          []Rule        // likewise
	Priority    byte          // 0 to 3: messages of higher ones are dropped later at a limit of space
	// FailBack is how long the first upstream has to be reachable before the bridge returns to it; at least 1 s.
	FailBack time.Duration
	// SessionExpiry is how long the upstream keeps the session for In; at least 1 s.
	SessionExpiry time.Duration

	Was string // former name, whose backlog is taken over; default empty
	Reach

	Drain      Drain
	DrainShare int // most percent of the window and of Rate for the backlog with DrainLiveFirst, 1 to 99
	Rate       Rate
	Losses     string // topic upstream on which losses are announced; empty for none; default holdfast/<device>/losses
	Status     string // topic upstream with whether the gateway is there; empty for none; default that of status/<device>, by Out
}

// Drain is the order of sending when a connection comes back.
type Drain string

// The orders.
const (
	DrainFIFO      Drain = "fifo"       // everything in the order in which it came
	DrainLiveFirst Drain = "live-first" // what is new at once, what has waited beside it
)

// Rate is the most that is sent upstream per second; 0 means no limit.
type Rate struct {
	Messages int
	Bytes    int64
}

// Protocol is the MQTT version of a bridge.
type Protocol string

// What Protocol may be.
const (
	Auto Protocol = "auto" // 5, or 3.1.1 with an upstream that does not know 5
	V311 Protocol = "3.1.1"
	V5   Protocol = "5"
)

// Rule carries what matches Filter to the other side, under its topic with Strip removed from the front,
// if it starts with it, and Prefix put in its place.
type Rule struct {
	Filter string // MQTT topic filter, not a shared subscription
	QoS    byte   // 0 or 1
	Strip  string
	Prefix string
	// Priority, of Out, 0 to 3: messages of a higher one are sent first and, at a limit of space, dropped last. The
	// default is the bridge's.
	Priority int
	Retained Retained // of Out
}

// Retained is what to do with messages that are already retained when a rule is added.
type Retained string

const (
	SendRetained Retained = "send" // they go upstream, once
	SkipRetained Retained = "skip"
)

// Rules returns what a bridge has to know of rules, in their order.
func Rules(list []Rule) (rules broker.Rules) {
	for _, r := range list {
		rules = append(rules, broker.Rule{Filter: r.Filter, QoS: r.QoS, Strip: r.Strip, Prefix: r.Prefix})
	}
	return rules
}

// Options are Load's dependencies. The zero value knows no driver.
type Options struct {
	Drivers   []sensors.Driver                              // the driver table, not changed
	Outputs   []outputs.Driver                              // that of the outputs, not changed
	Sinks     []outbox.SinkKind                             // that of what bridges deliver to beside MQTT brokers; nil means sinks.All
	Hostname  func() (string, error)                        // default for device.id; nil means os.Hostname
	MachineID func() (string, error)                        // 32 hexadecimal digits, for client_id; nil means /etc/machine-id
	Getenv    func(name string) (string, bool)              // for ${env:NAME}; nil means os.LookupEnv
	ReadFile  func(name string, most int64) ([]byte, error) // nil means ReadFile
}

// Load reads files in order, each over the result of those before it; without files it returns the
// defaults. The error, if any, is an Errors and the configuration is nil.
func Load(files []string, opts Options) (*Config, error) {
	l := newLoader(opts.complete())
	l.load(files)
	l.finish()
	if len(l.errs) > 0 {
		return nil, l.errs.sorted(files)
	}
	l.finishWarnings(files)
	return l.config, nil
}

// Where returns control and data_dir, as far as they are readable, also from files with mistakes elsewhere: so
// commands find a gateway that still runs although its files were spoilt.
func Where(files []string, opts Options) (control, dataDir string) {
	l := newLoader(opts.complete())
	l.load(files)
	return l.config.Control, l.config.DataDir
}

func (o Options) complete() Options {
	if o.Sinks == nil {
		o.Sinks = sinks.All()
	}
	if o.Hostname == nil {
		o.Hostname = os.Hostname
	}
	if o.MachineID == nil {
		o.MachineID = readMachineID
	}
	if o.Getenv == nil {
		o.Getenv = os.LookupEnv
	}
	if o.ReadFile == nil {
		o.ReadFile = ReadFile
	}
	return o
}

// load reads the files, without the checks on all of them together.
func (l *loader) load(files []string) {
	var roots []field
	for _, name := range files {
		root, err := l.parse(name)
		if err != nil {
			l.errs = append(l.errs, *err)
			continue
		}
		roots = append(roots, root)
	}
	// Every other value may refer to the device's name, so all files settle it first.
	for _, root := range roots {
		l.device(root)
	}
	l.defaultDevice()
	for _, root := range roots {
		l.mapping(root, l.root)
	}
}
