package bridge_test

import (
	"context"
	"fmt"
	"net"
	"sync"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/outbox"
	"holdfast/broker/server"
)

// A bridge sends what is in a journal for it to an upstream broker, here another server of this module, under the names that
// its rules give.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	upstream, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	arrived, err := upstream.OpenReader("arrived")
	if err != nil {
		fmt.Println(err)
		return
	}
	arrived.Attach()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	anonymous := true
	srv, err := server.New(server.Options{Journal: upstream, Listeners: []server.Listener{{
		Open: func(context.Context) (net.Listener, error) { return l, nil }, Anonymous: &anonymous,
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := srv.Route(server.Route{
		Name: "arrived", Filters: []server.FilterQoS{{Filter: "sites/#", QoS: 1}}, Reader: arrived, Deliver: func(*broker.Message) {},
	}); err != nil {
		fmt.Println(err)
		return
	}
	running.Go(func() { _ = srv.Run(ctx) })

	here, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	reader, err := here.OpenReader("bridge/cloud")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, payload := range []string{"21.5", "21.6"} { // before there is a connection
		m := &broker.Message{Topic: "sensors/cellar", Payload: []byte(payload), QoS: 1}
		if err := here.Append(journal.Entry{Message: m, Owed: []journal.Owed{{Reader: reader, QoS: 1}}}); err != nil {
			fmt.Println(err)
		}
	}
	b, err := bridge.New(bridge.Options{
		Options:   outbox.Options{Name: "cloud", Reader: reader},
		Upstreams: []string{"mqtt://" + l.Addr().String()}, ClientID: "greenhouse-1",
		Out: []bridge.Rule{{Filter: "sensors/#", QoS: 1, Strip: "sensors/", Prefix: "sites/north/"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	running.Go(func() { _ = b.Run(ctx) })

	for range 2 {
		d, err := arrived.Next(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %s\n", d.Message.Topic, d.Message.Payload)
		arrived.Ack(d.Seq)
	}
	// Output:
	// sites/north/cellar: 21.5
	// sites/north/cellar: 21.6
}
