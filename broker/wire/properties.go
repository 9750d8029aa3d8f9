package wire

import (
	"bytes"
	"encoding/binary"
)

// Property identifiers (MQTT 5.0 section 2.2.2.2).
const (
	propPayloadFormat       = 0x01
	propMessageExpiry       = 0x02
	propContentType         = 0x03
	propResponseTopic       = 0x08
	propCorrelationData     = 0x09
	propSubscriptionID      = 0x0B
	propSessionExpiry       = 0x11
	propAssignedClientID    = 0x12
	propServerKeepAlive     = 0x13
	propAuthMethod          = 0x15
	propAuthData            = 0x16
	propRequestProblemInfo  = 0x17
	propWillDelay           = 0x18
	propRequestResponseInfo = 0x19
	propResponseInfo        = 0x1A
	propServerReference     = 0x1C
	propReasonString        = 0x1F
	propReceiveMaximum      = 0x21
	propTopicAliasMaximum   = 0x22
	propTopicAlias          = 0x23
	propMaximumQoS          = 0x24
	propRetainAvailable     = 0x25
	propUser                = 0x26
	propMaximumPacketSize   = 0x27
	propWildcardAvailable   = 0x28
	propSubIDAvailable      = 0x29
	propSharedAvailable     = 0x2A
)

// UserProperty is a name and a value; both may repeat.
type UserProperty struct{ Name, Value string }

// Properties are those of every packet but PUBLISH. A nil pointer means that the property is absent.
type Properties struct {
	SessionExpiry       *uint32 // seconds
	ReceiveMaximum      *uint16
	MaximumPacketSize   *uint32
	TopicAliasMaximum   *uint16
	RequestResponseInfo *byte
	RequestProblemInfo  *byte
	AuthMethod          *string
	AuthData            []byte
	AssignedClientID    *string
	ServerKeepAlive     *uint16 // seconds
	ResponseInfo        *string
	ServerReference     *string
	ReasonString        *string
	MaximumQoS          *byte
	RetainAvailable     *byte
	WildcardAvailable   *byte
	SubIDAvailable      *byte
	SharedAvailable     *byte
	SubscriptionID      *uint32 // of a SUBSCRIBE
	User                []UserProperty
}

// propKind is how a property's value is encoded.
type propKind byte

const (
	propBool   propKind = 1 + iota // a byte, 0 or 1
	propUint16                     // not 0 where propNotZero says so
	propUint32
	propVarint
	propString
	propBinary
	propPair
)

// on is a set of the places where a property may stand.
type on uint32

const onWill on = 1

func onType(t ...Type) (set on) {
	for _, t := range t {
		set |= 1 << t
	}
	return set
}

// propTable has the encoding of each property and the packets that it may be in.
var propTable = [...]struct {
	kind    propKind
	notZero bool
	on      on
}{
	propPayloadFormat:       {propBool, false, onType(PUBLISH) | onWill},
	propMessageExpiry:       {propUint32, false, onType(PUBLISH) | onWill},
	propContentType:         {propString, false, onType(PUBLISH) | onWill},
	propResponseTopic:       {propString, false, onType(PUBLISH) | onWill},
	propCorrelationData:     {propBinary, false, onType(PUBLISH) | onWill},
	propSubscriptionID:      {propVarint, true, onType(PUBLISH, SUBSCRIBE)},
	propSessionExpiry:       {propUint32, false, onType(CONNECT, CONNACK, DISCONNECT)},
	propAssignedClientID:    {propString, false, onType(CONNACK)},
	propServerKeepAlive:     {propUint16, false, onType(CONNACK)},
	propAuthMethod:          {propString, false, onType(CONNECT, CONNACK, AUTH)},
	propAuthData:            {propBinary, false, onType(CONNECT, CONNACK, AUTH)},
	propRequestProblemInfo:  {propBool, false, onType(CONNECT)},
	propWillDelay:           {propUint32, false, onWill},
	propRequestResponseInfo: {propBool, false, onType(CONNECT)},
	propResponseInfo:        {propString, false, onType(CONNACK)},
	propServerReference:     {propString, false, onType(CONNACK, DISCONNECT)},
	propReasonString:        {propString, false, onType(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)},
	propReceiveMaximum:      {propUint16, true, onType(CONNECT, CONNACK)},
	propTopicAliasMaximum:   {propUint16, false, onType(CONNECT, CONNACK)},
	propTopicAlias:          {propUint16, true, onType(PUBLISH)},
	propMaximumQoS:          {propBool, false, onType(CONNACK)},
	propRetainAvailable:     {propBool, false, onType(CONNACK)},
	propUser:                {propPair, false, ^on(0)},
	propMaximumPacketSize:   {propUint32, true, onType(CONNECT, CONNACK)},
	propWildcardAvailable:   {propBool, false, onType(CONNACK)},
	propSubIDAvailable:      {propBool, false, onType(CONNACK)},
	propSharedAvailable:     {propBool, false, onType(CONNACK)},
}

// property is one property as it was read. raw is the whole of it.
type property struct {
	id     byte
	number uint32
	text   []byte // value of a string or binary; name of a pair
	value  []byte // of a pair
	raw    []byte
}

// properties reads a property list that may stand at where, calling f for each.
func (d *decoder) properties(where on, f func(property)) {
	list := decoder{b: d.take(int(d.varint())), err: d.err}
	var seen uint64
	for len(list.b) > 0 && list.err == nil {
		start := list.b
		id := list.varint()
		if id >= uint32(len(propTable)) || propTable[id].kind == 0 {
			list.fail(malformed("property 0x%02x does not exist", id))
			break
		}
		row := propTable[id]
		if row.on&where == 0 {
			list.fail(malformed("property 0x%02x does not belong into this packet", id)) // section 2.2.2.2
			break
		}
		// Only a User Property, and in a PUBLISH to a client a Subscription Identifier, may repeat.
		if seen&(1<<id) != 0 && id != propUser && (id != propSubscriptionID || where != onType(PUBLISH)) {
			list.fail(protocolError("property 0x%02x stands twice", id))
			break
		}
		seen |= 1 << id
		p := property{id: byte(id)}
		switch row.kind {
		case propBool:
			if p.number = uint32(list.byte()); p.number > 1 {
				list.fail(protocolError("property 0x%02x: got %d, want 0 or 1", id, p.number))
			}
		case propUint16:
			p.number = uint32(list.uint16())
		case propUint32:
			p.number = list.uint32()
		case propVarint:
			p.number = list.varint()
		case propString:
			p.text = list.utf8()
			if id == propResponseTopic && (len(p.text) == 0 || bytes.ContainsAny(p.text, "+#")) {
				list.fail(protocolError("response topic %q", p.text)) // [MQTT-3.3.2-14]
			}
		case propBinary:
			p.text = list.binary()
		case propPair:
			p.text, p.value = list.utf8(), list.utf8()
		}
		if row.notZero && p.number == 0 && list.err == nil {
			if id == propTopicAlias {
				list.fail(&Error{Code: TopicAliasInvalid, Text: "topic alias 0"}) // [MQTT-3.3.2-8]
			} else {
				list.fail(protocolError("property 0x%02x: 0 is not allowed", id))
			}
		}
		if list.err == nil {
			p.raw = start[:len(start)-len(list.b)]
			f(p)
		}
	}
	if list.err != nil {
		d.fail(list.err)
	}
}

// decodeProperties reads the properties of any packet but PUBLISH.
func (d *decoder) decodeProperties(t Type, p *Properties) {
	d.properties(onType(t), func(v property) {
		u16, b := uint16(v.number), byte(v.number)
		text := func() *string { s := string(v.text); return &s }
		switch v.id {
		case propSessionExpiry:
			p.SessionExpiry = &v.number
		case propReceiveMaximum:
			p.ReceiveMaximum = &u16
		case propMaximumPacketSize:
			p.MaximumPacketSize = &v.number
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = &u16
		case propRequestResponseInfo:
			p.RequestResponseInfo = &b
		case propRequestProblemInfo:
			p.RequestProblemInfo = &b
		case propAuthMethod:
			p.AuthMethod = text()
		case propAuthData:
			p.AuthData = append([]byte{}, v.text...)
		case propAssignedClientID:
			p.AssignedClientID = text()
		case propServerKeepAlive:
			p.ServerKeepAlive = &u16
		case propResponseInfo:
			p.ResponseInfo = text()
		case propServerReference:
			p.ServerReference = text()
		case propReasonString:
			p.ReasonString = text()
		case propMaximumQoS:
			p.MaximumQoS = &b
		case propRetainAvailable:
			p.RetainAvailable = &b
		case propWildcardAvailable:
			p.WildcardAvailable = &b
		case propSubIDAvailable:
			p.SubIDAvailable = &b
		case propSharedAvailable:
			p.SharedAvailable = &b
		case propSubscriptionID:
			p.SubscriptionID = &v.number
		case propUser:
			p.User = append(p.User, UserProperty{string(v.text), string(v.value)})
		}
	})
	if p.AuthData != nil && p.AuthMethod == nil {
		d.fail(protocolError("authentication data without a method")) // section 3.1.2.11.10
	}
}

// appendTo appends the list with its length. The caller sets only properties that belong into
// the packet.
func (p *Properties) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, 0) // most lists are shorter than 128 bytes
	number := func(id byte, kind propKind, v *uint32) {
		if v == nil {
			return
		}
		b = append(b, id)
		switch kind {
		case propBool:
			b = append(b, byte(*v))
		case propUint16:
			b = binary.BigEndian.AppendUint16(b, uint16(*v))
		case propUint32:
			b = binary.BigEndian.AppendUint32(b, *v)
		case propVarint:
			b = appendVarint(b, *v)
		}
	}
	text := func(id byte, s *string) {
		if s != nil {
			b = appendString(append(b, id), *s)
		}
	}
	number(propSessionExpiry, propUint32, p.SessionExpiry)
	number(propReceiveMaximum, propUint16, widen(p.ReceiveMaximum))
	number(propMaximumPacketSize, propUint32, p.MaximumPacketSize)
	number(propTopicAliasMaximum, propUint16, widen(p.TopicAliasMaximum))
	number(propRequestResponseInfo, propBool, widen(p.RequestResponseInfo))
	number(propRequestProblemInfo, propBool, widen(p.RequestProblemInfo))
	text(propAuthMethod, p.AuthMethod)
	if p.AuthData != nil {
		b = appendString(append(b, propAuthData), p.AuthData)
	}
	text(propAssignedClientID, p.AssignedClientID)
	number(propServerKeepAlive, propUint16, widen(p.ServerKeepAlive))
	text(propResponseInfo, p.ResponseInfo)
	text(propServerReference, p.ServerReference)
	text(propReasonString, p.ReasonString)
	number(propMaximumQoS, propBool, widen(p.MaximumQoS))
	number(propRetainAvailable, propBool, widen(p.RetainAvailable))
	number(propWildcardAvailable, propBool, widen(p.WildcardAvailable))
	number(propSubIDAvailable, propBool, widen(p.SubIDAvailable))
	number(propSharedAvailable, propBool, widen(p.SharedAvailable))
	number(propSubscriptionID, propVarint, p.SubscriptionID)
	for _, u := range p.User {
		b = appendString(appendString(append(b, propUser), u.Name), u.Value)
	}
	return setLength(b, start)
}

func widen[T byte | uint16](v *T) *uint32 {
	if v == nil {
		return nil
	}
	w := uint32(*v)
	return &w
}
