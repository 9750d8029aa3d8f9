package wire

import "encoding/binary"

// MaxSize is the most bytes of a packet after its fixed header: what a variable byte integer holds.
const MaxSize = 268_435_455

func appendVarint(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func varintSize(v int) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

// appendString appends at most 65,535 bytes, the longest string of MQTT.
func appendString[T string | []byte](b []byte, s T) []byte {
	s = s[:min(len(s), 65535)]
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// setLength writes the length of what follows b[at] there, making room if it takes more than one byte.
func setLength(b []byte, at int) []byte {
	n := len(b) - at - 1
	extra := varintSize(n) - 1
	if extra > 0 {
		b = append(b, make([]byte, extra)...)
		copy(b[at+1+extra:], b[at+1:])
	}
	appendVarint(b[:at], uint32(n))
	return b
}

// begin appends a fixed header whose length end sets.
func begin(b []byte, t Type, flags byte) []byte { return append(b, byte(t)<<4|flags, 0) }

// Append appends the whole packet to b, for a connection of the version.
func Append(b []byte, version Version, p Packet) []byte {
	start := len(b)
	v5 := version == V5
	switch p := p.(type) {
	case *Publish:
		return AppendPublish(b, version, p)
	case *Connect:
		b = p.append(begin(b, CONNECT, 0))
	case *Connack:
		b = begin(b, CONNACK, 0)
		b = append(b, bit(p.SessionPresent && version != V31, 1)) // reserved in 3.1 (section 3.2), as zero
		if v5 {
			b = p.Properties.appendTo(append(b, byte(p.Code)))
		} else {
			b = append(b, p.Code.returnCode())
		}
	case *Ack:
		return p.append(b, version)
	case *Subscribe:
		b = binary.BigEndian.AppendUint16(begin(b, SUBSCRIBE, 2), p.ID)
		if v5 {
			b = p.Properties.appendTo(b)
		}
		for _, s := range p.Subscriptions {
			b = appendString(b, s.Filter)
			o := s.QoS
			if v5 {
				o |= bit(s.NoLocal, 4) | bit(s.RetainAsPublished, 8) | s.RetainHandling<<4
			}
			b = append(b, o)
		}
	case *Suback:
		b = binary.BigEndian.AppendUint16(begin(b, p.Type, 0), p.ID)
		if v5 {
			b = p.Properties.appendTo(b)
		}
		if v5 || p.Type == SUBACK {
			for _, c := range p.Codes {
				if !v5 && c >= 0x80 {
					c = Unspecified // the only failure that 3.1.1 knows, section 3.9.3
				}
				b = append(b, byte(c))
			}
		}
	case *Unsubscribe:
		b = binary.BigEndian.AppendUint16(begin(b, UNSUBSCRIBE, 2), p.ID)
		if v5 {
			b = p.Properties.appendTo(b)
		}
		for _, f := range p.Filters {
			b = appendString(b, f)
		}
	case *Ping:
		return append(b, byte(p.Type)<<4, 0)
	case *Disconnect:
		b = begin(b, DISCONNECT, 0)
		if v5 {
			b = appendCode(b, p.Code, &p.Properties)
		}
	case *Auth:
		b = appendCode(begin(b, AUTH, 0), p.Code, &p.Properties)
	}
	return setLength(b, start+1)
}

func bit(on bool, b byte) byte {
	if on {
		return b
	}
	return 0
}

// appendCode appends the code and properties. It omits empty properties, and then also success.
func appendCode(b []byte, c Code, p *Properties) []byte {
	at := len(b)
	b = p.appendTo(append(b, byte(c)))
	if len(b) == at+2 { // no properties
		b = b[:at+1]
		if c == Success {
			b = b[:at]
		}
	}
	return b
}

func (p *Connect) append(b []byte) []byte {
	name := "MQTT"
	if p.Version == V31 {
		name = "MQIsdp"
	}
	level := p.Version
	if p.Bridge {
		level |= bridgeBit
	}
	b = append(appendString(b, name), byte(level))
	flags := bit(p.CleanStart, 0x02) | bit(p.HasPassword, 0x40) | bit(p.HasUsername, 0x80)
	if w := p.Will; w != nil {
		flags |= 0x04 | w.QoS<<3 | bit(w.Retain, 0x20)
	}
	b = binary.BigEndian.AppendUint16(append(b, flags), p.KeepAlive)
	if p.Version == V5 {
		b = p.Properties.appendTo(b)
	}
	b = appendString(b, p.ClientID)
	if w := p.Will; w != nil {
		if p.Version == V5 {
			at := len(b)
			b = append(b, 0)
			if w.Delay > 0 {
				b = binary.BigEndian.AppendUint32(append(b, propWillDelay), w.Delay)
			}
			if w.Expires {
				b = binary.BigEndian.AppendUint32(append(b, propMessageExpiry), w.Expiry)
			}
			b = setLength(append(b, w.Forward...), at)
		}
		b = appendString(appendString(b, w.Topic), w.Payload)
	}
	if p.HasUsername {
		b = appendString(b, p.Username)
	}
	if p.HasPassword {
		b = appendString(b, p.Password)
	}
	return b
}

// AppendAck is Append for an Ack without properties. It does not allocate where b has room.
func AppendAck(b []byte, version Version, t Type, id uint16, code Code) []byte {
	first := byte(t)<<4 | bit(t == PUBREL, 2)
	if code == Success || version != V5 {
		return append(b, first, 2, byte(id>>8), byte(id))
	}
	return append(b, first, 3, byte(id>>8), byte(id), byte(code))
}

func (p *Ack) append(b []byte, version Version) []byte {
	if version != V5 || p.Properties.ReasonString == nil && len(p.Properties.User) == 0 {
		return AppendAck(b, version, p.Type, p.ID, p.Code)
	}
	start := len(b)
	b = binary.BigEndian.AppendUint16(begin(b, p.Type, bit(p.Type == PUBREL, 2)), p.ID)
	return setLength(appendCode(b, p.Code, &p.Properties), start+1)
}

// propertiesSize is the length of a PUBLISH's property list without the length in front.
func (p *Publish) propertiesSize() int {
	n := len(p.Forward)
	if p.Expires {
		n += 5
	}
	if p.TopicAlias != 0 {
		n += 3
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintSize(int(id))
	}
	return n
}

// PropertiesSize is the length of the property list with the length in front, in the version's packet.
func (p *Publish) PropertiesSize(version Version) int {
	if version != V5 {
		return 0
	}
	n := p.propertiesSize()
	return varintSize(n) + n
}

// size returns the length of p in the fixed header.
func (p *Publish) size(version Version) int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	return n + p.PropertiesSize(version)
}

// Size returns the bytes of the whole packet.
func (p *Publish) Size(version Version) int {
	n := p.size(version)
	return 1 + varintSize(n) + n
}

// AppendPublish is Append for the hot path: it does not allocate where b has room.
func AppendPublish(b []byte, version Version, p *Publish) []byte {
	b = append(b, byte(PUBLISH)<<4|bit(p.Dup, 8)|p.QoS<<1|bit(p.Retain, 1))
	b = appendVarint(b, uint32(p.size(version)))
	b = appendString(b, p.Topic)
	if p.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, p.ID)
	}
	if version == V5 {
		b = appendVarint(b, uint32(p.propertiesSize()))
		if p.Expires {
			b = binary.BigEndian.AppendUint32(append(b, propMessageExpiry), p.Expiry)
		}
		if p.TopicAlias != 0 {
			b = binary.BigEndian.AppendUint16(append(b, propTopicAlias), p.TopicAlias)
		}
		for _, id := range p.SubscriptionIDs {
			b = appendVarint(append(b, propSubscriptionID), id)
		}
		b = append(b, p.Forward...)
	}
	return append(b, p.Payload...)
}
