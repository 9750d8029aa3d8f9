package server_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestListenersComeAndGo: who came in by a listener that stays notices nothing, and one that cannot be
// opened changes nothing.
func TestListenersComeAndGo(t *testing.T) {
	at := func(address string) server.Listener {
		return server.Listener{Network: "tcp", Address: address, Key: address}
	}
	stays, goes, comes := at(brokertest.FreeAddress(t)), at(brokertest.FreeAddress(t)), at(brokertest.FreeAddress(t))
	h := newHost(t, server.Options{Listeners: []server.Listener{stays, goes}})
	a := brokertest.Dial(t, stays.Address, wire.V5)
	a.Connect(wire.Connect{ClientID: "a", CleanStart: true})
	b := brokertest.Dial(t, goes.Address, wire.V5)
	b.Connect(wire.Connect{ClientID: "b", CleanStart: true})

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := h.SetListeners(context.Background(), []server.Listener{comes, at(taken.Addr().String())}); err == nil {
		t.Error("an address in use was taken")
	}
	for _, c := range []*brokertest.Client{a, b} {
		publish(t, c, wire.Publish{Topic: "t", QoS: 1})
	}
	for address, open := range map[string]bool{stays.Address: true, goes.Address: true, comes.Address: false} {
		if nc, err := net.Dial("tcp", address); (err == nil) != open {
			t.Errorf("%s: open %v, want %v", address, err == nil, open)
		} else if open {
			nc.Close()
		}
	}

	if err := h.SetListeners(context.Background(), []server.Listener{comes, stays}); err != nil {
		t.Fatal(err)
	}
	if got := b.Closed(); got != wire.ServerShuttingDown {
		t.Errorf("the client of a listener that is gone: %v", got)
	}
	publish(t, a, wire.Publish{Topic: "t", QoS: 1})
	c := brokertest.Dial(t, comes.Address, wire.V5)
	c.Connect(wire.Connect{ClientID: "c", CleanStart: true})
	if nc, err := net.Dial("tcp", goes.Address); err == nil {
		nc.Close()
		t.Error("a listener that is not wanted is open")
	}
	if got := fmt.Sprint(h.Addrs()); got != fmt.Sprint([]string{comes.Address, stays.Address}) {
		t.Errorf("addresses %s", got)
	}
}

// TestARouteChangesItsFilters: what old and new filters match is owed once, at every moment.
func TestARouteChangesItsFilters(t *testing.T) {
	h := newHost(t, server.Options{})
	r, err := h.journal.OpenReader("bridge/b")
	if err != nil {
		t.Fatal(err)
	}
	route := func(filters ...string) {
		t.Helper()
		x := server.Route{Name: "b", Reader: r, Deliver: func(*broker.Message) {}}
		for _, f := range filters {
			x.Filters = append(x.Filters, server.FilterQoS{Filter: f, QoS: 1})
		}
		if err := h.Route(x); err != nil {
			t.Fatal(err)
		}
	}
	pub := h.client(wire.V5, "pub", false)
	owed := func(topic string, want uint64) {
		t.Helper()
		before := r.Depth()
		publish(t, pub, wire.Publish{Topic: topic, QoS: 1})
		if got := r.Depth() - before; got != want {
			t.Errorf("%s: owed %d times, want %d", topic, got, want)
		}
	}
	route("a", "b/#")
	owed("a", 1)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for i := range 200 {
			route([][]string{{"a", "b/+"}, {"a", "c", "b/#"}}[i%2]...)
		}
	}()
	for range 50 {
		owed("b/x", 1)
	}
	<-changed
	route("c")
	owed("a", 0)
	owed("b/x", 0)
	owed("c", 1)
	h.Unroute(r)
	owed("c", 0)
	if n := h.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}
