package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// TestReadingsAtOnce: while the disk does nothing, subscribers of this process and those without a durable session have each
// reading when it is taken, in order and once; a durable session has it when it is on disk.
func TestReadingsAtOnce(t *testing.T) {
	for _, retain := range []bool{false, true} {
		t.Run(fmt.Sprintf("retained %v", retain), func(t *testing.T) {
			var held sync.RWMutex
			s := planSite(t, fmt.Sprintf("sensors: [{name: air, driver: bme280, bus: simulated, every: 24h, retain: %v}]\n", retain))
			s.opts.seams.openDisk = func(dir string) (journal.FS, error) {
				fs, err := journal.NewDirFS(dir)
				return slowDisk{fs, &held}, err
			}
			here := make(chan string, 100)
			s.before = func(a *Agent) {
				if _, err := a.Subscribe("sensors/site/air/state", func(m *broker.Message) { here <- string(m.Payload) }); err != nil {
					t.Fatal(err)
				}
			}
			s.start()
			address := s.agent.made.server.Addrs()[0].String()
			subscribe := func(id string, qos byte, expiry uint32) *brokertest.Client {
				c := brokertest.Dial(t, address, wire.V5)
				c.Connect(wire.Connect{ClientID: id, CleanStart: true, Properties: wire.Properties{SessionExpiry: &expiry}})
				c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "sensors/site/air/state", QoS: qos}}})
				brokertest.Receive[*wire.Suback](c)
				return c
			}
			passing := []*brokertest.Client{subscribe("qos 0", 0, 0), subscribe("qos 1", 1, 0), subscribe("qos 0 of a durable session", 0, 1000)}
			durable := subscribe("durable", 1, 1000)
			if !s.eventually(func() bool { return s.readings() > 0 }) {
				t.Fatal("nothing is read")
			}

			held.Lock()
			const readings = 5
			for i := range readings {
				s.take("air", float64(i), time.Now())
			}
			check := func(who string, i int, text string) {
				t.Helper()
				if !strings.HasPrefix(text, fmt.Sprintf(`{"value":%d,`, i)) {
					t.Errorf("%s: reading %d is %s", who, i, text)
				}
			}
			for i := range readings {
				check("here", i, <-here)
				for _, c := range passing {
					p := brokertest.Receive[*wire.Publish](c)
					check("passing", i, string(p.Payload))
				}
			}
			if retain { // what is retained is the newest reading, too
				c := subscribe("later", 0, 0)
				if p := brokertest.Receive[*wire.Publish](c); !p.Retain {
					t.Errorf("got %+v", p)
				} else {
					check("later", readings-1, string(p.Payload))
				}
			}
			held.Unlock()
			for i := range readings {
				p := brokertest.Receive[*wire.Publish](durable)
				check("durable", i, string(p.Payload))
				durable.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
			}
			s.take("air", readings, time.Now()) // after it nothing comes again
			for _, c := range append(passing, durable) {
				check("once", readings, string(brokertest.Receive[*wire.Publish](c).Payload))
			}
			check("here, once", readings, <-here)
		})
	}
}
