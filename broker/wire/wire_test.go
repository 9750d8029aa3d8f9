package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func ptr[T any](v T) *T { return &v }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden holds every packet type, as bytes on the wire.
var golden = []struct {
	name    string
	version Version
	hex     string
	packet  Packet
}{
	{"connect", V311, "10 0f 0004 4d515454 04 02 003c 0003 616263",
		&Connect{Version: V311, CleanStart: true, KeepAlive: 60, ClientID: "abc"}},
	{"connect 3.1", V31, "10 0f 0006 4d5149736470 03 02 003c 0001 61",
		&Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "a"}},
	{"connect of a bridge", V311, "10 0f 0004 4d515454 84 02 003c 0003 616263",
		&Connect{Version: V311, Bridge: true, CleanStart: true, KeepAlive: 60, ClientID: "abc"}},
	{"connect of a bridge 3.1", V31, "10 0f 0006 4d5149736470 83 02 003c 0001 61",
		&Connect{Version: V31, Bridge: true, CleanStart: true, KeepAlive: 60, ClientID: "a"}},
	{"connect with all", V5, "10 34 0004 4d515454 05 ee 000a 08 11 00000e10 21 0014 0001 63 10 18 00000005 02 0000003c 03 0003 782f79 0001 77 0002 6279 0001 75 0001 70",
		&Connect{Version: V5, CleanStart: true, KeepAlive: 10, ClientID: "c", HasUsername: true, Username: "u",
			HasPassword: true, Password: []byte("p"),
			Will: &Will{Topic: "w", Payload: []byte("by"), QoS: 1, Retain: true, Delay: 5, Expires: true, Expiry: 60,
				Forward: []byte("\x03\x00\x03x/y")},
			Properties: Properties{SessionExpiry: ptr[uint32](3600), ReceiveMaximum: ptr[uint16](20)}}},
	{"connack", V311, "20 02 01 00", &Connack{SessionPresent: true}},
	{"connack refused", V311, "20 02 00 05", &Connack{Code: NotAuthorized}},
	{"connack", V5, "20 0a 00 00 07 22 000a 12 0001 78", &Connack{Properties: Properties{AssignedClientID: ptr("x"), TopicAliasMaximum: ptr[uint16](10)}}},
	{"publish 0", V311, "30 05 0001 74 6869", &Publish{Topic: "t", Payload: []byte("hi")}},
	{"publish 2", V311, "3d 07 0001 74 0007 6869", &Publish{Topic: "t", Payload: []byte("hi"), QoS: 2, ID: 7, Dup: true, Retain: true}},
	{"publish", V5, "32 0f 0001 74 0007 08 02 0000000a 23 0001 68",
		&Publish{Topic: "t", Payload: []byte("h"), QoS: 1, ID: 7, Expires: true, Expiry: 10, TopicAlias: 1}},
	{"puback", V311, "40 02 0001", &Ack{Type: PUBACK, ID: 1}},
	{"puback", V5, "40 03 0001 10", &Ack{Type: PUBACK, ID: 1, Code: NoMatchingSubscribers}},
	{"pubrec", V5, "50 08 0001 97 04 1f 0001 78", &Ack{Type: PUBREC, ID: 1, Code: QuotaExceeded, Properties: Properties{ReasonString: ptr("x")}}},
	{"pubrel", V5, "62 02 0001", &Ack{Type: PUBREL, ID: 1}},
	{"pubcomp", V5, "70 03 0001 92", &Ack{Type: PUBCOMP, ID: 1, Code: PacketIDNotFound}},
	{"subscribe", V311, "82 08 0001 0003 612f23 01", &Subscribe{ID: 1, Subscriptions: []Subscription{{Filter: "a/#", QoS: 1}}}},
	{"subscribe", V5, "82 09 0001 02 0b 05 0001 61 2e",
		&Subscribe{ID: 1, Subscriptions: []Subscription{{Filter: "a", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}},
			Properties: Properties{SubscriptionID: ptr[uint32](5)}}},
	{"suback", V311, "90 04 0001 01 80", &Suback{Type: SUBACK, ID: 1, Codes: []Code{GrantedQoS1, Unspecified}}},
	{"unsubscribe", V311, "a2 05 0001 0001 61", &Unsubscribe{ID: 1, Filters: []string{"a"}}},
	{"unsuback", V311, "b0 02 0001", &Suback{Type: UNSUBACK, ID: 1}},
	{"unsuback", V5, "b0 04 0001 00 11", &Suback{Type: UNSUBACK, ID: 1, Codes: []Code{NoSubscriptionExisted}}},
	{"pingreq", V311, "c0 00", &Ping{PINGREQ}},
	{"pingresp", V5, "d0 00", &Ping{PINGRESP}},
	{"disconnect", V311, "e0 00", &Disconnect{}},
	{"disconnect", V5, "e0 01 8e", &Disconnect{Code: SessionTakenOver}},
	{"auth", V5, "f0 06 18 04 15 0001 78", &Auth{Code: ContinueAuthentication, Properties: Properties{AuthMethod: ptr("x")}}},
}

func read(version Version, b []byte) (Packet, error) {
	r := NewReader(bytes.NewReader(b), 1<<20)
	r.SetVersion(version)
	return r.ReadPacket()
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			want := unhex(t, g.hex)
			if got := Append(nil, g.version, g.packet); !bytes.Equal(got, want) {
				t.Errorf("encode:\ngot  %x\nwant %x", got, want)
			}
			got, err := read(g.version, want)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, g.packet) {
				t.Errorf("decode:\ngot  %+v\nwant %+v", got, g.packet)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	for _, m := range []struct {
		clause  string
		version Version
		hex     string
		code    Code
	}{
		{"MQTT-2.1.3-1 reserved flags", V311, "c1 00", MalformedPacket},
		{"MQTT-2.1.3-1 PUBREL flags", V5, "60 02 0001", MalformedPacket},
		{"MQTT-2.1.4 remaining length of 5 bytes", V5, "30 8080808001", MalformedPacket},
		{"MQTT-1.5.5-1 overlong length", V5, "c0 8000", MalformedPacket},
		{"type 0", V5, "00 00", MalformedPacket},
		{"MQTT-1.5.4-1 not UTF-8", V5, "30 05 0002 c328 00", MalformedPacket},
		{"MQTT-1.5.4-1 surrogate", V5, "30 06 0003 eda080 00", MalformedPacket},
		{"MQTT-1.5.4-2 U+0000", V5, "30 04 0001 00 00", MalformedPacket},
		{"MQTT-2.2.1-3 packet identifier 0", V5, "32 06 0001 74 0000 00", ProtocolError},
		{"MQTT-3.1.2-1 protocol name", V5, "10 0c 0004 4d515455 04 02 003c 0000", UnsupportedVersion},
		{"MQTT-3.1.2-2 protocol version", V5, "10 0c 0004 4d515454 06 02 003c 0000", UnsupportedVersion},
		{"MQTT-3.1.2-3 reserved flag", V5, "10 0c 0004 4d515454 04 03 003c 0000", MalformedPacket},
		{"MQTT-3.1.2-12 will QoS 3", V5, "10 12 0004 4d515454 04 1e 003c 0000 0001 77 0001 78", MalformedPacket},
		{"MQTT-3.1.2-15 will retain without will", V5, "10 0c 0004 4d515454 04 22 003c 0000", MalformedPacket},
		{"3.1.1 MQTT-3.1.2-22 password alone", V5, "10 0f 0004 4d515454 04 42 003c 0000 0001 78", MalformedPacket},
		{"MQTT-3.2.2-1 connack flags", V5, "20 03 02 00 00", MalformedPacket},
		{"MQTT-3.3.1-4 QoS 3", V5, "36 06 0001 74 0001 00", MalformedPacket},
		{"MQTT-3.3.1-2 DUP with QoS 0", V5, "38 04 0001 74 00", MalformedPacket},
		{"3.3.2.3.4 alias 0", V5, "30 07 0001 74 03 23 0000", TopicAliasInvalid},
		{"no topic", V5, "30 03 0000 00", ProtocolError},
		{"3.3.2.3.8 subscription identifier 0", V5, "30 06 0001 74 02 0b 00", ProtocolError},
		{"property twice", V5, "30 08 0001 74 04 01 00 01 00", ProtocolError},
		{"property of another packet", V5, "30 07 0001 74 03 21 0001", MalformedPacket},
		{"property that does not exist", V5, "30 06 0001 74 02 04 00", MalformedPacket},
		{"payload format 2", V5, "30 06 0001 74 02 01 02", ProtocolError},
		{"property list longer than the packet", V5, "30 04 0001 74 05", MalformedPacket},
		{"3.1.2.11.3 receive maximum 0", V5, "10 10 0004 4d515454 05 02 003c 03 21 0000 0000", ProtocolError},
		{"3.1.2.11.4 maximum packet size 0", V5, "10 12 0004 4d515454 05 02 003c 05 27 00000000 0000", ProtocolError},
		{"MQTT-3.8.3-2 SUBSCRIBE without filter", V311, "82 02 0001", ProtocolError},
		{"MQTT-3.8.3-5 reserved option bits", V5, "82 07 0001 00 0001 61 40", MalformedPacket},
		{"3.8.3.1 retain handling 3", V5, "82 07 0001 00 0001 61 30", MalformedPacket},
		{"MQTT-3.8.3-4 QoS 3", V311, "82 06 0001 0001 61 03", MalformedPacket},
		{"MQTT-3.10.3-2 UNSUBSCRIBE without filter", V311, "a2 02 0001", ProtocolError},
		{"PUBACK with a code of another packet", V5, "40 03 0001 92", ProtocolError},
		{"PINGREQ with a body", V311, "c0 01 00", MalformedPacket},
		{"AUTH in 3.1.1", V311, "f0 00", ProtocolError},
		{"authentication data without method", V5, "f0 06 18 04 16 0001 78", ProtocolError},
		{"DISCONNECT code", V5, "e0 01 ff", ProtocolError},
		{"truncated SUBSCRIBE", V311, "82 05 0001 0005 61", MalformedPacket},
	} {
		t.Run(m.clause, func(t *testing.T) {
			p, err := read(m.version, unhex(t, m.hex))
			var e *Error
			if !errors.As(err, &e) || e.Code != m.code {
				t.Errorf("got %+v, %v, want %s", p, err, m.code)
			}
		})
	}
}

func TestReaderLimits(t *testing.T) {
	big := Append(nil, V5, &Publish{Topic: "t", Payload: make([]byte, 300_000)})
	r := NewReader(bytes.NewReader(big), len(big))
	r.SetVersion(V5)
	if p, err := r.ReadPacket(); err != nil || len(p.(*Publish).Payload) != 300_000 {
		t.Fatal(err)
	}
	if _, err := r.ReadPacket(); err != io.EOF {
		t.Fatalf("got %v, want EOF", err)
	}
	var e *Error
	if _, err := NewReader(bytes.NewReader(big), len(big)-1).ReadPacket(); !errors.As(err, &e) || e.Code != PacketTooLarge {
		t.Fatalf("got %v, want packet too large", err)
	}
	for n := 1; n < 100; n++ {
		if _, err := NewReader(bytes.NewReader(big[:n]), 0).ReadPacket(); err != io.ErrUnexpectedEOF {
			t.Fatalf("%d bytes: got %v", n, err)
		}
	}
}

func TestForward(t *testing.T) {
	f := Forwarded{UTF8: true, ContentType: "a", ResponseTopic: "b", CorrelationData: []byte{0}, User: []UserProperty{{"k", "v"}, {"k", "w"}}}
	got, err := ParseForward(f.Append(nil))
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := ParseForward([]byte{propTopicAlias, 0, 1}); err == nil {
		t.Fatal("a topic alias is not forwarded")
	}
}

func TestAllocations(t *testing.T) {
	p := &Publish{Topic: "sensors/a/b/temperature", Payload: make([]byte, 256), Forward: []byte("\x03\x00\x01x")}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = AppendPublish(buf[:0], V5, p) }); n != 0 {
		t.Errorf("encode: %v allocations, want 0", n)
	}
	p.Forward = nil
	b := Append(nil, V5, p)
	src := bytes.NewReader(nil)
	r := NewReader(src, 1<<20)
	r.SetVersion(V5)
	if n := testing.AllocsPerRun(100, func() {
		src.Reset(b)
		if _, err := r.ReadPacket(); err != nil {
			t.Fatal(err)
		}
	}); n > 3 { // body, packet, decoder
		t.Errorf("decode: %v allocations, want at most 3", n)
	}
}

// FuzzReadPacket: no input panics, and what can be read can be written and read again.
func FuzzReadPacket(f *testing.F) {
	for _, g := range golden {
		f.Add(byte(g.version), unhex(f, g.hex))
	}
	f.Fuzz(func(t *testing.T, v byte, b []byte) {
		version := Version(v%3 + 3)
		p, err := read(version, b)
		if err != nil {
			return
		}
		if c, ok := p.(*Connect); ok {
			version = c.Version
		}
		again, err := read(version, Append(nil, version, p))
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		if x, y := Append(nil, version, p), Append(nil, version, again); !bytes.Equal(x, y) {
			t.Fatalf("%x, then %x", x, y)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	raw := Append(nil, V5, &Publish{Topic: "sensors/a/b/temperature", Payload: make([]byte, 256), QoS: 1, ID: 5})
	src := bytes.NewReader(nil)
	r := NewReader(src, 1<<20)
	r.SetVersion(V5)
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(raw)
		if _, err := r.ReadPacket(); err != nil {
			b.Fatal(err)
		}
	}
}
