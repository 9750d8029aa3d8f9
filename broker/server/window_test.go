package server_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// slowDisk holds commits back while told to.
type slowDisk struct {
	journal.FS
	hold    atomic.Bool
	waiting chan struct{} // has a value for each commit that is held back
	release chan struct{} // closed to let them go on
}

func (d *slowDisk) Open(name string, write bool) (journal.File, error) {
	f, err := d.FS.Open(name, write)
	return slowFile{f, d}, err
}

type slowFile struct {
	journal.File
	disk *slowDisk
}

func (f slowFile) Datasync() error {
	if f.disk.hold.Load() {
		f.disk.waiting <- struct{}{}
		<-f.disk.release
	}
	return f.File.Datasync()
}

// TestSubscribingWhileARetainedMessageIsCommitted: a client that subscribes between the search for subscribers
// and the commit gets the message, once.
func TestSubscribingWhileARetainedMessageIsCommitted(t *testing.T) {
	disk := &slowDisk{waiting: make(chan struct{}, 100), release: make(chan struct{})}
	h := &host{t: t, dir: t.TempDir(), disk: func(fs journal.FS) journal.FS { disk.FS = fs; return disk }}
	h.start()
	t.Cleanup(func() { h.stop() })
	pub := h.client(wire.V5, "pub", false)
	publish(t, pub, wire.Publish{Topic: "r/old", QoS: 1, Retain: true, Payload: []byte("x")})
	// The retained messages of a subscription have been looked up when this one comes.
	looked := func(c *brokertest.Client) {
		if p := receive(t, c); p.Topic != "r/old" || !p.Retain {
			t.Fatalf("got %+v", p)
		}
	}
	early, again := h.client(wire.V5, "early", false), h.client(wire.V5, "again", false)
	for _, c := range []*brokertest.Client{early, again} {
		subscribe(t, c, "r/+", 1)
		looked(c)
	}

	disk.hold.Store(true)
	pub.Send(&wire.Publish{Topic: "r/new", QoS: 1, ID: 9, Retain: true, Payload: []byte("x")})
	<-disk.waiting
	subscribe(t, again, "r/+", 1)
	looked(again)
	clients := []*brokertest.Client{early, again}
	for i, qos := range []byte{0, 1, 2} {
		for _, filter := range []string{"r/+", "$share/" + string(rune('a'+i)) + "/r/+"} {
			c := h.client(wire.V5, filter+string(rune('0'+qos)), false)
			subscribe(t, c, filter, qos)
			if filter == "r/+" {
				looked(c)
			}
			clients = append(clients, c)
		}
	}
	heard := make(chan string, 100)
	cancel, err := h.Subscribe("r/#", func(m *broker.Message) { heard <- m.Topic })
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	disk.hold.Store(false)
	close(disk.release)

	if a := brokertest.Receive[*wire.Ack](pub); a.ID != 9 || a.Code != 0 {
		t.Fatalf("PUBACK: %+v", a)
	}
	late := h.client(wire.V5, "late", false)
	subscribe(t, late, "r/new", 0)
	if p := receive(t, late); p.Topic != "r/new" || !p.Retain {
		t.Errorf("after the commit: got %+v", p)
	}
	publish(t, pub, wire.Publish{Topic: "r/end", QoS: 1, Payload: []byte("x")})
	for i, c := range clients {
		got := []string{receive(t, c).Topic, receive(t, c).Topic}
		if !slices.Equal(got, []string{"r/new", "r/end"}) {
			t.Errorf("client %d: got %q", i, got)
		}
	}
	if got := []string{<-heard, <-heard}; !slices.Equal(got, []string{"r/new", "r/end"}) {
		t.Errorf("function: got %q", got)
	}
}
