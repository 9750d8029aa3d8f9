package server_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestSlowLoris: a byte now and then is no packet, and does not keep a connection open.
func TestSlowLoris(t *testing.T) {
	timed(t, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		c := dial(wire.V5)
		begun := time.Now()
		c.SendBytes([]byte{0x10, 0x20})
		for range 9 { // CONNECT has to be there in time as a whole
			time.Sleep(time.Second)
			c.SendBytes([]byte{0})
		}
		c.Closed()
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("ended after %v", took)
		}
		c = dial(wire.V5)
		c.Connect(wire.Connect{ClientID: "c", CleanStart: true, KeepAlive: 10})
		begun = time.Now()
		c.SendBytes([]byte{0x30, 0xff, 0x7f, 0, 1, 'a', 0})
		for range 14 {
			time.Sleep(time.Second)
			c.SendBytes([]byte{0})
		}
		if code := c.Closed(); code != wire.KeepAliveTimeout {
			t.Errorf("got %v", code)
		}
		if took := time.Since(begun); took != 15*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

// TestFloodWithoutReading: a client that asks and never reads is read no more, and then cut off.
func TestFloodWithoutReading(t *testing.T) {
	timed(t, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		good := dial(wire.V5)
		good.Connect(wire.Connect{ClientID: "good", CleanStart: true})
		c := dial(wire.V5)
		c.Connect(wire.Connect{ClientID: "c", CleanStart: true})
		begun := time.Now()
		pings := bytes.Repeat([]byte{0xc0, 0}, 512)
		sent := 0
		for c.TrySend(pings) == nil {
			if sent += len(pings); sent > 8<<20 {
				t.Fatal("still read after 8 MiB")
			}
		}
		if took := time.Since(begun); took > 40*time.Second {
			t.Errorf("cut off after %v", took)
		}
		synctest.Wait()
		good.Silent()
		good.Close()
	})
}

// TestAnnouncedMemory: packets that announce a lot and bring little cost what they bring.
func TestAnnouncedMemory(t *testing.T) {
	h := newHost(t, server.Options{MaxPacket: 200 << 20})
	var clients []*brokertest.Client
	for i := range 50 {
		c := h.client(wire.V5, fmt.Sprint(i), false)
		c.SendBytes([]byte{0x30, 0xff, 0xff, 0xff, 0x3f, 0, 1, 'a', 0}) // 128 MiB
		clients = append(clients, c)
	}
	h.client(wire.V5, "good", false).Silent() // 6 GiB would not be there
	for _, c := range clients {
		c.Close()
	}
}

// TestFlowControl: a small receive maximum, thousands of messages queued offline, and a connection that
// breaks again and again with deliveries in flight. All come, in order, and what was sent before has DUP.
func TestFlowControl(t *testing.T) {
	const n = 12_000
	for _, most := range []uint16{1, 2} {
		t.Run(fmt.Sprint("receive maximum ", most), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, server.Options{})
			resume := func() *brokertest.Client {
				p := wire.Connect{ClientID: "sub"}
				p.Properties.ReceiveMaximum = &most
				c, _ := h.connect(wire.V5, p, true)
				return c
			}
			sub := resume()
			subscribe(t, sub, "t", 1)
			sub.Close()
			publishMany(t, h.client(wire.V5, "pub", false), n)
			sub = resume()
			seen := -1 // highest number that was sent to us
			for next := 0; next < n; {
				p := brokertest.Receive[*wire.Publish](sub)
				got := int(binary.BigEndian.Uint32(p.Payload))
				if p.Dup && got < next && got >= next-int(most) { // its acknowledgement was lost with the connection
					sub.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
					continue
				}
				mayBeDup := got < seen+int(most) // on its way when the connection broke
				if got != next || got <= seen && !p.Dup || p.Dup && !mayBeDup {
					t.Fatalf("got %d with DUP %v, want %d; %d was seen", got, p.Dup, next, seen)
				}
				seen = max(seen, got)
				if next%500 == 499 && seen == next && !p.Dup {
					sub.Close() // in the middle: this one has no acknowledgement
					sub = resume()
					continue
				}
				sub.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
				next++
			}
			sub.Silent()
		})
	}
}

// publishMany publishes numbered messages at QoS 1, many at a time.
func publishMany(t testing.TB, c *brokertest.Client, n int) {
	t.Helper()
	const window = 50
	for i := 0; i < n; i += window {
		var packets []wire.Packet
		for j := i; j < min(n, i+window); j++ {
			packets = append(packets, &wire.Publish{
				Topic: "t", QoS: 1, ID: uint16(j%window + 1), Payload: binary.BigEndian.AppendUint32(nil, uint32(j)),
			})
		}
		c.Send(packets...)
		for range packets {
			brokertest.Receive[*wire.Ack](c)
		}
	}
}

// TestMosquittoSubGetsAll: 20,000 of 20,000 at QoS 1, live and queued, in both versions, with the client
// that people use.
func TestMosquittoSubGetsAll(t *testing.T) {
	const n = 20_000
	path := brokertest.Program(t, "mosquitto_sub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, queued %v", version, queued), func(t *testing.T) {
				t.Parallel()
				h := newHost(t, server.Options{})
				host, port, _ := strings.Cut(h.addr, ":")
				args := []string{"-h", host, "-p", port, "-V", version, "-q", "1", "-t", "t", "-i", "sub", "-c", "-F", "%x", "-C", fmt.Sprint(n), "-W", "120"}
				if version == "mqttv5" {
					args = append(args, "-x", "3600")
				}
				if queued {
					first := exec.Command(path, append(args, "-E")...) // subscribes, and ends
					if out, err := first.CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
					publishMany(t, h.client(wire.V5, "pub", false), n)
				}
				var out bytes.Buffer
				cmd := exec.Command(path, args...)
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if !queued {
					for h.Stats().Subscriptions == 0 {
						h.client(wire.V5, "", false).Close() // until it has subscribed
					}
					publishMany(t, h.client(wire.V5, "pub", false), n)
				}
				if err := cmd.Wait(); err != nil {
					t.Fatalf("%v, with %d lines", err, bytes.Count(out.Bytes(), []byte("\n")))
				}
				lines := strings.Fields(out.String())
				for i, line := range lines {
					if line != fmt.Sprintf("%08x", i) {
						t.Fatalf("line %d: %s", i, line)
					}
				}
				if len(lines) != n {
					t.Errorf("%d of %d", len(lines), n)
				}
			})
		}
	}
}
