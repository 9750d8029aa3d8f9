package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
	"holdfast/sensors/simulated"
)

// TestOutputsAreSafeWhateverEndsTheProcess runs the program with a relay that is active low and one that
// is safe when on, and looks at what their lines did, as an oscilloscope would have seen it.
func TestOutputsAreSafeWhateverEndsTheProcess(t *testing.T) {
	g := newProcess(t, "127.0.0.1:1") // an upstream that is never there
	history := filepath.Join(g.dir, "lines")
	// As the board does: pull-up resistors have both relays off.
	if err := os.WriteFile(history, []byte("2026-01-01T00:00:00Z gpio5 input high\n2026-01-01T00:00:00Z gpio6 input high\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := g.write("outputs.yaml", `outputs:
  - {name: pump, driver: gpio-output, bus: simulated, line: 5, active_low: true, safe: off}
  - {name: fan, driver: gpio-output, bus: simulated, line: 6, active_low: true, safe: on}
`)
	// run starts the program and has both outputs leave their safe values.
	run := func() {
		t.Helper()
		g.options = []string{"--line-history", history}
		g.start(g.base, conf)
		c := brokertest.Dial(t, g.addr, wire.V311)
		defer c.Close()
		c.Connect(wire.Connect{ClientID: "c", CleanStart: true})
		c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "outputs/e2e/+/result"}}})
		brokertest.Receive[*wire.Suback](c)
		c.Send(&wire.Publish{Topic: "outputs/e2e/pump/set", Payload: []byte("on")},
			&wire.Publish{Topic: "outputs/e2e/fan/set", Payload: []byte("off")})
		for range 2 {
			if p := brokertest.Receive[*wire.Publish](c); !strings.Contains(string(p.Payload), `"done"`) {
				t.Fatalf("%s: %s", p.Topic, p.Payload)
			}
		}
	}
	levels := func(line string) (s string) {
		data, err := os.ReadFile(history)
		if err != nil {
			t.Fatal(err)
		}
		events, err := simulated.ParseLines(string(data))
		if err != nil {
			t.Fatal(err)
		}
		was := ""
		for _, e := range events {
			level := "L"
			if e.High {
				level = "H"
			}
			if e.Line == line && level != was {
				s += level
				was = level
			}
		}
		return s
	}
	check := func(when, pump, fan string) {
		t.Helper()
		if p, f := levels("gpio5"), levels("gpio6"); p != pump || f != fan {
			t.Errorf("%s: the pump's line went %s and the fan's %s, want %s and %s", when, p, f, pump, fan)
		}
	}
	run()
	check("at first", "HL", "HLH") // the pump on; the fan on at the start and then off
	g.terminate()
	check("after SIGTERM", "HLH", "HLHL")
	run()
	check("at the second start", "HLHL", "HLHLH") // no edge but the commands'
	g.kill()
	check("after SIGKILL, when nobody can do anything", "HLHL", "HLHLH")
	g.start(g.base, conf)
	check("at the start after it", "HLHLH", "HLHLHL")
	g.terminate()
	check("at the end", "HLHLH", "HLHLHL")
	t.Logf("pump %s, fan %s", levels("gpio5"), levels("gpio6"))
}
