package bridge

import (
	"context"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker/wire"
)

// swapping is an upstream that ends each connection after the time that life returns, as when another client takes its
// place; with said it gives the reason, over 5. Each connection has a goroutine of its own.
type swapping struct {
	life func(n int) time.Duration
	said bool
	deny func(n int) bool // connections that are not accepted

	mu    sync.Mutex
	times []time.Time
	work  sync.WaitGroup
}

func (u *swapping) dial(context.Context, *url.URL) (net.Conn, error) {
	u.mu.Lock()
	n := len(u.times)
	u.times = append(u.times, time.Now())
	u.mu.Unlock()
	here, there := net.Pipe()
	u.work.Go(func() { u.serve(there, n) })
	return socket{here}, nil
}

func (u *swapping) serve(c net.Conn, n int) {
	defer c.Close()
	version := wire.V311
	r := wire.NewReader(c, 0)
	if u.deny != nil && u.deny(n) {
		return
	}
	c.SetReadDeadline(time.Now().Add(u.life(n)))
	for {
		p, err := r.ReadPacket()
		if err != nil {
			if u.said && version == wire.V5 {
				c.SetWriteDeadline(time.Now().Add(time.Second))
				c.Write(wire.Append(nil, version, &wire.Disconnect{Code: wire.SessionTakenOver}))
			}
			return
		}
		switch p := p.(type) {
		case *wire.Connect:
			version = p.Version
			r.SetVersion(version)
			c.Write(wire.Append(nil, version, &wire.Connack{}))
		case *wire.Ping:
			c.Write(wire.Append(nil, version, &wire.Ping{Type: wire.PINGRESP}))
		}
	}
}

// TestRival: the bridge reports another client with the same identifier, with the remedy, and waits longer. A link
// that breaks is not taken for one.
func TestRival(t *testing.T) {
	constant := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	rng := rand.New(rand.NewPCG(26, 1))
	random := func(most time.Duration) func(int) time.Duration {
		return func(int) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	}
	for _, tt := range []struct {
		name    string
		version wire.Version
		up      *swapping
		blamed  bool
	}{
		{"said", wire.V5, &swapping{life: constant(time.Second), said: true}, true},
		{"said, after an hour each", wire.V5, &swapping{life: constant(time.Hour), said: true}, true},
		{"once a second", wire.V311, &swapping{life: constant(time.Second)}, true},
		{"once a second, over 5 without a word", wire.V5, &swapping{life: constant(time.Second)}, true},
		{"with jitter", wire.V311, &swapping{life: random(time.Second)}, true},
		{"every 20 s", wire.V311, &swapping{life: func(n int) time.Duration { return 20*time.Second + time.Duration(n%3)*time.Second }}, true},
		{"after 40 s", wire.V311, &swapping{life: constant(40 * time.Second)}, false},
		{"breaks at random", wire.V311, &swapping{life: random(29 * time.Second)}, false},
		{"breaks at random, seldom", wire.V5, &swapping{life: random(10 * time.Minute)}, false},
		{"every third connection is not accepted", wire.V311, &swapping{life: constant(time.Second), deny: func(n int) bool { return n%3 == 2 }}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			synctest.Test(t, func(t *testing.T) {
				b := run(t, s, []string{"mqtt://upstream.example"}, func(o *Options) {
					o.Protocol, o.Dial = tt.version, tt.up.dial
					o.BackoffMin, o.BackoffMax = time.Second, time.Minute
				})
				most := 0
				for range 3 * 60 {
					time.Sleep(time.Minute)
					for _, p := range b.Problems() {
						if most++; !strings.Contains(p, `another client uses the identifier "gateway"`) || !strings.Contains(p, "; give each gateway its own `client_id`") {
							t.Errorf("got %q", p)
						}
					}
				}
				b.stop()
				tt.up.work.Wait()
				if (most > 0) != tt.blamed || strings.Contains(b.logs.String(), "another client uses the identifier") != tt.blamed {
					t.Errorf("a problem in %d of 180 minutes, want blamed %v\n%.2000s", most, tt.blamed, b.logs)
				}
				if tt.blamed && tt.up.life(0) < time.Minute {
					if n := len(tt.up.times); n > 180 || n < 30 {
						t.Errorf("%d connections in three hours", n)
					}
				}
			})
		})
	}
}
