package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/client"
	"holdfast/gateway/fakeupstream"
)

// load is a few publishers that number what they publish, and repeat each number until it is acknowledged.
type load struct {
	address string
	payload int // bytes
	ledger  *fakeupstream.Ledger
	refused atomic.Int64
	acked   atomic.Int64
	cancel  func()
	work    sync.WaitGroup
}

const publishers = 4

func startLoad(address string, payload int, ledger *fakeupstream.Ledger) *load {
	l := &load{address: address, payload: payload, ledger: ledger}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for i := range publishers {
		l.work.Go(func() { l.publish(ctx, fmt.Sprint("pub/", i), i%2 == 1) })
	}
	return l
}

func (l *load) stop() {
	l.cancel()
	l.work.Wait()
}

// publish goes on until ctx ends. Half of the publishers speak MQTT 3.1.1, the others 5.
func (l *load) publish(ctx context.Context, topic string, v311 bool) {
	var c client.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	pause := time.NewTimer(0)
	defer pause.Stop()
	filler := strings.Repeat("x", l.payload)
	for n := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		pause.Reset(time.Duration(5+rand.IntN(10)) * time.Millisecond) // of a client, between messages and attempts
		if c == nil {
			var err error
			if c, err = l.connect(ctx, topic, v311); err != nil {
				c = nil
				continue
			}
		}
		// A publish that is under way when the load stops is not waited for, and no promise.
		switch err := c.Publish(ctx, client.Message{Topic: topic, QoS: 1, Payload: []byte(strconv.FormatUint(n, 10) + " " + filler)}); {
		case err == nil:
			l.ledger.Acknowledged(topic, n)
			l.acked.Add(1)
			n++
		case ctx.Err() != nil:
			return
		default:
			var no *client.Refusal
			if errors.As(err, &no) {
				l.refused.Add(1)
				continue // the connection is well
			}
			c.Close()
			c = nil
		}
	}
}

func (l *load) connect(ctx context.Context, topic string, v311 bool) (client.Client, error) {
	return client.Connect(ctx, client.Options{
		URL: &url.URL{Scheme: "mqtt", Host: l.address}, V311: v311, ClientID: strings.ReplaceAll(topic, "/", "-"),
		Timeout: 20 * time.Second, KeepAlive: 30 * time.Second,
		Dial: func(ctx context.Context, u *url.URL) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
		},
		Receive: func(client.Message) bool { return true },
	})
}
