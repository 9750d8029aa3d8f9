package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/wire"
)

// picky is an upstream that ends the connection at some messages, and perhaps at any time. Each connection has a
// goroutine of its own.
type picky struct {
	bad   func(p *wire.Publish) bool
	late  time.Duration // how long it goes on after a bad message
	code  wire.Code     // of DISCONNECT over 5; 0 closes without one
	flaps float64       // chance that a connection ends at a packet instead
	lives time.Duration // longest life of a connection, by the clock; 0 for no limit
	slow  time.Duration // before each answer

	mu    sync.Mutex
	rng   *rand.Rand
	work  sync.WaitGroup
	first map[string]time.Time // payloads that were taken, and when
	ended []time.Time          // connections, at a bad message
}

func (u *picky) dial(context.Context, *url.URL) (net.Conn, error) {
	here, there := net.Pipe()
	u.work.Go(func() { u.serve(there) })
	return socket{here}, nil
}

// socket is the near end of a pipe whose writes fail as those of a TCP connection do.
type socket struct{ net.Conn }

// SetWriteDeadline leaves it to Write to notice that the other side has closed.
func (s socket) SetWriteDeadline(t time.Time) error {
	_ = s.Conn.SetWriteDeadline(t)
	return nil
}

func (s socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if errors.Is(err, io.ErrClosedPipe) {
		err = syscall.EPIPE
	}
	return n, err
}

func (u *picky) breaks() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.flaps > 0 && u.rng.Float64() < u.flaps
}

func (u *picky) serve(c net.Conn) {
	defer c.Close()
	if u.lives > 0 {
		u.mu.Lock()
		life := time.Duration(u.rng.Int64N(int64(u.lives)))
		u.mu.Unlock()
		defer time.AfterFunc(life, func() { c.Close() }).Stop()
	}
	r := wire.NewReader(c, 0)
	version := wire.V311
	var doomed time.Time
	end := func() {
		if u.code != 0 && version == wire.V5 {
			_, _ = c.Write(wire.Append(nil, version, &wire.Disconnect{Code: u.code}))
		}
		u.mu.Lock()
		u.ended = append(u.ended, time.Now())
		u.mu.Unlock()
	}
	for {
		if !doomed.IsZero() {
			_ = c.SetReadDeadline(doomed)
		}
		p, err := r.ReadPacket()
		if err != nil {
			if !doomed.IsZero() && !time.Now().Before(doomed) {
				end()
			}
			return
		}
		var answer wire.Packet
		switch p := p.(type) {
		case *wire.Connect:
			version = p.Version
			r.SetVersion(version)
			answer = &wire.Connack{}
		case *wire.Ping:
			answer = &wire.Ping{Type: wire.PINGRESP}
		case *wire.Publish:
			if u.bad(p) {
				if doomed.IsZero() {
					doomed = time.Now().Add(u.late)
				}
				if u.late == 0 {
					end()
					return
				}
				continue
			}
			if u.breaks() {
				return
			}
			u.mu.Lock()
			if _, known := u.first[string(p.Payload)]; !known {
				u.first[string(p.Payload)] = time.Now()
			}
			u.mu.Unlock()
			if p.QoS == 0 {
				continue
			}
			answer = &wire.Ack{Type: wire.PUBACK, ID: p.ID}
		case *wire.Disconnect:
			return
		}
		if u.breaks() {
			return
		}
		time.Sleep(u.slow)
		if _, err := c.Write(wire.Append(nil, version, answer)); err != nil {
			return
		}
	}
}

// poisonRun is what became of messages.
type poisonRun struct {
	up        *picky
	published map[string]time.Time
	dead      map[string]string // payloads, and why
	deadAt    []time.Time
	left      uint64
	problems  []string
}

type batchOf func(round int) []*broker.Message

// runPoison publishes a batch every five seconds for so many rounds, and waits for the rest.
func runPoison(t *testing.T, up *picky, version wire.Version, rounds int, wait time.Duration, batch batchOf) *poisonRun {
	j, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.OpenReader("bridge/test")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, j: j, reader: r}
	up.first = map[string]time.Time{}
	res := &poisonRun{up: up, published: map[string]time.Time{}, dead: map[string]string{}}
	b := run(t, s, []string{"mqtt://upstream"}, func(o *Options) {
		o.Dial, o.Protocol, o.BackoffMin, o.BackoffMax = up.dial, version, time.Second, time.Minute
		o.Refused = func(d *journal.Delivery, reason string) error {
			res.dead[string(d.Message.Payload)] = reason
			res.deadAt = append(res.deadAt, time.Now())
			return nil
		}
	})
	for round := range rounds {
		messages := batch(round)
		for _, m := range messages {
			res.published[string(m.Payload)] = time.Now()
		}
		s.add(messages...)
		time.Sleep(5 * time.Second)
	}
	for began := time.Now(); b.Stats().Depth > 0 && time.Since(began) < wait; {
		time.Sleep(time.Second)
	}
	res.left, res.problems = b.Stats().Depth, b.Problems()
	b.stop()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	up.work.Wait()
	return res
}

// late is the longest that a good message took, and good how many there are and have arrived.
func (r *poisonRun) good(bad func(payload string) bool) (all, arrived int, late time.Duration) {
	for payload, at := range r.published {
		if bad(payload) {
			continue
		}
		all++
		if got, ok := r.up.first[payload]; ok {
			arrived++
			late = max(late, got.Sub(at))
		}
	}
	return all, arrived, late
}

func message(topic string, retain bool, size int, text string, a ...any) *broker.Message {
	payload := fmt.Appendf(nil, text, a...)
	for len(payload) < size {
		payload = append(payload, '.')
	}
	return &broker.Message{Topic: topic, QoS: 1, Retain: retain, Payload: payload}
}

// goods are four good messages.
func goods(round int) (all []*broker.Message) {
	for i := range 4 {
		all = append(all, message(fmt.Sprintf("good/%d", i), false, 20, "good %d.%d", round, i))
	}
	return all
}

func isBad(payload string) bool { return len(payload) > 3 && payload[:3] == "bad" }

// TestPoison: four good messages and a bad one every five seconds, at upstreams that close the connection at the bad
// one, each in its way. The good ones arrive, and each kind that is bad ends three connections at most.
func TestPoison(t *testing.T) {
	byTopic := func(p *wire.Publish) bool { return len(p.Topic) > 3 && p.Topic[:4] == "bad/" }
	after := func(round int) []*broker.Message {
		return append(goods(round), message("bad/x", false, 20, "bad %d", round))
	}
	for _, tt := range []struct {
		name  string
		up    func() *picky
		batch batchOf
		kinds int
		gone  bool // what is in flight when the connection ends is not sent again
	}{
		{"at a topic", func() *picky { return &picky{bad: byTopic} }, after, 1, false},
		{"with a reason code", func() *picky { return &picky{bad: byTopic, code: wire.NotAuthorized} }, after, 1, false},
		{"another reason code", func() *picky { return &picky{bad: byTopic, code: wire.ImplementationSpecific} }, after, 1, false},
		{"late", func() *picky { return &picky{bad: byTopic, late: 1500 * time.Millisecond} }, after, 1, false},
		{"a slow upstream", func() *picky { return &picky{bad: byTopic, slow: 80 * time.Millisecond} }, after, 1, false},
		{"first after connect", func() *picky { return &picky{bad: byTopic} }, func(round int) []*broker.Message {
			return append([]*broker.Message{message("bad/x", false, 20, "bad %d", round)}, goods(round)...)
		}, 1, false},
		{"in the middle of a burst", func() *picky { return &picky{bad: byTopic, slow: time.Millisecond} }, func(round int) (all []*broker.Message) {
			for i := range 30 {
				all = append(all, message(fmt.Sprintf("good/%d", i%7), false, 20, "good %d.%d", round, i))
				if i%10 == 3 {
					all = append(all, message("bad/x", false, 20, "bad %d.%d", round, i))
				}
			}
			return all
		}, 1, false},
		{"several kinds", func() *picky { return &picky{bad: byTopic} }, func(round int) []*broker.Message {
			all := append(goods(round), message("bad/x", false, 20, "bad x %d", round), message("bad/y", false, 20, "bad y %d", round))
			return append(all, message("bad/z", true, 20, "bad z %d", round))
		}, 3, false},
		{"retained on a good topic", func() *picky { return &picky{bad: func(p *wire.Publish) bool { return p.Retain }} }, func(round int) []*broker.Message {
			return append(goods(round), message("good/1", true, 20, "bad %d", round))
		}, 1, false},
		{"large on a good topic", func() *picky { return &picky{bad: func(p *wire.Publish) bool { return len(p.Payload) > 1000 }} }, func(round int) []*broker.Message {
			return append(goods(round), message("good/2", false, 2000, "bad %d", round))
		}, 1, false},
		{"QoS 0 on a good topic", func() *picky { return &picky{bad: func(p *wire.Publish) bool { return p.QoS == 0 && p.Retain }} }, func(round int) []*broker.Message {
			m := message("good/3", true, 20, "bad %d", round)
			m.QoS = 0
			return append(goods(round), m)
		}, 1, true},
		{"a payload of a good kind", func() *picky { return &picky{bad: func(p *wire.Publish) bool { return isBad(string(p.Payload)) }} }, func(round int) []*broker.Message {
			all := goods(round)
			if round == 20 {
				all = append(all, message("good/1", false, 20, "bad %d", round))
			}
			return all
		}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			versions(t, func(t *testing.T, version wire.Version) {
				synctest.Test(t, func(t *testing.T) {
					up := tt.up()
					res := runPoison(t, up, version, 48, time.Minute, tt.batch)
					all, arrived, late := res.good(isBad)
					if arrived != all || late > 15*time.Second {
						t.Errorf("%d of %d good ones arrived, the last after %v", arrived, all, late)
					}
					if len(up.ended) > 3*tt.kinds {
						t.Errorf("%d connections ended at %d kinds", len(up.ended), tt.kinds)
					}
					if len(up.ended) > 0 && tt.kinds == 1 {
						// At QoS 0 nothing is sent again: it takes three messages.
						if took := up.ended[len(up.ended)-1].Sub(up.ended[0]); took > 10*time.Second+time.Millisecond {
							t.Errorf("took %v", took)
						}
					}
					for payload := range res.published {
						_, dead := res.dead[payload]
						if dead != isBad(payload) && !(tt.gone && len(res.dead) == 46) { // two went at QoS 0
							t.Errorf("%.20q: set aside is %v", payload, dead)
						}
					}
					if res.left != 0 || (len(res.problems) != 1) != (tt.name == "a payload of a good kind") {
						t.Errorf("%d left, problems %q", res.left, res.problems)
					}
				})
			})
		})
	}
}

// TestFlapsBlameNothing: connections that end at random packets or times, with and without messages at which the
// upstream closes. No good one is ever set aside, and all arrive in the order of their topics.
func TestFlapsBlameNothing(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	blamed := 0
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 17))
				up := &picky{rng: rng, bad: func(p *wire.Publish) bool { return isBad(string(p.Payload)) }, slow: time.Duration(rng.IntN(200)) * time.Millisecond}
				if seed%2 == 0 {
					up.flaps = 0.02 + 0.1*rng.Float64()
				} else {
					up.lives = time.Duration(1+rng.IntN(20)) * time.Second
				}
				poisonous := seed%3 == 0
				version := []wire.Version{wire.V311, wire.V5}[seed/2%2]
				topics := 1 + rng.IntN(30)
				res := runPoison(t, up, version, 100, 6*time.Hour, func(round int) (all []*broker.Message) {
					for i := range 5 {
						all = append(all, message(fmt.Sprintf("t/%d", (round+i)%topics), i == 4, 20, "good %d.%d", round, i))
					}
					if poisonous && round%5 == 0 {
						all = append(all, message("bad/x", false, 20, "bad %d", round))
					}
					return all
				})
				all, arrived, _ := res.good(isBad)
				if arrived != all || res.left != 0 && !poisonous { // a link that breaks so often blames nothing, so a bad one may stay
					t.Errorf("%d of %d good ones arrived, %d left", arrived, all, res.left)
				}
				for payload, why := range res.dead {
					if !isBad(payload) {
						blamed++
						t.Errorf("%.20q was set aside: %s", payload, why)
					}
				}
			})
		})
	}
	if blamed > 0 {
		t.Errorf("%d good messages were blamed over %d seeds", blamed, seeds)
	}
}

// TestPoisonIsTriedAgain: an hour later one message of the kind is tried, alone. If the upstream takes it, so it does
// the others; if not, one connection was the price.
func TestPoisonIsTriedAgain(t *testing.T) {
	for _, heals := range []bool{true, false} {
		t.Run(fmt.Sprint("heals ", heals), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				up := &picky{bad: func(p *wire.Publish) bool {
					return p.Topic == "bad/x" && !(heals && time.Since(began) > 30*time.Minute)
				}}
				const rounds = 12 * 90
				res := runPoison(t, up, wire.V311, rounds, time.Minute, func(round int) []*broker.Message {
					return append(goods(round), message("bad/x", false, 20, "bad %d", round))
				})
				want := 3 + 1
				if heals {
					want = 3
				}
				if len(up.ended) != want {
					t.Errorf("%d connections ended, want %d", len(up.ended), want)
				}
				if _, arrived := up.first[string(message("", false, 20, "bad 900").Payload)]; arrived != heals {
					t.Errorf("a message of the kind arrived after an hour: %v", arrived)
				}
				if (len(res.problems) == 0) != heals {
					t.Errorf("problems %q", res.problems)
				}
				if res.left != 0 {
					t.Errorf("%d left", res.left)
				}
			})
		})
	}
}

// TestPoisonOnALinkThatBreaks: where connections have ended with no message to blame, a message that ends each one is not
// blamed, but what is queued beside it passes.
func TestPoisonOnALinkThatBreaks(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var up *picky
			up = &picky{slow: 2 * time.Millisecond, bad: func(p *wire.Publish) bool {
				if time.Since(began) < time.Minute {
					return up.breaksNow()
				}
				return p.Topic == "bad/x"
			}}
			res := runPoison(t, up, version, 20, time.Minute, func(round int) (all []*broker.Message) {
				if round >= 13 {
					all = append(all, message("bad/x", false, 20, "bad %d", round))
				}
				for i := range 300 {
					all = append(all, message(fmt.Sprintf("good/%d", i%7), false, 20, "good %d.%d", round, i))
				}
				return all
			})
			all, arrived, _ := res.good(isBad)
			if arrived != all {
				t.Errorf("%d of %d good ones arrived", arrived, all)
			}
			for payload := range res.dead {
				if !isBad(payload) {
					t.Errorf("%.20q was set aside", payload)
				}
			}
		})
	})
}

// breaksNow ends a connection once in a few hundred messages, whatever they are.
func (u *picky) breaksNow() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.first) > 300*(1+len(u.ended))
}
