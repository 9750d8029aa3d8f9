package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// decoder decodes a packet. After the first mistake, which err keeps, it returns only zero
// values.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail(malformed("packet ends early"))
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// varint reads a variable byte integer in its shortest form [MQTT-1.5.5-1].
func (d *decoder) varint() (v uint32) {
	for shift := 0; shift < 28; shift += 7 {
		b := d.byte()
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			if b == 0 && shift > 0 {
				d.fail(malformed("variable byte integer is longer than it needs to be"))
			}
			return v
		}
	}
	d.fail(malformed("variable byte integer of more than 4 bytes"))
	return 0
}

func (d *decoder) binary() []byte { return d.take(int(d.uint16())) }

// utf8 reads a UTF-8 string, which holds neither surrogates [MQTT-1.5.4-1] nor U+0000 [MQTT-1.5.4-2].
func (d *decoder) utf8() []byte {
	v := d.binary()
	if !utf8.Valid(v) {
		d.fail(malformed("string is not UTF-8"))
	} else if bytes.IndexByte(v, 0) >= 0 {
		d.fail(malformed("string holds U+0000"))
	}
	return v
}

// id reads a packet identifier, which is not zero [MQTT-2.2.1-3].
func (d *decoder) id() uint16 {
	v := d.uint16()
	if v == 0 && d.err == nil {
		d.fail(protocolError("packet identifier 0"))
	}
	return v
}

// code reads a reason code that the packet allows.
func (d *decoder) code(allowed ...Code) Code {
	c := Code(d.byte())
	if d.err == nil && bytes.IndexByte(codeBytes(allowed), byte(c)) < 0 {
		d.fail(protocolError("reason code 0x%02x does not belong into this packet", byte(c)))
	}
	return c
}

func codeBytes(codes []Code) []byte {
	b := make([]byte, len(codes))
	for i, c := range codes {
		b[i] = byte(c)
	}
	return b
}

// checkFlags checks the lower half of the first byte [MQTT-2.1.3-1].
func checkFlags(t Type, flags byte) error {
	want := byte(0)
	if t == PUBREL || t == SUBSCRIBE || t == UNSUBSCRIBE {
		want = 2
	}
	if t != PUBLISH && flags != want {
		return malformed("%s: flags: got 0x%x, want 0x%x", t, flags, want)
	}
	return nil
}

// decode decodes the body of a packet. topics makes strings of topics. The result owns body.
func decode(version Version, first byte, body []byte, topics func([]byte) string) (Packet, error) {
	t, flags := Type(first>>4), first&0x0f
	if err := checkFlags(t, flags); err != nil {
		return nil, err
	}
	d := &decoder{b: body}
	var p Packet
	switch t {
	case CONNECT:
		p = d.connect()
	case CONNACK:
		p = d.connack(version)
	case PUBLISH:
		pub := &Publish{}
		d.publish(version, flags, topics, pub)
		p = pub
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p = d.ack(version, t)
	case SUBSCRIBE:
		p = d.subscribe(version)
	case SUBACK, UNSUBACK:
		p = d.suback(version, t)
	case UNSUBSCRIBE:
		p = d.unsubscribe(version)
	case PINGREQ, PINGRESP:
		p = &Ping{t}
	case DISCONNECT:
		p = d.disconnect(version)
	case AUTH:
		p = d.auth(version)
	default:
		return nil, malformed("packet type %d is reserved", t)
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail(malformed("%s: %d bytes left over", t, len(d.b)))
	}
	if d.err != nil {
		return nil, d.err
	}
	return p, nil
}

// bridgeBit of the protocol level marks the bridge of another broker. It is in no specification, but Mosquitto
// and its imitators set it.
const bridgeBit Version = 0x80

func (d *decoder) connect() *Connect {
	c := &Connect{}
	name := string(d.utf8())
	level := Version(d.byte())
	if bridge := level &^ bridgeBit; level != bridge && (bridge == V31 || bridge == V311) {
		level, c.Bridge = bridge, true
	}
	switch {
	case d.err != nil:
		return nil
	case name == "MQTT" && (level == V311 || level == V5), name == "MQIsdp" && level == V31:
		c.Version = level
	default: // [MQTT-3.1.2-1, MQTT-3.1.2-2]
		d.fail(&Error{Code: UnsupportedVersion, Text: "protocol is none of MQTT 3.1, 3.1.1 and 5"})
		return nil
	}
	flags := d.byte()
	if flags&1 != 0 {
		d.fail(malformed("reserved CONNECT flag is set")) // [MQTT-3.1.2-3]
	}
	c.CleanStart = flags&0x02 != 0
	hasWill, qos, retain := flags&0x04 != 0, flags>>3&3, flags&0x20 != 0
	if qos == 3 || !hasWill && (qos != 0 || retain) {
		d.fail(malformed("will flags 0x%02x contradict each other", flags)) // [MQTT-3.1.2-11 to 15]
	}
	c.HasUsername, c.HasPassword = flags&0x80 != 0, flags&0x40 != 0
	if c.HasPassword && !c.HasUsername && c.Version != V5 {
		d.fail(malformed("password without user name")) // 3.1.1 [MQTT-3.1.2-22]
	}
	c.KeepAlive = d.uint16()
	if c.Version == V5 {
		d.decodeProperties(CONNECT, &c.Properties)
	}
	c.ClientID = string(d.utf8())
	if hasWill {
		w := &Will{QoS: qos, Retain: retain}
		if c.Version == V5 {
			d.properties(onWill, func(p property) {
				switch p.id {
				case propWillDelay:
					w.Delay = p.number
				case propMessageExpiry:
					w.Expires, w.Expiry = true, p.number
				default:
					w.Forward = append(w.Forward, p.raw...)
				}
			})
		}
		w.Topic = string(d.utf8())
		w.Payload = d.binary()
		c.Will = w
	}
	if c.HasUsername {
		c.Username = string(d.utf8())
	}
	if c.HasPassword {
		c.Password = d.binary()
	}
	return c
}

func (d *decoder) connack(version Version) *Connack {
	flags, code := d.byte(), d.byte()
	if flags > 1 {
		d.fail(malformed("CONNACK flags 0x%02x", flags)) // [MQTT-3.2.2-1]
	}
	c := &Connack{SessionPresent: flags == 1, Code: Code(code)}
	if version == V5 {
		d.decodeProperties(CONNACK, &c.Properties)
		return c
	}
	var ok bool
	if c.Code, ok = fromReturnCode(code); !ok {
		d.fail(malformed("CONNACK return code %d", code))
	}
	return c
}

func (d *decoder) publish(version Version, flags byte, topics func([]byte) string, p *Publish) {
	p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
	if p.QoS == 3 {
		d.fail(malformed("PUBLISH with QoS 3")) // [MQTT-3.3.1-4]
	}
	if p.Dup && p.QoS == 0 {
		d.fail(malformed("DUP in a PUBLISH with QoS 0")) // [MQTT-3.3.1-2]
	}
	p.Topic = topics(d.utf8())
	if p.QoS > 0 {
		p.ID = d.id()
	}
	if version == V5 {
		d.publishProperties(p)
	}
	if p.Topic == "" && p.TopicAlias == 0 {
		d.fail(protocolError("PUBLISH with neither topic nor alias"))
	}
	p.Payload = d.b
	d.b = nil
}

func (d *decoder) publishProperties(p *Publish) {
	if len(d.b) > 0 && d.b[0] == 0 { // the common case, without a closure
		d.b = d.b[1:]
		return
	}
	d.properties(onType(PUBLISH), func(v property) {
		switch v.id {
		case propMessageExpiry:
			p.Expires, p.Expiry = true, v.number
		case propTopicAlias:
			p.TopicAlias = uint16(v.number)
		case propSubscriptionID:
			p.SubscriptionIDs = append(p.SubscriptionIDs, v.number)
		default:
			p.Forward = append(p.Forward, v.raw...)
		}
	})
}

var ackCodes = map[Type][]Code{
	PUBACK: {Success, NoMatchingSubscribers, Unspecified, ImplementationSpecific, NotAuthorized, TopicNameInvalid,
		PacketIDInUse, QuotaExceeded, PayloadFormatInvalid},
	PUBREC: {Success, NoMatchingSubscribers, Unspecified, ImplementationSpecific, NotAuthorized, TopicNameInvalid,
		PacketIDInUse, QuotaExceeded, PayloadFormatInvalid},
	PUBREL:  {Success, PacketIDNotFound},
	PUBCOMP: {Success, PacketIDNotFound},
}

func (d *decoder) ack(version Version, t Type) *Ack {
	a := &Ack{Type: t, ID: d.id()}
	if version == V5 && len(d.b) > 0 {
		a.Code = d.code(ackCodes[t]...)
		if len(d.b) > 0 {
			d.decodeProperties(t, &a.Properties)
		}
	}
	return a
}

func (d *decoder) subscribe(version Version) *Subscribe {
	s := &Subscribe{ID: d.id()}
	if version == V5 {
		d.decodeProperties(SUBSCRIBE, &s.Properties)
	}
	if len(d.b) == 0 {
		d.fail(protocolError("SUBSCRIBE without a filter")) // [MQTT-3.8.3-2]
	}
	for len(d.b) > 0 {
		sub := Subscription{Filter: string(d.utf8())}
		o := d.byte()
		sub.QoS = o & 3
		reserved := byte(0xfc)
		if version == V5 {
			reserved = 0xc0
			sub.NoLocal, sub.RetainAsPublished, sub.RetainHandling = o&4 != 0, o&8 != 0, o>>4&3
		}
		if sub.QoS == 3 || sub.RetainHandling == 3 || o&reserved != 0 {
			d.fail(malformed("subscription options 0x%02x", o)) // [MQTT-3.8.3-4, MQTT-3.8.3-5]
		}
		s.Subscriptions = append(s.Subscriptions, sub)
	}
	return s
}

func (d *decoder) suback(version Version, t Type) *Suback {
	s := &Suback{Type: t, ID: d.id()}
	if version == V5 {
		d.decodeProperties(t, &s.Properties)
	} else if t == UNSUBACK {
		return s
	}
	if len(d.b) == 0 {
		d.fail(protocolError("%s without a reason code", t))
	}
	for len(d.b) > 0 {
		s.Codes = append(s.Codes, Code(d.byte()))
	}
	return s
}

func (d *decoder) unsubscribe(version Version) *Unsubscribe {
	u := &Unsubscribe{ID: d.id()}
	if version == V5 {
		d.decodeProperties(UNSUBSCRIBE, &u.Properties)
	}
	if len(d.b) == 0 {
		d.fail(protocolError("UNSUBSCRIBE without a filter")) // [MQTT-3.10.3-2]
	}
	for len(d.b) > 0 {
		u.Filters = append(u.Filters, string(d.utf8()))
	}
	return u
}

func (d *decoder) disconnect(version Version) *Disconnect {
	p := &Disconnect{}
	if version == V5 && len(d.b) > 0 {
		p.Code = Code(d.byte())
		if _, known := codeNames[p.Code]; !known {
			d.fail(protocolError("DISCONNECT with reason code 0x%02x", byte(p.Code)))
		}
		if len(d.b) > 0 {
			d.decodeProperties(DISCONNECT, &p.Properties)
		}
	}
	return p
}

func (d *decoder) auth(version Version) *Auth {
	if version != V5 {
		d.fail(protocolError("AUTH before MQTT 5"))
	}
	a := &Auth{}
	if len(d.b) > 0 {
		a.Code = d.code(Success, ContinueAuthentication, ReAuthenticate)
		if len(d.b) > 0 {
			d.decodeProperties(AUTH, &a.Properties)
		}
	}
	return a
}
