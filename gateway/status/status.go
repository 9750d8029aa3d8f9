// Package status defines the gateway's status, one value that every view shows: the table and the
// JSON of `holdfast status`, the live screen, the metrics and the dashboard.
//
// A Status is a picture of one moment. Totals count from the start of the process, unless their
// description says otherwise, and never fall. It holds no secrets: no passwords, and no payloads but
// readings. Taking one costs no more than looking does: nothing is collected without a request.
package status

import (
	"strings"
	"time"

	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// Status is how a gateway is doing. The names of its JSON fields are a contract with scripts: they are
// added to, not changed.
type Status struct {
	Time     time.Time `json:"time"`
	Device   string    `json:"device"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	State    State     `json:"state"`
	Problems []string  `json:"problems"` // what is wrong at the moment, in words

	Sensors []Sensor `json:"sensors"` // as configured, in that order, like outputs and bridges
	Outputs []Output `json:"outputs"`
	Clients Clients  `json:"clients"`
	Bridges []Bridge `json:"bridges"`
	Journal Journal  `json:"journal"`
	// Listeners are the places where clients and browsers connect, as configured; the control socket is among
	// them only while it is not open.
	Listeners []Listener `json:"listeners"`
	Config    Config     `json:"config"`
	Clock     Clock      `json:"clock"`
	Power     *Power     `json:"power,omitempty"` // absent where the machine does not tell
	Process   Process    `json:"process"`
	// Dashboard counts what the dashboard refused at its limits.
	Dashboard DashboardRefused `json:"dashboard_refused"`
}

// DashboardRefused are connections that the dashboard closed, and pages that it turned away.
type DashboardRefused struct {
	Connections uint64 `json:"connections"` // there were as many as may be
	Address     uint64 `json:"address"`     // one address had as many as it may
	Pages       uint64 `json:"pages"`       // as many as may were looking
}

// State is what the gateway as a whole is at.
type State string

// The states. Degraded is running with problems: something needs attention.
const (
	Starting State = "starting"
	Running  State = "running"
	Degraded State = "degraded"
	Stopping State = "stopping"
)

// Waiting is the state of a sensor that was not read yet, and of an output of which nothing is known yet.
const Waiting = "waiting"

// Health is whether hardware answers.
type Health struct {
	State    string    `json:"state"` // ok, failing, absent or Waiting
	Class    string    `json:"class,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	LastGood time.Time `json:"last_good,omitzero"`
}

// Sensor is one configured sensor.
type Sensor struct {
	Name   string        `json:"name"`
	Driver string        `json:"driver"`
	Bus    string        `json:"bus,omitempty"`
	Every  time.Duration `json:"every_ns"`
	Health
	Taken    uint64    `json:"taken"`    // readings that succeeded
	Failures uint64    `json:"failures"` // readings that failed
	Missed   uint64    `json:"missed"`   // readings that were not tried: the one before, or others on the bus, took too long
	LeftOut  uint64    `json:"left_out"` // readings that came faster than the sensor's limit
	Behind   bool      `json:"behind"`   // it misses a tenth of its readings or more
	Readings []Reading `json:"readings"` // the last of each quantity, as published
}

// Reading is a value that was published.
type Reading struct {
	Quantity string    `json:"quantity"`
	Value    float64   `json:"value"`
	Unit     string    `json:"unit"`
	Time     time.Time `json:"time"`
	Seq      uint64    `json:"seq"`
}

// Output is one configured output.
type Output struct {
	Name   string `json:"name"`
	Driver string `json:"driver"`
	Bus    string `json:"bus,omitempty"`
	Health
	Value *float64  `json:"value"` // null if it is not known where the output is
	Set   time.Time `json:"set,omitzero"`
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	Safe  float64   `json:"safe"`
	Link  *Link     `json:"link,omitempty"` // the bridge whose loss makes it safe
}

// Link is the bridge that an output depends on.
type Link struct {
	Bridge    string `json:"bridge"`
	Connected bool   `json:"connected"`
}

// Clients are those of the local broker.
type Clients struct {
	Connections   int    `json:"connections"` // sockets, logged in or not
	Connected     int    `json:"connected"`
	Sessions      int    `json:"sessions"` // connected or not
	Subscriptions int    `json:"subscriptions"`
	Retained      int    `json:"retained"`
	Received      uint64 `json:"received"` // publishes
	Sent          uint64 `json:"sent"`
	Dropped       Drops  `json:"dropped"`
	LoginsRefused uint64 `json:"logins_refused"`
	RateLimited   uint64 `json:"rate_limited"`  // connections
	Revoked       uint64 `json:"revoked"`       // connections that a revoked certificate ended
	RefusedHosts  uint64 `json:"refused_hosts"` // WebSocket requests whose Host or Origin may not connect
	Oversized     uint64 `json:"oversized"`     // connections closed at a packet larger than broker.limits.packet

	Limits map[string]uint64 `json:"limits"` // refusals and drops at each of broker.limits, by its name
	// Failures that clients were answered, by the packet of the answer, such as SUBACK, and its reason.
	Refusals map[string]map[string]uint64 `json:"refusals"`

	List []Client `json:"list"` // at most MaxClients, those connected first
}

// MaxClients is how many clients a Status names.
const MaxClients = 50

// Drops are server.Drops.
type Drops = server.Drops

// Listener is a place where clients or browsers connect.
type Listener struct {
	URL   string    `json:"url"`
	Open  bool      `json:"open"`
	Since time.Time `json:"since,omitzero"`  // that it is open, or not
	Error string    `json:"error,omitempty"` // why it is not open: it is tried again
	// Warning is what is wrong with one that is open: a CRL that should have been replaced.
	Warning string `json:"warning,omitempty"`
}

// Client is one session.
type Client struct {
	ID            string    `json:"id"`
	Remote        string    `json:"remote,omitempty"`
	Protocol      string    `json:"protocol,omitempty"` // "3.1.1" or "5"
	Connected     bool      `json:"connected"`
	Since         time.Time `json:"since,omitzero"` // of the connection
	Subscriptions int       `json:"subscriptions"`
	Depth         uint64    `json:"depth"` // messages in the journal for it
}

// Bridge is one connection to an upstream.
type Bridge struct {
	Name         string    `json:"name"`
	ClientID     string    `json:"client_id,omitempty"` // in use at the upstream
	Connected    bool      `json:"connected"`
	Since        time.Time `json:"since,omitzero"` // of the connection, or of its loss
	Upstream     string    `json:"upstream"`       // connected to, or tried last
	Protocol     string    `json:"protocol"`
	Depth        uint64    `json:"depth"`           // messages in the journal for it
	Oldest       time.Time `json:"oldest,omitzero"` // when the oldest of them was taken in
	InFlight     int       `json:"in_flight"`
	Sent         uint64    `json:"sent"` // resends included
	Acknowledged uint64    `json:"acknowledged"`
	Resent       uint64    `json:"resent"`
	Refused      uint64    `json:"refused"`
	Expired      uint64    `json:"expired"`
	QoS0Sent     uint64    `json:"qos0_sent"`
	QoS0Dropped  uint64    `json:"qos0_dropped"`
	Received     uint64    `json:"received"`   // from the upstream
	Duplicates   uint64    `json:"duplicates"` // of them, that had been received before
	Looped       uint64    `json:"looped"`     // that had been here before
	Reconnects   uint64    `json:"reconnects"`
	LastError    string    `json:"last_error,omitempty"`
	Problems     []string  `json:"problems,omitempty"` // that a person has to put right, although there may be a connection; `holdfast doctor` shows them too

	// Unmatched are rules that have matched nothing since the bridge was made, ten minutes ago or more.
	Unmatched []UnmatchedRule `json:"unmatched_rules,omitempty"`

	Certificates []Certificate `json:"certificates,omitempty"` // that were used last
}

// UnmatchedRule is one that carries nothing, for its filter or because another rule comes first.
type UnmatchedRule struct {
	Direction string    `json:"direction"` // "out" or "in"
	Filter    string    `json:"filter"`
	Since     time.Time `json:"since"`
}

// Certificate is one of a connection over TLS.
type Certificate struct {
	What    string    `json:"what"` // whose it is
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"` // it, or the first of its chain
}

// Journal is the durable log.
type Journal struct {
	Depth    uint64        `json:"depth"`           // messages queued for the slowest reader
	Oldest   time.Time     `json:"oldest,omitzero"` // when the oldest message was taken in that is queued for a reader
	Bytes    int64         `json:"bytes"`           // on disk
	Segments int           `json:"segments"`
	MaxSize  int64         `json:"max_size"`
	Free     int64         `json:"free"` // of the file system; -1 if it does not tell
	KeepFree int64         `json:"keep_free"`
	Capacity int64         `json:"capacity"`          // of the file system; 0 if it does not tell
	Full     bool          `json:"full"`              // new messages are refused
	Failed   bool          `json:"failed"`            // the storage refuses writes
	Broken   string        `json:"broken,omitempty"`  // why it could not be opened: nothing is kept
	Foreign  string        `json:"foreign,omitempty"` // the other device that wrote the data directory before this start
	Messages uint64        `json:"messages"`
	Commits  uint64        `json:"commits"`
	Syncs    uint64        `json:"syncs"`
	Written  uint64        `json:"written"` // bytes
	Refused  uint64        `json:"refused"`
	Failures uint64        `json:"failures"`            // writes and syncs
	Damaged  uint64        `json:"damaged"`             // bytes
	Losses   []Loss        `json:"losses"`              // of the journal's whole life, as far as it remembers
	PerDay   uint64        `json:"flash_bytes_per_day"` // over the journal's life; 0 if it is too young to tell
	Lifetime time.Duration `json:"flash_lifetime_ns"`   // of a card of Capacity at that rate; 0 if unknown
	Readers  []Reader      `json:"readers"`             // those with a backlog, the largest first; at most MaxReaders
}

// Loss sums up messages that were dropped.
type Loss struct {
	Reader string    `json:"reader"` // empty for damage whose readers are not known
	Reason string    `json:"reason"`
	Count  uint64    `json:"count"`
	Last   time.Time `json:"last"`
}

// MaxReaders is how many readers a Status names.
const MaxReaders = 50

// Reader is a consumer that the journal keeps messages for.
type Reader struct {
	Name  string `json:"name"`
	Depth uint64 `json:"depth"`
}

// Config is where the configuration is from.
type Config struct {
	Files []string `json:"files"`
	Last  *Change  `json:"last_change,omitempty"` // absent if there was none since the start
	Trial *Trial   `json:"trial,omitempty"`       // the last one; absent if there was none
}

// Trial is a configuration that is or was on trial.
type Trial struct {
	File    string    `json:"file"`
	Begun   time.Time `json:"begun"`
	Ends    time.Time `json:"ends,omitzero"`     // when it is rolled back
	Missing []string  `json:"missing,omitempty"` // what does not work yet, in words
	Outcome Outcome   `json:"outcome,omitempty"` // empty while it is on trial
	Reason  string    `json:"reason,omitempty"`  // for the outcome
	// Unwritten is true if the file still holds what was rolled back, because the gateway may not write there.
	Unwritten bool `json:"unwritten,omitempty"`
}

// Outcome is the end of a configuration's trial.
type Outcome string

// The outcomes.
const (
	Confirmed  Outcome = "confirmed"
	RolledBack Outcome = "rolled back"
)

// Change is an attempt to apply another configuration.
type Change struct {
	Time    time.Time `json:"time"`
	By      ChangedBy `json:"by"`
	Changes []string  `json:"changes"`         // what is different, in words
	Error   string    `json:"error,omitempty"` // why nothing was changed
}

// ChangedBy is the cause of a change.
type ChangedBy string

// The causes of changes.
const (
	BySignal   ChangedBy = "signal"
	ByCommand  ChangedBy = "command"
	ByWatch    ChangedBy = "file watch"
	ByApply    ChangedBy = "apply"
	ByRollback ChangedBy = "roll-back"
)

// Clock is the machine's.
type Clock struct {
	Synchronised bool          `json:"synchronised"`
	Offset       time.Duration `json:"offset_ns"`    // that the kernel still corrects; 0 if not synchronised
	MaxError     time.Duration `json:"max_error_ns"` // as the kernel estimates it
}

// Power is what a Pi's firmware says of its supply and heat.
type Power struct {
	UnderVoltage      bool `json:"under_voltage"`
	UnderVoltageSince bool `json:"under_voltage_since_start"` // of the machine
	Throttled         bool `json:"throttled"`
	ThrottledSince    bool `json:"throttled_since_start"`
}

// Process is the gateway's own.
type Process struct {
	PID         int           `json:"pid"`
	RSS         int64         `json:"rss"` // bytes
	CPU         time.Duration `json:"cpu_ns"`
	Goroutines  int           `json:"goroutines"`
	Descriptors int           `json:"descriptors"`
}

// NewListener returns how a listener is doing: open since a time, or not, for the reason err.
func NewListener(url string, err error, since time.Time) Listener {
	l := Listener{URL: url, Open: err == nil, Since: since}
	if err != nil {
		l.Error = strings.ReplaceAll(err.Error(), "\n", ": ")
	}
	return l
}

// Protocol returns the name of a version of MQTT; empty if there is none.
func Protocol(v wire.Version) string {
	switch v {
	case wire.V5:
		return "5"
	case wire.V311:
		return "3.1.1"
	}
	return ""
}
