package server_test

import (
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// Whatever a client is refused is counted under the packet that tells it and its reason, in both versions.
func TestRefusalsAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		do            func(t *testing.T, h *host, v wire.Version)
		packet, cause string
		v5            bool // only 5.0 has it
	}{
		"CONNECT": {func(t *testing.T, h *host, v wire.Version) {
			p := wire.Connect{} // no identifier, and a session that should stay
			if v == wire.V5 {
				p.ClientID = strings.Repeat("x", 2000)
			}
			if _, code := connack(t, h, v, p); code != wire.ClientIDNotValid {
				t.Errorf("CONNACK %v", code)
			}
		}, "CONNACK", "client identifier not valid", false},
		"bytes instead of CONNECT": {func(t *testing.T, h *host, v wire.Version) {
			c := brokertest.Dial(t, h.addr, v)
			c.SendBytes([]byte{0x10, 2, 0, 9})
			c.Closed()
		}, "CONNACK", "malformed packet", false},
		"PUBLISH": {func(t *testing.T, h *host, v wire.Version) {
			c := connected(t, h, v)
			c.Send(&wire.Publish{Topic: "$SYS/x", QoS: 1, ID: 1})
			if a := brokertest.Receive[*wire.Ack](c); a.Code < 0x80 {
				t.Errorf("PUBACK %v", a.Code)
			}
		}, "PUBACK", "not authorized", true},
		"PUBLISH at QoS 2": {func(t *testing.T, h *host, v wire.Version) {
			c := connected(t, h, v)
			c.Send(&wire.Publish{Topic: "$SYS/x", QoS: 2, ID: 1})
			if a := brokertest.Receive[*wire.Ack](c); a.Code < 0x80 {
				t.Errorf("PUBREC %v", a.Code)
			}
		}, "PUBREC", "not authorized", true},
		"SUBSCRIBE": {func(t *testing.T, h *host, v wire.Version) {
			c := connected(t, h, v)
			c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "a"}, {Filter: "b"}}})
			if a := brokertest.Receive[*wire.Suback](c); a.Codes[1] < 0x80 {
				t.Errorf("SUBACK %v", a.Codes)
			}
		}, "SUBACK", "quota exceeded", false},
		"a packet out of place": {func(t *testing.T, h *host, v wire.Version) {
			c := connected(t, h, v)
			c.Send(&wire.Ping{Type: wire.PINGRESP})
			c.Closed()
		}, "DISCONNECT", "protocol error", false},
	} {
		both(t, server.Options{MaxSubscriptions: 1}, func(t *testing.T, h *host, v wire.Version) {
			if c.v5 && v != wire.V5 {
				return
			}
			if got := h.Stats().Refusals; len(got) > 0 {
				t.Errorf("%s: %v before anything was refused", name, got)
			}
			c.do(t, h, v)
			if got := h.Stats().Refusals; got[c.packet][c.cause] != 1 || len(got) != 1 {
				t.Errorf("%s: refusals %v, want one %s: %s", name, got, c.packet, c.cause)
			}
		})
	}
}

func connected(t *testing.T, h *host, v wire.Version) *brokertest.Client {
	t.Helper()
	c, code := connack(t, h, v, wire.Connect{ClientID: "c", CleanStart: true})
	if code != wire.Success {
		t.Fatalf("CONNACK %v", code)
	}
	return c
}
