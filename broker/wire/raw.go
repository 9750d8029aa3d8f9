package wire

import (
	"fmt"
	"slices"
)

// Raw is one packet in a buffer: the first byte of its fixed header, and the bytes after
// the header.
type Raw struct {
	First byte
	Body  []byte // shares the buffer
}

// Split returns the first packet of b and its length n. If b holds only a part of it, n is larger than
// len(b): the bytes needed to continue, as far as known. A packet of more than max bytes is an error as
// soon as its length is known; 0 means no limit.
func Split(b []byte, max int) (p Raw, n int, err error) {
	if len(b) < 2 {
		return p, 2, nil
	}
	size, header, err := length(b, max)
	switch {
	case err != nil:
		return p, 0, err
	case header == 0:
		return p, len(b) + 1, nil
	case header+size > len(b):
		return p, header + size, nil
	}
	return Raw{b[0], b[header : header+size : header+size]}, header + size, nil
}

// length reads the fixed header at the start of b. It returns the number of bytes after the header, and
// the header's own, which is 0 if b ends too early.
func length(b []byte, max int) (size, header int, err error) {
	for n, shift := 1, 0; n < len(b); n, shift = n+1, shift+7 {
		v := b[n]
		size |= int(v&0x7f) << shift
		if v < 0x80 {
			if v == 0 && n > 1 {
				return 0, 0, malformed("remaining length is longer than it needs to be")
			}
			if max > 0 && 1+n+size > max {
				return 0, 0, &Error{PacketTooLarge, fmt.Sprintf("%v of %d bytes, want at most %d", Type(b[0]>>4), 1+n+size, max), 1 + n + size}
			}
			return size, 1 + n, nil
		}
		if n == 4 {
			return 0, 0, malformed("remaining length of more than 4 bytes")
		}
	}
	return 0, 0, nil
}

// Type returns the packet's type.
func (r Raw) Type() Type { return Type(r.First >> 4) }

// Packet decodes the packet. The result shares no memory with the buffer.
func (r Raw) Packet(version Version) (Packet, error) {
	return decode(version, r.First, slices.Clone(r.Body), func(b []byte) string { return string(b) })
}

// Publish decodes a PUBLISH into p without allocating: Payload shares the buffer, Forward and
// SubscriptionIDs reuse the memory that p had for them. topic converts the topic name to a string.
func (r Raw) Publish(version Version, p *Publish, topic func([]byte) string) error {
	*p = Publish{Forward: p.Forward[:0], SubscriptionIDs: p.SubscriptionIDs[:0]}
	d := decoder{b: r.Body}
	d.publish(version, r.First&0x0f, topic, p)
	return d.err
}

// Ack decodes a PUBACK, PUBREC, PUBREL or PUBCOMP into a, in the common case without allocating.
func (r Raw) Ack(version Version, a *Ack) error {
	if err := checkFlags(r.Type(), r.First&0x0f); err != nil {
		return err
	}
	if len(r.Body) == 2 { // nothing but the identifier
		*a = Ack{Type: r.Type(), ID: uint16(r.Body[0])<<8 | uint16(r.Body[1])}
		if a.ID == 0 {
			return protocolError("packet identifier 0")
		}
		return nil
	}
	p, err := r.Packet(version)
	if err != nil {
		return err
	}
	*a = *p.(*Ack)
	return nil
}
