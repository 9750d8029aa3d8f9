package server_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"holdfast/broker"
	"holdfast/broker/client"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/server"
)

// A server keeps what is durable in a journal. Clients come in by its listeners, and this process publishes and subscribes
// without a connection.
func Example() {
	j, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer j.Close() // after the server, which does not close it
	srv, err := server.New(server.Options{
		Journal: j, Anonymous: true,
		Listeners: []server.Listener{{Network: "tcp", Address: "127.0.0.1:0"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error)
	go func() { ended <- srv.Run(ctx) }()
	addr := srv.Addrs()[0] // waits until the listeners are open

	// A client of the network subscribes.
	received := make(chan client.Message, 2)
	c, err := client.Connect(ctx, client.Options{
		URL: &url.URL{Scheme: "mqtt", Host: addr.String()}, ClientID: "display", Timeout: 10 * time.Second,
		Dial: func(ctx context.Context, u *url.URL) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		},
		Receive: func(m client.Message) bool {
			received <- m
			return true
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Subscribe(ctx, []client.Subscription{{Filter: "cellar/#", QoS: 1}}); err != nil {
		fmt.Println(err)
		return
	}

	// This process subscribes too: the function gets each message as it is handed to the subscribers.
	seen := make(chan *broker.Message, 2)
	unsubscribe, err := srv.Subscribe("cellar/lamp", func(m *broker.Message) { seen <- m })
	if err != nil {
		fmt.Println(err)
		return
	}

	// This process publishes. A retained message is durable: Done is called when it is on disk.
	durable := make(chan error, 1)
	m := &broker.Message{Topic: "cellar/temperature", Payload: []byte("21.5"), QoS: 1, Retain: true}
	if err := srv.Publish(m, server.PublishOptions{Done: func(err error) { durable <- err }}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("on disk:", <-durable == nil)
	got := <-received
	fmt.Printf("%s: %s at QoS %d\n", got.Topic, got.Payload, got.QoS)

	// The client publishes, and its call returns with the acknowledgement.
	if err := c.Publish(ctx, client.Message{Topic: "cellar/lamp", Payload: []byte("on"), QoS: 1}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", (<-seen).Payload)
	fmt.Printf("%s\n", (<-received).Payload) // the client's own subscription matches as well

	st := srv.Stats()
	fmt.Println(st.Connected, "client connected,", st.Retained, "message retained")

	unsubscribe()
	c.Close()
	cancel() // ends Run, which returns when all goroutines have ended
	fmt.Println("ended:", <-ended)
	// Output:
	// on disk: true
	// cellar/temperature: 21.5 at QoS 1
	// on
	// on
	// 1 client connected, 1 message retained
	// ended: <nil>
}
