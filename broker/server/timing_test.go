package server_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// timed runs f in a bubble whose clock jumps ahead when all goroutines wait. dial opens a connection.
func timed(t *testing.T, f func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client)) {
	timedWith(t, server.Options{}, f)
}

func timedWith(t *testing.T, opts server.Options, f func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client)) {
	fs, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		j, err := journal.Open(journal.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		opts.Journal, opts.Anonymous = j, true
		s, err := server.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		f(t, s, func(v wire.Version) *brokertest.Client {
			near, far := net.Pipe()
			s.Serve(far)
			return brokertest.NewClient(t, near, v)
		})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	timed(t, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		c := dial(wire.V5)
		begun := time.Now()
		c.Connect(wire.Connect{ClientID: "c", CleanStart: true, KeepAlive: 10})
		time.Sleep(14 * time.Second)
		c.Silent() // still there, and its time starts again
		if code := c.Closed(); code != wire.KeepAliveTimeout {
			t.Errorf("got %v", code)
		}
		if took := time.Since(begun); took != 29*time.Second {
			t.Errorf("ended after %v, want one and a half times the keep alive", took)
		}
		patient := dial(wire.V311)
		patient.Connect(wire.Connect{ClientID: "p", CleanStart: true})
		time.Sleep(24 * time.Hour)
		patient.Silent() // keep alive 0: no limit
		patient.Close()
	})
}

func TestConnectTimeout(t *testing.T) {
	timed(t, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		c := dial(wire.V5)
		c.SendBytes([]byte{0x10}) // and no more
		begun := time.Now()
		c.Closed()
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestWillDelayAndSessionExpiry(t *testing.T) {
	timed(t, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		watch := dial(wire.V5)
		watch.Connect(wire.Connect{ClientID: "watch", CleanStart: true})
		subscribe(t, watch, "will", 0)
		for _, tt := range []struct{ delay, expiry, want uint32 }{
			{5, 60, 5},   // the delay
			{60, 10, 10}, // the session's end comes first [MQTT-3.1.3-9]
		} {
			c := dial(wire.V5)
			c.Connect(wire.Connect{
				ClientID: "c", CleanStart: true, Will: &wire.Will{Topic: "will", Delay: tt.delay},
				Properties: wire.Properties{SessionExpiry: &tt.expiry},
			})
			c.Close()
			begun := time.Now()
			brokertest.Receive[*wire.Publish](watch)
			if took := time.Since(begun); took != time.Duration(tt.want)*time.Second {
				t.Errorf("%+v: will came after %v", tt, took)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := s.Stats().Sessions; got != 1 {
			t.Errorf("%d sessions, want the watch alone", got)
		}
		watch.Close()
	})
}

func TestMessageExpiry(t *testing.T) {
	timed(t, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		c := dial(wire.V5)
		c.Connect(wire.Connect{ClientID: "c", CleanStart: true})
		for _, topic := range []string{"long", "short"} {
			expiry := map[string]uint32{"long": 100, "short": 10}[topic]
			publish(t, c, wire.Publish{Topic: topic, Payload: []byte("x"), Retain: true, QoS: 1, Expires: true, Expiry: expiry})
		}
		time.Sleep(30 * time.Second)
		subscribe(t, c, "#", 1)
		if got := receive(t, c); got.Topic != "long" || got.Expiry != 70 {
			t.Errorf("got %+v, want the time waited taken off", got)
		}
		c.Silent()
		if got := s.Stats().Dropped.Expired; got != 1 {
			t.Errorf("%d expired", got)
		}
		c.Close()
	})
}
