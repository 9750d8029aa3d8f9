package wire

import (
	"bufio"
	"errors"
	"io"
)

const (
	readBuffer = 2 << 10  // bytes per connection: enough for several sensor messages
	chunk      = 64 << 10 // a longer body is allocated as it arrives, not as it is announced
)

// Reader reads packets from a connection. It is for one goroutine.
type Reader struct {
	r       *bufio.Reader
	version Version
	max     int
	topic   string // the last one, so that a publisher of one topic costs no string per message
}

// NewReader returns a Reader of packets that are at most max bytes long. Until SetVersion it
// takes CONNECT as any version and everything else as 3.1.1.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, readBuffer), version: V311, max: max}
}

// SetVersion sets the version that packets after CONNECT are decoded for.
func (r *Reader) SetVersion(v Version) { r.version = v }

// Buffered reports whether bytes of another packet have already arrived.
func (r *Reader) Buffered() bool { return r.r.Buffered() > 0 }

// ReadPacket returns the next packet, which the caller owns. The error is io.EOF if the connection
// ended between packets, *Error if the packet violates the protocol, else the connection's.
func (r *Reader) ReadPacket() (Packet, error) {
	if _, err := r.r.Peek(1); err != nil {
		return nil, err
	}
	for n := 2; ; n++ {
		b, err := r.r.Peek(n)
		if err != nil {
			return nil, unexpected(err)
		}
		size, header, err := length(b, r.max)
		if err != nil {
			return nil, err
		}
		if header == 0 {
			continue
		}
		first := b[0]
		r.r.Discard(header)
		body, err := r.body(size)
		if err != nil {
			return nil, err
		}
		return decode(r.version, first, body, r.intern)
	}
}

func (r *Reader) body(size int) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	body := make([]byte, min(size, chunk))
	at := 0
	for {
		n, err := io.ReadFull(r.r, body[at:])
		if err != nil {
			return nil, unexpected(err)
		}
		if at += n; at == size {
			return body, nil
		}
		body = append(body, make([]byte, min(size-at, at))...)
	}
}

func (r *Reader) intern(b []byte) string {
	if string(b) != r.topic {
		r.topic = string(b)
	}
	return r.topic
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
