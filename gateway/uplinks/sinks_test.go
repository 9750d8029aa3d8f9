package uplinks

import (
	"errors"
	"slices"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/outbox"
	"holdfast/broker/outbox/outboxtest"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// within is far beyond what anything here takes.
const within = time.Minute

// TestSink: a bridge whose upstream is no MQTT broker has its backlog, reload, status, refusals and dead letters as any
// other, from a sink that is one row of the table.
func TestSink(t *testing.T) {
	b := newBench(t)
	var made []outbox.SinkOptions
	scripted := outboxtest.NewScripted(false)
	wrong := errors.New("no such database")
	b.opts.Sinks = []outbox.SinkKind{{Scheme: "script", New: func(o outbox.SinkOptions) (outbox.Sink, error) {
		if o.Upstreams[0].Host == "wrong:1" {
			return nil, wrong
		}
		made = append(made, o)
		return scripted, nil
	}}}
	configured := func(host, keys string) *config.Config {
		cfg := b.load(`bridges: [{name: db, upstream: ["mqtt://` + host + `:1"], out: [{filter: "t/#", strip: t/, prefix: x/}], losses: off` + keys + `}]`)
		cfg.Bridges[0].Upstream[0].URL = "script://" + host + ":1/path"
		return cfg
	}
	apply := func(cfg *config.Config) {
		t.Helper()
		change, err := b.Prepare(cfg)
		if err != nil {
			t.Fatal(err)
		}
		change.Apply()
	}
	publish := func(payloads ...string) {
		t.Helper()
		for _, p := range payloads {
			done := make(chan error, 1)
			if err := b.server.Publish(&broker.Message{Topic: "t/a", Payload: []byte(p), QoS: 1}, server.PublishOptions{Done: func(err error) { done <- err }}); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	receive := func(p outboxtest.Peer, want string) uint64 {
		t.Helper()
		m, ok := p.Receive(within)
		if !ok || string(m.Payload) != want {
			t.Fatalf("got %q, %v, want %q", m.Payload, ok, want)
		}
		return m.Ref
	}
	until := func(what string, good func(s status.Bridge) bool) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(within); !good(b.Status()[0]); <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, b.Status()[0])
			}
		}
	}

	if _, err := b.Prepare(configured("wrong", "")); !errors.Is(err, wrong) {
		t.Errorf("got %v, want the sink's error", err)
	}
	apply(configured("a", ""))
	o := made[len(made)-1]
	if o.Bridge != "db" || o.Upstreams[0].String() != "script://a:1/path" || o.Rules.Match("t/a") != 0 || o.Rules[0].Prefix != "x/" {
		t.Errorf("the sink is made of %+v", o)
	}
	peer := scripted.Accept()
	publish("one", "two", "three")
	if err := b.server.Publish(&broker.Message{Topic: "t/a"}, server.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	first, second := receive(peer, "one"), receive(peer, "two")
	receive(peer, "three")
	peer.Answer(first, outbox.Taken)
	peer.Answer(second, outbox.Never)
	until("one taken, one refused", func(s status.Bridge) bool {
		return s.Connected && s.ClientID == "" && s.Acknowledged == 1 && s.Refused == 1 && s.Depth == 1 && s.QoS0Dropped == 1
	})
	letters := 0
	for _, r := range b.journal.Readers() {
		if r.Name == DeadReader {
			letters = int(r.Depth)
		}
	}
	if letters != 1 {
		t.Errorf("%d dead letters, want 1", letters)
	}

	// Another configuration: what had no answer is sent again, by another sink of the same row.
	peer.End() // the change would wait for its answer
	scripted = outboxtest.NewScripted(true)
	apply(configured("b", ", window: 7"))
	peer = scripted.Accept()
	peer.Answer(receive(peer, "three"), outbox.Taken)
	until("all taken", func(s status.Bridge) bool { return s.Depth == 0 && s.Acknowledged == 1 })
	if hosts := []string{made[0].Upstreams[0].Host, made[len(made)-1].Upstreams[0].Host}; !slices.Equal(hosts, []string{"a:1", "b:1"}) {
		t.Errorf("sinks are made for %v", hosts)
	}
	if err := b.Health(); err != nil {
		t.Errorf("connected, and got %v", err)
	}
}
