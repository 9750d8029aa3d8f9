package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// logged is a log that a test reads.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestLastWordsArrive: the reason of the end reaches a client that has sent more than the server reads, which closing at
// once would take from it with a reset.
func TestLastWordsArrive(t *testing.T) {
	log := &logged{}
	h := newHost(t, server.Options{MaxPacket: 2048, MaxConnectPacket: 1024, Log: slog.New(slog.NewTextHandler(log, nil))})
	behind := bytes.Repeat([]byte{0xc0, 0}, 20_000)
	for name, tt := range map[string]struct {
		send []byte
		want wire.Code
	}{
		"too large":        {[]byte{0x30, 0x80, 0x80, 0x04}, wire.PacketTooLarge},
		"malformed filter": {[]byte{0x82, 6, 0, 1, 0, 0, 0, 1}, wire.MalformedPacket},
		"wrong property":   {[]byte{0xa2, 11, 0, 1, 5, 0x11, 0, 0, 0, 1, 0, 1, 'a'}, wire.MalformedPacket},
		"wildcard":         {[]byte{0x30, 5, 0, 1, '#', 0, 'x'}, wire.TopicNameInvalid},
	} {
		for i := range 20 {
			c := h.client(wire.V5, fmt.Sprint("client-", i), false)
			c.TrySend(append(bytes.Clone(tt.send), behind...))
			if got := c.Closed(); got != tt.want {
				t.Fatalf("%s: DISCONNECT %v, want %v", name, got, tt.want)
			}
		}
	}
	c := brokertest.Dial(t, h.addr, wire.V5)
	c.TrySend([]byte{0x10, 0x80, 0x10})
	c.Closed()
	if got := h.Stats().Oversized; got != 21 {
		t.Errorf("%d packets that are too large are counted, want 21", got)
	}
	for _, want := range []string{"broker.limits.packet", "client=client-7", "bytes=65540", "limit=2048", "broker.limits.connect_packet", "limit=1024"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// TestImpossibleWill: a will that can never be published is not answered with "try again".
func TestImpossibleWill(t *testing.T) {
	h := newHost(t, server.Options{})
	for _, topic := range []string{"", "a/#", "+", strings.Repeat("a/", 64)} {
		for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
			c := brokertest.Dial(t, h.addr, v)
			c.Send(&wire.Connect{Version: v, ClientID: "c", CleanStart: true, Will: &wire.Will{Topic: topic}})
			p, err := c.Next()
			if ack, _ := p.(*wire.Connack); v == wire.V5 && (ack == nil || ack.Code != wire.TopicNameInvalid) || v != wire.V5 && err == nil {
				t.Errorf("version %d, will topic %.10q: got %v, %v", v, topic, p, err)
			}
		}
	}
}

// TestFailedPubrec: after a reason code of failure no PUBREL follows, of a delivery or of an identifier that is not known
// (5.0 section 4.3.3).
func TestFailedPubrec(t *testing.T) {
	h := newHost(t, server.Options{})
	c := h.client(wire.V5, "c", false)
	for _, code := range []wire.Code{wire.Unspecified, wire.NotAuthorized, wire.QuotaExceeded} {
		c.Send(&wire.Ack{Type: wire.PUBREC, ID: 77, Code: code})
	}
	c.Silent()
	c.Send(&wire.Ack{Type: wire.PUBREC, ID: 77})
	if got := brokertest.Receive[*wire.Ack](c); got.Type != wire.PUBREL || got.Code != wire.PacketIDNotFound {
		t.Errorf("an identifier that is not known: %+v", got)
	}
	subscribe(t, c, "t", 2)
	publish(t, h.client(wire.V5, "pub", false), wire.Publish{Topic: "t", QoS: 2})
	p := brokertest.Receive[*wire.Publish](c)
	c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID, Code: wire.Unspecified})
	c.Silent()
}

// TestMQTT31Connack: the first byte is reserved in 3.1, whatever the session.
func TestMQTT31Connack(t *testing.T) {
	h := newHost(t, server.Options{})
	for range 2 {
		c, ack := h.connect(wire.V31, wire.Connect{ClientID: "old"}, true)
		if ack.SessionPresent {
			t.Error("session present in 3.1")
		}
		c.Close()
	}
}
