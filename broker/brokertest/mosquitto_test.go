package brokertest

import (
	"net"
	"testing"

	"holdfast/broker/wire"
)

// connect makes an MQTT connection and returns the server's answer.
func connect(t *testing.T, address string) *wire.Connack {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	packet := wire.Append(nil, wire.V311, &wire.Connect{Version: wire.V311, CleanStart: true, ClientID: "probe"})
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewReader(c, 0).ReadPacket()
	if err != nil {
		t.Fatal(err)
	}
	ack, ok := p.(*wire.Connack)
	if !ok {
		t.Fatalf("got %T, want a CONNACK", p)
	}
	return ack
}

func TestMosquitto(t *testing.T) {
	m := StartMosquitto(t, MosquittoOptions{Persistence: true, Extra: []string{"max_inflight_messages 7"}})
	if m.URL() != "mqtt://"+m.Addr() {
		t.Errorf("got %s for %s", m.URL(), m.Addr())
	}
	for _, end := range []func(){m.Kill, m.Stop, m.Kill} {
		if ack := connect(t, m.Addr()); ack.Code != wire.Success {
			t.Errorf("got %v", ack.Code)
		}
		end()
		if c, err := net.Dial("tcp", m.Addr()); err == nil {
			c.Close()
			t.Error("still listens")
		}
		end() // again is nothing
		m.Start()
	}
}

func TestMosquittoThatCannotStart(t *testing.T) {
	m := StartMosquitto(t, MosquittoOptions{})
	other := &Mosquitto{t: t, program: m.program, address: m.Addr(), config: m.config + ".missing"}
	m.Kill()
	if err := other.start(); err == nil {
		other.Kill()
		t.Error("started without a configuration")
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	if err := m.start(); err == nil {
		t.Error("started twice")
	}
}
