package server_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestSys: the names and values that dashboards read, retained, updated, not forged, and never on disk.
func TestSys(t *testing.T) {
	timedWith(t, server.Options{SysInterval: 10 * time.Second, Version: "holdfast 1"}, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		values := map[string]string{}
		var mu sync.Mutex
		cancel, err := s.Subscribe("$SYS/#", func(m *broker.Message) {
			mu.Lock()
			defer mu.Unlock()
			values[m.Topic] = string(m.Payload)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		c := dial(wire.V5)
		c.Connect(wire.Connect{ClientID: "c", CleanStart: true})
		away := dial(wire.V5)
		away.Connect(wire.Connect{ClientID: "away", Properties: wire.Properties{SessionExpiry: ptr(uint32(3600))}})
		subscribe(t, away, "t", 1)
		away.Send(&wire.Disconnect{})
		away.Closed()
		for range 60 {
			publish(t, c, wire.Publish{Topic: "t", QoS: 1, Payload: []byte("x")})
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		for topic, want := range map[string]string{
			"clients/connected": "1", "clients/disconnected": "1", "clients/total": "2",
			"publish/messages/received": "60", "publish/messages/sent": "0", "messages/stored": "60", "subscriptions/count": "2",
		} {
			got := values["$SYS/broker/"+topic]
			if topic == "messages/stored" { // beside what $SYS itself has retained
				n, _ := strconv.Atoi(got)
				kept, _ := strconv.Atoi(values["$SYS/broker/retained messages/count"])
				got = fmt.Sprint(n - kept)
			}
			if got != want {
				t.Errorf("%s: got %q, want %s", topic, got, want)
			}
		}
		for _, topic := range []string{"uptime", "heap/current", "heap/maximum", "bytes/received", "bytes/sent", "messages/received",
			"messages/sent", "store/messages/count", "store/messages/bytes", "publish/messages/dropped", "clients/maximum", "clients/expired",
			"load/messages/received/1min", "load/publish/received/5min", "load/bytes/sent/15min", "load/connections/1min"} {
			if values["$SYS/broker/"+topic] == "" {
				t.Errorf("%s is missing", topic)
			}
		}
		if rate, _ := strconv.ParseFloat(values["$SYS/broker/load/publish/received/1min"], 64); rate < 25 || rate > 60 {
			t.Errorf("60 publishes in the last minute: a load of %v", rate)
		}
		mu.Unlock()
		subscribe(t, c, "$SYS/broker/version", 1)
		if p := receive(t, c); string(p.Payload) != "holdfast 1" || !p.Retain {
			t.Errorf("got %+v", p)
		}
		forger := dial(wire.V5)
		if ack := forger.Connect(wire.Connect{ClientID: "f", Will: &wire.Will{Topic: "$SYS/broker/version"}}); ack.Code != wire.NotAuthorized {
			t.Errorf("a will to $SYS: %v", ack.Code)
		}
		c.Close()
	})
}
