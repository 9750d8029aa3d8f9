package diagnose_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/client"
	"holdfast/broker/diagnose"
	"holdfast/broker/dial"
	"holdfast/broker/wire"
)

func run(t *testing.T, address string, change func(*diagnose.Options)) (good bool, steps string) {
	t.Helper()
	u, err := dial.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	o := diagnose.Options{
		URL: u, Dialer: dial.New(dial.Options{}), Credentials: func() (string, string, error) { return "", "", nil },
		ClientID: "pi-test", Topics: []string{"a/holdfast-test"}, Timeout: time.Minute,
		Clock: func() (time.Time, bool) { return time.Now(), true },
	}
	change(&o)
	var b strings.Builder
	good = diagnose.Run(t.Context(), o, func(s diagnose.Step) {
		b.WriteString(string(s.Outcome) + " " + s.Name + ": " + s.Answer + " -> " + s.Remedy + "\n")
	})
	return good, b.String()
}

// answer is a broker that speaks 3.1.1 only, answers subscriptions with suback, and acknowledges what it drops.
func answer(suback wire.Code) func() brokertest.Answer {
	return func() brokertest.Answer {
		return func(_ *tls.ConnectionState, p wire.Packet) ([]wire.Packet, error) {
			switch p := p.(type) {
			case *wire.Connect:
				if p.Version == wire.V5 {
					return nil, brokertest.ErrHangUp
				}
				return []wire.Packet{&wire.Connack{}}, nil
			case *wire.Subscribe:
				return []wire.Packet{&wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: []wire.Code{suback}}}, nil
			case *wire.Publish:
				return []wire.Packet{&wire.Ack{Type: wire.PUBACK, ID: p.ID}}, nil
			}
			return nil, nil
		}
	}
}

func TestBrokersThatSayLittle(t *testing.T) {
	for _, tt := range []struct {
		what   string
		suback wire.Code
		in     []client.Subscription
		good   bool
		wants  []string
	}{
		{"dropped", 1, nil, false, []string{"ok connect: accepted, MQTT 3.1.1", "ok publish: a/holdfast-test: acknowledged", "FAIL round trip: a/holdfast-test: acknowledged, and not handed on within", "the right to write"}},
		{"not readable", 0x80, nil, true, []string{"warn subscribe: a/holdfast-test: refused", "ok publish", "- round trip: nothing can be read here"}},
		{"not readable and needed", 0x80, []client.Subscription{{Filter: "cmd/#", QoS: 1}}, false, []string{"FAIL subscribe: in: cmd/#: refused: unspecified error (0x80)", "the right to read cmd/#", "warn subscribe: a/holdfast-test: refused", "ok publish"}},
		{"less than needed", 0, []client.Subscription{{Filter: "cmd/#", QoS: 1}}, false, []string{"warn subscribe: in: cmd/#: granted QoS 0, want 1", "qos: 0"}},
		{"as needed", 1, []client.Subscription{{Filter: "cmd/#", QoS: 1}, {Filter: "x/+", QoS: 0}}, false, []string{"ok subscribe: in: cmd/#, x/+"}},
	} {
		s := brokertest.NewScript(t, nil, answer(tt.suback))
		good, steps := run(t, "mqtt://"+s.Addr(), func(o *diagnose.Options) { o.Timeout, o.In = 300*time.Millisecond, tt.in })
		for _, want := range tt.wants {
			if good != tt.good || !strings.Contains(steps, want) {
				t.Errorf("%s: %v, want %v and %q in\n%s", tt.what, good, tt.good, want, steps)
			}
		}
	}
}

// TestClock: the clock is compared with what the proxy tells.
func TestClock(t *testing.T) {
	s := brokertest.NewScript(t, nil, answer(0x80))
	p := brokertest.NewProxy(t, s.Addr(), "")
	p.Start()
	for _, tt := range []struct {
		ahead  time.Duration
		synced bool
		want   string
	}{
		{0, true, "ok clock: the same as that of the proxy; this machine's clock is synchronised"},
		{time.Hour, true, "warn clock: 1h0m0s ahead of that of the proxy"},
		{0, false, "warn clock: the same as that of the proxy; nothing has set"},
	} {
		good, steps := run(t, "mqtt://broker.example", func(o *diagnose.Options) {
			o.Dialer = dial.New(dial.Options{Proxy: dial.Proxy{URL: p.URL}})
			o.Clock = func() (time.Time, bool) { return time.Now().Add(tt.ahead), tt.synced }
		})
		if !good || !strings.Contains(steps, tt.want) {
			t.Errorf("want %q in\n%s", tt.want, steps)
		}
	}
}

// TestEachRuleIsTried: an upstream that ends the connection at one rule does not hide what it says to the others.
func TestEachRuleIsTried(t *testing.T) {
	takes := func() brokertest.Answer {
		return func(_ *tls.ConnectionState, p wire.Packet) ([]wire.Packet, error) {
			switch p := p.(type) {
			case *wire.Connect:
				return []wire.Packet{&wire.Connack{}}, nil
			case *wire.Subscribe:
				switch p.Subscriptions[0].Filter {
				case "in/closed":
					return nil, brokertest.ErrHangUp
				case "in/refused":
					return []wire.Packet{&wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: []wire.Code{wire.NotAuthorized}}}, nil
				}
				return []wire.Packet{&wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: []wire.Code{1}}}, nil
			case *wire.Publish:
				if p.Topic == "out/closed" {
					return nil, brokertest.ErrHangUp
				}
				return []wire.Packet{&wire.Ack{Type: wire.PUBACK, ID: p.ID}, &wire.Publish{Topic: p.Topic, Payload: p.Payload}}, nil
			}
			return nil, nil
		}
	}
	for _, version := range []string{"5", "3.1.1"} {
		s := brokertest.NewScript(t, nil, takes)
		good, steps := run(t, "mqtt://"+s.Addr(), func(o *diagnose.Options) {
			o.V311 = version == "3.1.1"
			o.Topics = []string{"out/a", "out/closed", "out/b"}
			for _, f := range []string{"in/closed", "in/a", "in/refused", "in/b"} {
				o.In = append(o.In, client.Subscription{Filter: f, QoS: 1})
			}
		})
		for _, want := range []string{
			"FAIL subscribe: in: subscribe to in/closed", "FAIL subscribe: in: in/refused: refused: ", "-> give this user the right to read in/refused",
			"ok subscribe: in: in/a, in/b", "ok subscribe: out/a, out/closed, out/b", "FAIL publish: out/closed", "ok publish: out/a, out/b", "ok round trip",
		} {
			if good || !strings.Contains(steps, want) {
				t.Errorf("%s: good %v, want %q in\n%s", version, good, want, steps)
			}
		}
	}
}
