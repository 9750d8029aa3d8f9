package gateway

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

func TestCommandsMoveOutputs(t *testing.T) {
	s := newSite(t, relays)
	first := s.state("pump", 0, outputs.ByStart)
	for i, payload := range []string{"on", "true", "1", " ON\n", `{"value":true}`, `{"value":"on","id":"a1","by":"a person"}`, `{"value":1.0}`} {
		for qos := range byte(3) {
			if qos == 2 {
				continue // the client above does not do its handshake
			}
			s.command("pump", "off")
			s.result("pump")
			text := strings.ReplaceAll(payload, "a1", fmt.Sprintf("a%d%d", i, qos))
			s.publish(wire.Publish{Topic: "outputs/site/pump/set", Payload: []byte(text), QoS: qos})
			if r := s.result("pump"); r.Result != outputs.Done || s.pi.GPIO(1).High() {
				t.Errorf("%s: %+v, off %v", text, r, s.pi.GPIO(1).High())
			}
		}
	}
	m := s.hear("outputs/site/pump", func(m message) bool { return m.ID == "a51" })
	if m.Why != "a person" || m.Seq <= first.Seq || *m.Value != 1 {
		t.Errorf("state %+v", m)
	}
	s.command("fan", "0.75")
	s.state("fan", 0.75, outputs.ByCommand)
	if now, _ := s.pi.Chip("simulated", 0x40).PWM(); now[2] != 0.75 {
		t.Errorf("fan at %v", now[2])
	}
}

func TestRefusedCommandsAreAnsweredWithTheirReason(t *testing.T) {
	s := newSite(t, relays+`  - {name: valve, driver: gpio-output, bus: simulated, line: 3, active_low: true, safe: off, lease: 1m, require_time: true}
`)
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	for _, tt := range []struct{ name, payload, reason string }{
		{"pump", "half", "value: want on or off"},
		{"pump", "0.5", "value: got 0.5, want on or off"},
		{"pump", "", "value: want on or off"},
		{"pump", "NaN", "value: want on or off"},
		{"fan", "1.01", "value: got 1.01, want on, off or a number from 0 to 1"},
		{"fan", "\x00\xff", "value: want on, off"},
		{"nobody", "on", "there is no output of this name"},
		{"pump", "{", "JSON: unexpected EOF: want value, id"},
		{"pump", `{"vlaue":1}`, `value: missing; unknown: "vlaue"`},
		{"pump", `{"value":1} x`, "JSON: something follows"},
		{"pump", `{"id":"x"}`, "value: missing"},
		{"pump", `{"value":null}`, "value: missing"},
		{"pump", `{"value":[1]}`, "value: want on or off"},
		{"pump", `{"value":1,"id":"` + strings.Repeat("x", 129) + `"}`, "id: 129 bytes, want at most 128"},
		{"pump", `{"value":1,"lease":60}`, "JSON:"},
		{"pump", `{"value":1,"lease":"60"}`, `lease: got "60", want a duration`},
		{"pump", `{"value":1,"lease":"-1s"}`, "lease: got"},
		{"pump", `{"value":1,"time":"yesterday"}`, "JSON:"},
		{"pump", `{"value":1,"time":"` + at(-31*time.Second) + `"}`, "ago, want at most 30s"},
		{"pump", `{"value":1,"time":"` + at(time.Hour) + `"}`, "clock or the gateway's is wrong"},
		{"pump", `{"value":1,"expires":"` + at(-time.Second) + `"}`, "too old: expired"},
		{"pump", strings.Repeat(" ", 4<<10+1), "bytes, want at most 4096"},
		{"valve", "on", "does not say how old it is"},
		{"valve", `{"value":1,"time":"` + at(0) + `","lease":"2m"}`, "lease: got 2m0s, want at most 1m0s"},
	} {
		s.command(tt.name, tt.payload)
		if r := s.result(tt.name); r.Result != outputs.Refused || !strings.Contains(r.Reason, tt.reason) {
			t.Errorf("%s %.60q: got %s %q, want it refused for %q", tt.name, tt.payload, r.Result, r.Reason, tt.reason)
		}
	}
	s.publish(wire.Publish{Topic: "outputs/site/pump/set", Payload: []byte("on"), QoS: 1, Retain: true})
	if r := s.result("pump"); !strings.Contains(r.Reason, "retained") {
		t.Errorf("retained: %+v", r)
	}
	s.publish(wire.Publish{Topic: "outputs/site/pump/set", Payload: []byte("on"), QoS: 1, Expires: true})
	if r := s.result("pump"); !strings.Contains(r.Reason, "message expiry interval") {
		t.Errorf("expired: %+v", r)
	}
	s.publish(wire.Publish{Topic: "outputs/site/valve/set", Payload: []byte("on"), QoS: 1, Expires: true, Expiry: 10})
	if r := s.result("valve"); r.Result != outputs.Done || r.Until == nil {
		t.Errorf("in time: %+v", r)
	}
	if moves := len(s.pi.GPIO(1).History()); moves != 2 { // pulled up, and driven to off at the start
		t.Errorf("%d changes at the pump's line", moves)
	}
	// Keys that mean nothing are named, and do no harm.
	s.command("pump", `{"value":1,"vlaue":1,"unit":""}`)
	if r := s.result("pump"); r.Result != outputs.Done || !slices.Equal(r.Ignored, []string{`"vlaue"`}) {
		t.Errorf("got %+v", r)
	}
}

// TestCommandsWithoutAClock: a clock that is not set cannot show how old a command is by its time. Commands of the same
// sender can.
func TestCommandsWithoutAClock(t *testing.T) {
	s := planSite(t, relays)
	s.noTime.Store(true)
	s.start()
	ahead := 1000 * time.Hour // the sender's clock is right, and this one is not
	at := func(d time.Duration) string { return time.Now().Add(ahead + d).UTC().Format(time.RFC3339Nano) }
	for i, tt := range []struct{ payload, refused string }{
		{`{"value":1,"expires":"` + at(time.Hour) + `"}`, "clock is not set"}, // of a sender that has sent nothing else
		{`{"value":1,"time":"` + at(0) + `"}`, ""},
		{`{"value":0,"time":"` + at(-31*time.Second) + `"}`, "too old: sent 31s ago"},
		{`{"value":0,"expires":"` + at(time.Hour) + `"}`, ""},
		{`{"value":1,"expires":"` + at(-time.Minute) + `"}`, "too old: expired"},
		{`{"value":1,"time":"` + at(-20*time.Second) + `","expires":"` + at(-10*time.Second) + `"}`, "too old: expired"},
		{`{"value":1,"time":"` + at(-20*time.Second) + `","expires":"` + at(time.Minute) + `"}`, ""},
		{`off`, ""},
	} {
		s.command("pump", tt.payload)
		r := s.result("pump")
		if want := map[bool]outputs.Outcome{true: outputs.Done, false: outputs.Refused}[tt.refused == ""]; r.Result != want || !strings.Contains(r.Reason, tt.refused) {
			t.Errorf("%d, %s: got %s %q, want %q", i, tt.payload, r.Result, r.Reason, tt.refused)
		}
	}
}

func TestACommandIsCarriedOutOnceOverARestart(t *testing.T) {
	s := newSite(t, relays)
	for _, done := range []int{1, 0} {
		s.command("pump", `{"value":"on","id":"same"}`)
		s.command("pump", `{"value":"off","id":"same"}`)
		for range 2 {
			switch r := s.result("pump"); {
			case r.Result == outputs.Done:
				done--
			case !strings.Contains(r.Reason, `id "same": it was taken before`) || r.ID != "same":
				t.Errorf("got %+v", r)
			}
		}
		if done != 0 {
			t.Errorf("%d too few were carried out", done)
		}
		s.stop()
		s.start()
	}
	driven := 0
	for _, e := range s.pi.GPIO(1).History() {
		if e.Driven && !e.High {
			driven++
		}
	}
	if driven != 1 {
		t.Errorf("switched on %d times", driven)
	}
	// Only so many ids are remembered, and the newest are.
	for i := range 64 + 1 {
		s.command("pump", fmt.Sprintf(`{"value":"off","id":"n%d"}`, i))
		if r := s.result("pump"); r.Result != outputs.Done {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	s.command("pump", `{"value":"off","id":"n1"}`)
	if r := s.result("pump"); r.Result != outputs.Refused {
		t.Errorf("got %+v", r)
	}
}

// What was acknowledged and not carried out before a crash is answered after it.
func TestACommandFromBeforeACrashIsJudgedByItsAge(t *testing.T) {
	s := newSite(t, relays)
	s.stop()
	fs, err := journal.NewDirFS(filepath.Join(s.dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := j.OpenReader("outputs")
	if err != nil {
		t.Fatal(err)
	}
	m := &broker.Message{Topic: "outputs/site/pump/set", Payload: []byte("on"), QoS: 1, Expires: true}
	if err := errors.Join(j.AppendDurable(t.Context(), journal.Entry{Message: m, Owed: []journal.Owed{{Reader: reader, QoS: 1}}}), j.Close()); err != nil {
		t.Fatal(err)
	}
	answers := make(chan string, 10)
	s.before = func(a *Agent) { // the answer may come before any client does
		if _, err := a.Subscribe("outputs/site/pump/result", func(m *broker.Message) { answers <- string(m.Payload) }); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	if a := <-answers; !strings.Contains(a, `"result":"refused","reason":"too old`) {
		t.Errorf("got %s", a)
	}
	s.stop()
	for _, e := range s.pi.GPIO(1).History() {
		if !e.High {
			t.Errorf("switched on: %v", e)
		}
	}
}

func TestStatesAreRetainedAndNumbered(t *testing.T) {
	s := newSite(t, relays)
	s.command("pump", "on")
	on := s.state("pump", 1, outputs.ByCommand)
	s.stop()
	s.start()
	start := s.state("pump", 0, outputs.ByStart)
	if start.Seq < on.Seq+2 { // by stop is between them
		t.Errorf("numbers %d and then %d", on.Seq, start.Seq)
	}
}

func TestLeaseEnds(t *testing.T) {
	s := newSite(t, relays)
	s.command("pump", `{"value":"on","lease":"30ms"}`)
	if r := s.result("pump"); r.Result != outputs.Done || r.Until == nil {
		t.Errorf("got %+v", r)
	}
	s.state("pump", 0, outputs.ByLease)
	if !s.pi.GPIO(1).High() {
		t.Error("still on")
	}
}

func TestLinkLossBringsTheSafeValue(t *testing.T) {
	upstream := newSite(t, "outputs: [{name: x, driver: gpio-output, bus: simulated, line: 9, safe: off}]")
	link := brokertest.NewLink(t, upstream.agent.made.server.Addrs()[0].String())
	link.Join()
	s := newSite(t, fmt.Sprintf(`bridges: [{name: cloud, upstream: ["mqtt://%s"], out: [{filter: "x"}]}]
outputs:
  - {name: pump, driver: gpio-output, bus: simulated, line: 1, active_low: true, safe: off, link: cloud, link_timeout: 1s}
  - {name: lamp, driver: gpio-output, bus: simulated, line: 2, active_low: true, safe: off}
`, link.Addr()))
	s.command("pump", "on")
	s.command("lamp", "on")
	s.state("lamp", 1, outputs.ByCommand)
	link.Cut()
	if m := s.state("pump", 0, outputs.ByLink); !strings.Contains(m.Why, "cloud was lost for 1s") {
		t.Errorf("got %+v", m)
	}
	if !s.pi.GPIO(1).High() || s.pi.GPIO(2).High() {
		t.Error("the wrong one moved")
	}
}

func TestAnUnpluggedOutputSaysSoAndComesBackSafe(t *testing.T) {
	s := newSite(t, relays)
	s.command("fan", "1")
	s.state("fan", 1, outputs.ByCommand)
	chip := s.pi.Chip("simulated", 0x40)
	chip.Fault(simulated.Unplugged)
	s.command("fan", "0.5")
	s.hear("status/site/fan", func(m message) bool { return m.State == "absent" })
	chip.Fault(0)
	s.hear("status/site/fan", func(m message) bool { return m.State == "ok" })
	if now, _ := chip.PWM(); now[2] != 0.25 {
		t.Errorf("fan at %v, want its safe value", now[2])
	}
}
