package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
	"holdfast/gateway/config"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// site is a gateway in a directory of its own, with a simulated Pi, and a client that watches it.
type site struct {
	t      *testing.T
	dir    string
	config string
	pi     *simulated.Pi
	agent  *Agent
	client *brokertest.Client
	heard  []*wire.Publish // and not yet looked for
	before func(*Agent)    // called before the gateway runs; may be nil
	opts   Options
	noTime atomic.Bool // the clock is not synchronised
	stop   func()
	id     uint16
}

func newSite(t *testing.T, outputs string) *site {
	s := planSite(t, outputs)
	s.start()
	return s
}

// planSite is a site that is not started.
func planSite(t *testing.T, outputs string) *site {
	s := &site{t: t, dir: t.TempDir(), pi: simulated.New(simulated.Options{})}
	s.opts.Pi = s.pi
	s.opts.seams.clockSynced = func() bool { return !s.noTime.Load() }
	s.config = fmt.Sprintf("device: {id: site}\ndata_dir: %s\njournal: {max_size: 32MiB, keep_free: 0B}\nweb: {url: off}\nbroker: {listeners: [{url: \"mqtt://127.0.0.1:0\"}]}\n%s", s.dir, outputs)
	for line := range 10 {
		s.pi.GPIO(line).Set(true) // relays' pull-up resistors
	}
	return s
}

func (s *site) load() *config.Config {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte(s.config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cfg, err := config.Load([]string{file}, config.Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()})
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg
}

// start starts the gateway and subscribes to what it says. Retained states come first.
func (s *site) start() {
	s.t.Helper()
	cfg := s.load()
	var err error
	if s.agent, err = New(cfg, s.opts); err != nil {
		s.t.Fatal(err)
	}
	if s.before != nil {
		s.before(s.agent)
	}
	said := make(chan struct{}, 100)
	if _, err := s.agent.Subscribe("outputs/+/+", func(*broker.Message) {
		select {
		case said <- struct{}{}:
		default:
		}
	}); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.agent.Run(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(s.stop)
	for range cfg.Outputs {
		<-said // the states at the start are retained
	}
	s.client = brokertest.Dial(s.t, s.agent.made.server.Addrs()[0].String(), wire.V5)
	s.client.Connect(wire.Connect{ClientID: "watch", CleanStart: true})
	s.client.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "outputs/#"}, {Filter: "status/+/+"}, {Filter: "sensors/#"}}})
	brokertest.Receive[*wire.Suback](s.client)
}

// message is what the gateway said, with every key that any of its payloads has.
type message struct {
	Value   *float64
	By      outputs.Cause
	Why, ID string
	Seq     uint64
	Result  outputs.Outcome
	Reason  string
	State   string
	Until   *time.Time
	Ignored []string
}

// hear returns the next message on a topic of the gateway's that ok accepts. Those on other
// topics wait until they are asked for.
func (s *site) hear(topic string, ok func(m message) bool) (m message) {
	s.t.Helper()
	var last string
	for i := 0; ; {
		if i == len(s.heard) {
			p, err := s.client.Next()
			if err != nil {
				s.t.Fatalf("%s: waited in vain, last was %s: %v", topic, last, err)
			}
			if pub, is := p.(*wire.Publish); is {
				s.heard = append(s.heard, pub)
			}
			continue
		}
		pub := s.heard[i]
		if pub.Topic != topic {
			i++
			continue
		}
		s.heard = slices.Delete(s.heard, i, i+1)
		last = string(pub.Payload)
		m = message{}
		if err := json.Unmarshal(pub.Payload, &m); err != nil {
			s.t.Fatalf("%s: %s: %v", topic, pub.Payload, err)
		}
		if ok(m) {
			return m
		}
	}
}

func (s *site) state(name string, value float64, by outputs.Cause) message {
	s.t.Helper()
	return s.hear("outputs/site/"+name, func(m message) bool { return m.Value != nil && *m.Value == value && m.By == by })
}

func (s *site) publish(p wire.Publish) {
	s.t.Helper()
	if p.QoS > 0 {
		s.id++
		p.ID = s.id
	}
	s.client.Send(&p)
}

func (s *site) command(name, payload string) {
	s.t.Helper()
	s.publish(wire.Publish{Topic: "outputs/site/" + name + "/set", Payload: []byte(payload), QoS: 1})
}

func (s *site) result(name string) message {
	s.t.Helper()
	return s.hear("outputs/site/"+name+"/result", func(message) bool { return true })
}

const relays = `outputs:
  - {name: pump, driver: gpio-output, bus: simulated, line: 1, active_low: true, safe: off}
  - {name: fan, driver: pca9685, bus: simulated, channel: 2, safe: 0.25}
`
