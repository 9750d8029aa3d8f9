package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func str(b []byte) string { return string(b) }

// TestSplit: a stream of packets, given byte by byte, comes apart as a Reader takes it apart.
func TestSplit(t *testing.T) {
	var stream []byte
	n := 0
	for _, g := range golden {
		if g.version == V5 {
			stream = append(stream, unhex(t, g.hex)...)
			n++
		}
	}
	stream = Append(stream, V5, &Publish{Topic: "t", Payload: make([]byte, 20_000)})
	n++
	r := NewReader(bytes.NewReader(stream), 0)
	r.SetVersion(V5)
	from := 0
	for end := 0; end <= len(stream); end++ {
		p, size, err := Split(stream[from:end], 0)
		if err != nil {
			t.Fatal(err)
		}
		if size > end-from {
			continue
		}
		want, err := r.ReadPacket()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Packet(V5); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		from += size
		n--
	}
	if from != len(stream) || n != 0 {
		t.Errorf("%d bytes and %d packets are left", len(stream)-from, n)
	}
	if _, _, err := Split([]byte{0x30, 0xff, 0x7f}, 1000); err == nil {
		t.Error("a packet that is too large is waited for")
	}
}

// TestInPlaceAllocations: what comes most does not allocate.
func TestInPlaceAllocations(t *testing.T) {
	var p Publish
	var a Ack
	pub := Append(nil, V5, &Publish{Topic: "t", Payload: make([]byte, 256), Forward: []byte("\x03\x00\x01x"), QoS: 1, ID: 5, Expires: true, Expiry: 9})
	ack := Append(nil, V5, &Ack{Type: PUBACK, ID: 7})
	topic := func([]byte) string { return "t" }
	if n := testing.AllocsPerRun(100, func() {
		for _, b := range [][]byte{pub, ack} {
			raw, _, err := Split(b, 0)
			if err == nil && raw.Type() == PUBLISH {
				err = raw.Publish(V5, &p, topic)
			} else if err == nil {
				err = raw.Ack(V5, &a)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzInPlace: a packet in a buffer is decoded as one from a connection, and so is what is decoded in
// place, into structs that were used before.
func FuzzInPlace(f *testing.F) {
	for _, g := range golden {
		f.Add(byte(g.version), unhex(f, g.hex))
	}
	f.Fuzz(func(t *testing.T, v byte, b []byte) {
		version := Version(v%3 + 3)
		raw, n, err := Split(b, 1<<20)
		if err != nil || n > len(b) {
			return
		}
		want, wantErr := read(version, b)
		got, err := raw.Packet(version)
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v, %v", got, err, want, wantErr)
		}
		switch w := got.(type) {
		case *Publish:
			p := Publish{Topic: "old", Forward: []byte("old"), SubscriptionIDs: []uint32{1, 2}, Expires: true, Expiry: 9, TopicAlias: 4}
			if err := raw.Publish(version, &p, str); err != nil {
				t.Fatal(err)
			}
			if x, y := Append(nil, version, &p), Append(nil, version, w); !bytes.Equal(x, y) {
				t.Fatalf("in place %x, else %x", x, y)
			}
		case *Ack:
			a := Ack{Type: PUBREC, ID: 9, Code: 9}
			if err := raw.Ack(version, &a); err != nil || !reflect.DeepEqual(&a, w) {
				t.Fatalf("in place %+v, %v, else %+v", a, err, w)
			}
		default:
			if raw.Type() == PUBLISH && raw.Publish(version, &Publish{}, str) == nil {
				t.Fatalf("in place there is no error, else %v", err)
			}
		}
	})
}

// FuzzForward: properties that are passed on come apart and together again.
func FuzzForward(f *testing.F) {
	for _, x := range []Forwarded{{}, {UTF8: true, ContentType: "a", ResponseTopic: "b", CorrelationData: []byte{0}, User: []UserProperty{{"k", "v"}, {"k", ""}}}} {
		f.Add(x.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseForward(b)
		if err != nil {
			return
		}
		y, err := ParseForward(x.Append(nil))
		if err != nil {
			t.Fatalf("%+v: %v", x, err)
		}
		if len(x.CorrelationData)+len(y.CorrelationData) == 0 {
			x.CorrelationData, y.CorrelationData = nil, nil
		}
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("got %+v, want %+v", y, x)
		}
	})
}
