package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestRetainedIsOrderedAfterWhatWasTaken: who subscribes after the server has shown that it has read a retained message
// finds it, as retained, although the disk stands still: of QoS 0 after any later answer to the publisher, on the same
// connection or another. With Retain Handling 2 nothing comes, and nothing after a delete.
func TestRetainedIsOrderedAfterWhatWasTaken(t *testing.T) {
	disk := &slowDisk{waiting: make(chan struct{}, 100), release: make(chan struct{})}
	h := &host{t: t, dir: t.TempDir(), disk: func(fs journal.FS) journal.FS { disk.FS = fs; return disk }}
	h.opts.Listeners = []server.Listener{{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "tcp", Address: "127.0.0.1:0"}}
	h.start()
	t.Cleanup(func() { h.stop() })
	setup := h.client(wire.V5, "setup", false)
	for i := range 40 {
		publish(t, setup, wire.Publish{Topic: fmt.Sprint("r/", i), QoS: 1, Retain: true, Payload: []byte("old")})
	}
	disk.hold.Store(true)
	setup.Send(&wire.Publish{Topic: "r/held", QoS: 1, ID: 99, Retain: true, Payload: []byte("held")})
	<-disk.waiting
	n := 0
	for _, payload := range []string{"new", ""} {
		for _, busy := range []bool{false, true} { // whether the client has other messages on their way to disk
			for handling := range byte(3) {
				for _, where := range []string{"same", "other", "other listener"} {
					name := fmt.Sprintf("%q, busy %v, retain handling %d, %s", payload, busy, handling, where)
					topic := fmt.Sprint("r/", n)
					pub := h.client(wire.V5, fmt.Sprint("pub", n), false)
					n++
					if busy {
						pub.Send(&wire.Publish{Topic: "r/busy", QoS: 1, ID: 5, Retain: true, Payload: []byte("x")})
					}
					pub.Send(&wire.Publish{Topic: topic, Retain: true, Payload: []byte(payload)}, &wire.Ping{Type: wire.PINGREQ})
					brokertest.Receive[*wire.Ping](pub)
					sub := pub
					switch where {
					case "other":
						sub = h.client(wire.V5, "sub", false)
					case "other listener":
						sub = brokertest.Dial(t, h.Addrs()[1].String(), wire.V5)
						sub.Connect(wire.Connect{ClientID: "sub", CleanStart: true})
					}
					sub.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: topic, RetainHandling: handling}}}, &wire.Ping{Type: wire.PINGREQ})
					brokertest.Receive[*wire.Suback](sub)
					if payload != "" && handling < 2 {
						// The answer to the PING may come before what is retained.
						got, _ := sub.Next()
						if _, ping := got.(*wire.Ping); ping {
							got, _ = sub.Next()
						} else {
							brokertest.Receive[*wire.Ping](sub)
						}
						if p, ok := got.(*wire.Publish); !ok || !p.Retain || string(p.Payload) != payload {
							t.Errorf("%s: got %s", name, brokertest.Describe(got))
						}
					} else {
						brokertest.Receive[*wire.Ping](sub)
					}
					sub.Silent()
					pub.Close()
					sub.Close()
				}
			}
		}
	}
	disk.hold.Store(false)
	close(disk.release)
	brokertest.Receive[*wire.Ack](setup)
}

// TestRetainedOrderOnDisk: whatever the QoS of the publishes of one topic, what is retained at the end is the last one
// that the server has taken, and is so after a restart.
func TestRetainedOrderOnDisk(t *testing.T) {
	disk := &slowDisk{waiting: make(chan struct{}, 100), release: make(chan struct{})}
	h := &host{t: t, dir: t.TempDir(), disk: func(fs journal.FS) journal.FS { disk.FS = fs; return disk }}
	h.start()
	t.Cleanup(func() { h.stop() })
	c := h.client(wire.V5, "c", false)
	disk.hold.Store(true)
	id := uint16(0)
	for i, history := range []string{"10", "01", "1010", "0101", "20", "02", "100", "1d0d", "1d", "0d", "1d0", "11d", "d1"} {
		for j := range history {
			qos, payload := history[j]-'0', fmt.Sprint(j)
			if history[j] == 'd' { // a delete at QoS 0
				qos, payload = 0, ""
			}
			p := &wire.Publish{Topic: fmt.Sprint("r/", i), QoS: qos, Retain: true, Payload: []byte(payload)}
			if qos > 0 {
				id++
				p.ID = id
			}
			c.Send(p)
		}
	}
	<-disk.waiting
	disk.hold.Store(false)
	close(disk.release)
	for range id {
		brokertest.Receive[*wire.Ack](c)
	}
	for _, when := range []string{"now", "after a restart"} {
		s := h.client(wire.V5, "s", false)
		subscribe(t, s, "r/#", 0)
		got := map[string]string{}
		for {
			s.Send(&wire.Ping{Type: wire.PINGREQ})
			p, _ := s.Next()
			if m, ok := p.(*wire.Publish); ok {
				got[m.Topic] = string(m.Payload)
			} else if len(got) >= 9 {
				break
			}
		}
		for i, history := range []string{"10", "01", "1010", "0101", "20", "02", "100", "1d0d", "1d", "0d", "1d0", "11d", "d1"} {
			want := fmt.Sprint(len(history) - 1)
			if history[len(history)-1] == 'd' {
				want = ""
			}
			if g := got[fmt.Sprint("r/", i)]; g != want {
				t.Errorf("%s, %s: got %q, want %q", when, history, g, want)
			}
		}
		if when == "now" {
			h.restart()
		}
	}
}

// brokenDisk fails all writes while told to.
type brokenDisk struct {
	journal.FS
	broken atomic.Bool
}

func (d *brokenDisk) Open(name string, write bool) (journal.File, error) {
	if write && d.broken.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	f, err := d.FS.Open(name, write)
	return brokenFile{f, d}, err
}

type brokenFile struct {
	journal.File
	disk *brokenDisk
}

func (f brokenFile) WriteAt(b []byte, at int64) (int, error) {
	if f.disk.broken.Load() {
		return 0, errors.New("broken")
	}
	return f.File.WriteAt(b, at)
}

// TestRetainedWithoutADisk: while the disk takes nothing, live values of QoS 0 go on and are served.
func TestRetainedWithoutADisk(t *testing.T) {
	disk := &brokenDisk{}
	h := &host{t: t, dir: t.TempDir(), disk: func(fs journal.FS) journal.FS { disk.FS = fs; return disk }}
	h.start()
	t.Cleanup(func() { disk.broken.Store(false); h.stop() })
	c := h.client(wire.V5, "c", false)
	disk.broken.Store(true)
	for i := range 10 {
		c.Send(&wire.Publish{Topic: "r", Retain: true, Payload: fmt.Append(nil, i)}, &wire.Ping{Type: wire.PINGREQ})
		brokertest.Receive[*wire.Ping](c)
		s := h.client(wire.V5, "s", false)
		subscribe(t, s, "r", 0)
		if p := receive(t, s); !p.Retain || string(p.Payload) != fmt.Sprint(i) {
			t.Errorf("value %d: got %+v", i, p)
		}
		s.Close()
	}
}
