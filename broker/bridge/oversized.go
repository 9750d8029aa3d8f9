package bridge

import (
	"encoding/binary"

	"holdfast/broker/wire"
)

// oversized is a PUBLISH that was too long to be read, without its payload.
type oversized struct{ *wire.Publish }

// head decodes the part before the payload of a PUBLISH that is too long to be read. MQTT 3.1.1 has no maximum packet
// size, and the upstream would send the message again at each connection. n is the length of that part as far as
// it is known, size that of the whole packet, 0 if b is something else.
func (l *link) head(b []byte) (raw wire.Raw, n, size int) {
	if l.version != wire.V311 || wire.Type(b[0]>>4) != wire.PUBLISH {
		return raw, 0, 0
	}
	_, size, err := wire.Split(b, 0)
	if err != nil || size <= maxReceive {
		return raw, 0, 0
	}
	topic := 2
	for b[topic-1] >= 0x80 { // the length, which is whole
		topic++
	}
	if n = topic + 2; n <= len(b) {
		n += int(binary.BigEndian.Uint16(b[topic:]))
		if b[0]&0x06 != 0 { // has an identifier
			n += 2
		}
	}
	if n <= len(b) {
		raw = wire.Raw{First: b[0], Body: b[topic:n:n]}
	}
	return raw, n, size
}
