// Package wire encodes and decodes MQTT 3.1.1 and 5.0 control packets, for servers and for
// clients.
//
// A packet that ReadPacket returns follows every rule of the specification that depends on its bytes
// alone; any other is an *Error with the reason code to disconnect with. No
// input makes it panic, and none makes it allocate more than the packet limit.
//
// It keeps no state beyond the protocol version. The caller checks whether a packet may come now, and
// whether a topic has wildcards where none may be (broker.CheckTopic).
package wire

import "fmt"

// Version is the protocol level of a connection.
type Version byte

// The supported versions. MQTT 3.1 ("MQIsdp") is answered as 3.1.1.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Type is a control packet type (MQTT 5.0 section 2.1.2).
type Type byte

// The control packet types.
const (
	CONNECT Type = 1 + iota
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var typeNames = [...]string{"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Error is a violation of the protocol. Code is the reason code to disconnect with.
type Error struct {
	Code Code
	Text string
	Size int // of a packet that is larger than the limit, in bytes; otherwise 0
}

func (e *Error) Error() string { return fmt.Sprintf("mqtt: %s: %s", e.Code, e.Text) }

func malformed(format string, args ...any) error {
	return &Error{Code: MalformedPacket, Text: fmt.Sprintf(format, args...)}
}

func protocolError(format string, args ...any) error {
	return &Error{Code: ProtocolError, Text: fmt.Sprintf(format, args...)}
}

// Packet is one of the pointers to the packet structs of this package.
type Packet interface{ packetType() Type }

// Will is what the server publishes when the connection ends without a DISCONNECT.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Delay   uint32 // seconds
	Expires bool
	Expiry  uint32 // seconds; only if Expires
	Forward []byte // as in Publish
}

// Connect is a CONNECT packet.
type Connect struct {
	Version     Version
	Bridge      bool // the sender is a broker: bit 7 of the protocol level, which Mosquitto sets in 3.1 and 3.1.1
	CleanStart  bool // Clean Session in 3.1.1
	KeepAlive   uint16
	ClientID    string
	Will        *Will
	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte
	Properties  Properties
}

// Connack is a CONNACK packet. Code is a reason code of 5.0; it is sent to a 3.1.1 client as the
// nearest return code of that version.
type Connack struct {
	SessionPresent bool
	Code           Code
	Properties     Properties
}

// Publish is a PUBLISH packet.
type Publish struct {
	Topic   string
	Payload []byte
	ID      uint16 // only if QoS > 0
	QoS     byte
	Dup     bool
	Retain  bool

	// Forward holds the properties that a server passes on unaltered (Payload Format Indicator,
	// Response Topic, Correlation Data, Content Type, User Property), in wire encoding and order.
	Forward         []byte
	Expires         bool
	Expiry          uint32 // Message Expiry Interval in seconds; only if Expires
	TopicAlias      uint16 // 0 if there is none
	SubscriptionIDs []uint32
}

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP packet.
type Ack struct {
	Type       Type
	ID         uint16
	Code       Code
	Properties Properties
}

// Subscription is one topic filter of a SUBSCRIBE packet and its options.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send, 1 send if new, 2 do not send
}

// Subscribe is a SUBSCRIBE packet.
type Subscribe struct {
	ID            uint16
	Subscriptions []Subscription
	Properties    Properties
}

// Suback is a SUBACK or UNSUBACK packet. An UNSUBACK of 3.1.1 has no codes.
type Suback struct {
	Type       Type
	ID         uint16
	Codes      []Code
	Properties Properties
}

// Unsubscribe is an UNSUBSCRIBE packet.
type Unsubscribe struct {
	ID         uint16
	Filters    []string
	Properties Properties
}

// Ping is a PINGREQ or PINGRESP packet.
type Ping struct{ Type Type }

// Disconnect is a DISCONNECT packet.
type Disconnect struct {
	Code       Code
	Properties Properties
}

// Auth is an AUTH packet.
type Auth struct {
	Code       Code
	Properties Properties
}

func (*Connect) packetType() Type     { return CONNECT }
func (*Connack) packetType() Type     { return CONNACK }
func (*Publish) packetType() Type     { return PUBLISH }
func (p *Ack) packetType() Type       { return p.Type }
func (*Subscribe) packetType() Type   { return SUBSCRIBE }
func (p *Suback) packetType() Type    { return p.Type }
func (*Unsubscribe) packetType() Type { return UNSUBSCRIBE }
func (p *Ping) packetType() Type      { return p.Type }
func (*Disconnect) packetType() Type  { return DISCONNECT }
func (*Auth) packetType() Type        { return AUTH }
