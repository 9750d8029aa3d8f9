package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestWillsAndTheRightsOfNow: a will outlives neither the right to publish it nor its user nor the password, whatever
// ends the connection.
func TestWillsAndTheRightsOfNow(t *testing.T) {
	hash, other := auth.NewHash([]byte("right")), auth.NewHash([]byte("right"))
	rule := auth.Rule{Topic: "w/#", Access: auth.Write, User: "anna"}
	watch := auth.Rule{Topic: "w/#", Access: auth.Read}
	user := func(hash string, rules ...auth.Rule) auth.Options {
		return auth.Options{Users: []auth.User{{Name: "anna", Hash: hash}, {Name: "ben", Hash: hash}}, Rules: append(rules, watch)}
	}
	deleted := user(hash, rule)
	deleted.Users = deleted.Users[1:]
	for name, tt := range map[string]struct {
		after auth.Options
		fires bool
	}{
		"as it was": {user(hash, rule), true}, "rule revoked": {user(hash), false},
		"user deleted": {deleted, false}, "new password": {user(other, rule), false},
	} {
		for _, delay := range []uint32{0, 1} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, delay %d, restart %v", name, delay, restart), func(t *testing.T) {
					t.Parallel()
					h, a := guarded(t, func(_ *server.Options, o *auth.Options) { *o = user(hash, rule) })
					w, _ := h.connect(wire.V5, wire.Connect{ClientID: "watch"}, true)
					subscribe(t, w, "w/#", 1)
					p := as("anna", "right", wire.Connect{ClientID: "anna", Will: &wire.Will{Topic: "w/gone", QoS: 1, Delay: delay}})
					c, _ := h.connect(wire.V5, p, true)
					if restart {
						h.stop()
						a.Configure(tt.after)
						h.start()
						w, _ = h.connect(wire.V5, wire.Connect{ClientID: "watch"}, true)
					} else {
						a.Configure(tt.after)
						h.Reauthorize()
						c.Close()
					}
					if tt.fires {
						if got := receive(t, w); got.Topic != "w/gone" {
							t.Errorf("got %q", got.Topic)
						}
						return
					}
					for h.Stats().Dropped.Denied == 0 { // it was due, and was not published
						time.Sleep(5 * time.Millisecond)
					}
					w.Silent()
				})
			}
		}
	}
}

// TestWillsSurviveTheGateway: the will of a client that was connected when the gateway was ended, or killed, is
// published once when it is back, with everything that it says; one that was cancelled or published before is not.
func TestWillsSurviveTheGateway(t *testing.T) {
	for _, kill := range []bool{false, true} {
		for _, v := range versions {
			t.Run(fmt.Sprintf("killed %v, version %d", kill, v), func(t *testing.T) {
				h := newHost(t, server.Options{})
				w := h.client(v, "watch", true)
				subscribe(t, w, "w/#", 2)
				with := func(id, topic string, durable bool) *brokertest.Client {
					p := wire.Connect{ClientID: id, CleanStart: !durable, Will: &wire.Will{Topic: "w/" + topic, Payload: []byte(topic), QoS: 2, Retain: true}}
					if v == wire.V5 {
						p.Will.Forward = []byte("\x03\x00\x03x/y")
					}
					c, _ := h.connect(v, p, durable)
					return c
				}
				published := with("published", "published", false)
				published.Close()
				receive(t, w)
				cancelled := with("cancelled", "cancelled", true)
				cancelled.Send(&wire.Disconnect{})
				cancelled.Closed()
				with("replaced", "old", false).Send(&wire.Disconnect{})
				with("clean", "clean", false)
				with("durable", "durable", true)
				with("replaced", "replaced", false)
				w.Close()
				if kill { // what is on disk now is all that is left
					dir, err := t.TempDir(), fs.ErrNotExist
					for try := 0; errors.Is(err, fs.ErrNotExist) && try < 100; try++ { // a snapshot got its name meanwhile
						dir = t.TempDir()
						err = os.CopyFS(dir, os.DirFS(h.dir))
					}
					if err != nil {
						t.Fatal(err)
					}
					h.stop()
					h.dir = dir
				} else {
					h.stop()
				}
				h.start()
				w = h.client(v, "watch", true)
				got := map[string]int{}
				for _, p := range receiveAll(t, w, 3) {
					got[p.Topic]++
					if p.QoS != 2 || string(p.Payload) != p.Topic[2:] || v == wire.V5 && string(p.Forward) != "\x03\x00\x03x/y" {
						t.Errorf("got %+v", p)
					}
				}
				for _, want := range []string{"w/clean", "w/durable", "w/replaced"} {
					if got[want] != 1 {
						t.Errorf("%s came %d times", want, got[want])
					}
				}
				n := h.client(v, "new", false)
				subscribe(t, n, "w/durable", 1)
				if p := receive(t, n); !p.Retain {
					t.Error("the will is not retained")
				}
				w.Silent()
				if keys := h.keys("will/"); keys != 0 {
					t.Errorf("%d wills are left in the journal", keys)
				}
				h.restart() // and not again
				w = h.client(v, "watch", true)
				w.Silent()
			})
		}
	}
}

func (h *host) keys(prefix string) (n int) {
	h.journal.Range(prefix, func(string, []byte) bool { n++; return true })
	return n
}

// TestDelayedWillOverARestart: with a delay the client may come back first, and has none then.
func TestDelayedWillOverARestart(t *testing.T) {
	h := newHost(t, server.Options{})
	w := h.client(wire.V5, "watch", true)
	subscribe(t, w, "w/#", 1)
	for _, id := range []string{"back", "away"} {
		h.connect(wire.V5, wire.Connect{ClientID: id, Will: &wire.Will{Topic: "w/" + id, QoS: 1, Delay: 2}}, true)
	}
	h.restart()
	h.client(wire.V5, "back", true)
	w = h.client(wire.V5, "watch", true)
	if p := receive(t, w); p.Topic != "w/away" {
		t.Errorf("got %q", p.Topic)
	}
	w.Silent()
	if keys := h.keys("will/"); keys != 0 {
		t.Errorf("%d wills are left in the journal", keys)
	}
}

// TestDamagedWill: what cannot be read costs that will, and no more.
func TestDamagedWill(t *testing.T) {
	h := newHost(t, server.Options{})
	w := h.client(wire.V5, "watch", true)
	subscribe(t, w, "w/#", 1)
	h.connect(wire.V5, wire.Connect{ClientID: "good", Will: &wire.Will{Topic: "w/good", QoS: 1}}, true)
	var changes []journal.Change
	for i, v := range []string{"", "\x01", "\x02", "\x01\x00\x00", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x01\x00\x00" + string(make([]byte, 40))} {
		changes = append(changes, journal.Change{Key: fmt.Sprint("will/bad\x00", i), Value: []byte(v)})
	}
	if err := h.journal.Append(journal.Entry{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	h.restart()
	w = h.client(wire.V5, "watch", true)
	if p := receive(t, w); p.Topic != "w/good" {
		t.Errorf("got %q", p.Topic)
	}
	w.Silent()
}
