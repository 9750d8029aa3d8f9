package bridge

import (
	"encoding/binary"

	"holdfast/broker/wire"
)

// oversized is a PUBLISH that was too long to be read, without its payload.
type oversized struct{ *wire.Publish }

// head takes what comes before the payload off a PUBLISH that is too long to be read, of n bytes so far and size in
// all. An upstream of 3.1.1 cannot be told what is too long, and would send it by each connection again. size is 0
// if it is something else.
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
