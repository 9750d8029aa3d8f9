package server_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// owned is guarded with two workers of the same rights, of whom only the name differs, and a user who may subscribe
// to everything but read nothing of it.
func owned(t *testing.T) (*host, *auth.Auth, func(users ...string) auth.Options) {
	hash := auth.NewHash([]byte("right"))
	with := func(users ...string) (o auth.Options) {
		for _, u := range users {
			o.Users = append(o.Users, auth.User{Name: u, Hash: hash})
			if u == "worker" || u == "twin" {
				o.Rules = append(o.Rules, auth.Rule{Topic: "jobs/#", Access: auth.Read, User: u})
			}
		}
		o.Rules = append(o.Rules, auth.Rule{Topic: "#", Access: auth.Write, User: "boss"},
			auth.Rule{Topic: "#", Access: auth.Subscribe, User: "thief"}, auth.Rule{Topic: "open/#", Access: auth.ReadWrite})
		return o
	}
	h, a := guarded(t, func(_ *server.Options, o *auth.Options) { *o = with("worker", "twin", "boss", "thief") })
	return h, a, with
}

// jobs publishes n messages.
func (h *host) jobs(n int) {
	h.t.Helper()
	boss, _ := h.connect(wire.V5, as("boss", "right", wire.Connect{ClientID: "boss", CleanStart: true}), false)
	for i := range n {
		publish(h.t, boss, wire.Publish{Topic: fmt.Sprint("jobs/", i), QoS: 1})
	}
	boss.Close()
}

// lost are the losses of a reader, as "count reason".
func (h *host) lost(reader string) (list []string) {
	for _, l := range h.journal.Losses() {
		if l.Reader == reader {
			list = append(list, fmt.Sprint(l.Count, " ", l.Reason))
		}
	}
	return list
}

// TestSessionBelongsToItsOwner: a login with the client identifier and another owner, whatever it asks for, is refused, and
// changes nothing, whether the owner is connected or away, and over a restart.
func TestSessionBelongsToItsOwner(t *testing.T) {
	h, _, _ := owned(t)
	mine := as("worker", "right", wire.Connect{ClientID: "dev"})
	worker, _ := h.connect(wire.V5, mine, true)
	subscribe(t, worker, "jobs/#", 1)
	strangers := func(when string) {
		t.Helper()
		for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
			for who, p := range map[string]wire.Connect{
				"anonymous": {}, "twin": as("twin", "right", wire.Connect{}), "boss": as("boss", "right", wire.Connect{}),
			} {
				for _, clean := range []bool{true, false} {
					p.ClientID, p.CleanStart = "dev", clean
					c := brokertest.Dial(t, h.addr, v)
					if got := c.Connect(p); got.Code != wire.NotAuthorized || got.SessionPresent {
						t.Errorf("%s, version %d, %s, clean %v: %+v", when, v, who, clean, got)
					}
					c.Close()
				}
			}
		}
	}
	strangers("connected")
	h.jobs(1)
	if got := receive(t, worker); got.Topic != "jobs/0" {
		t.Errorf("the owner gets %q", got.Topic)
	}
	worker.Send(&wire.Disconnect{})
	worker.Closed()
	h.jobs(50)
	strangers("away")
	h.restart()
	strangers("after a restart")
	worker, ack := h.connect(wire.V5, mine, true)
	if !ack.SessionPresent {
		t.Error("the session is gone")
	}
	for i := range 50 {
		if got := receive(t, worker); got.Topic != fmt.Sprint("jobs/", i) {
			t.Fatalf("message %d: got %q", i, got.Topic)
		}
	}
	if got := h.lost("session/dev"); got != nil {
		t.Errorf("lost %v", got)
	}
	if n := h.Stats().LoginsRefused; n != 18 {
		t.Errorf("%d refusals are counted since the restart, want 18", n)
	}
}

// TestWhatGoesWithASession: what is discarded stands in the ledger, with the reason.
func TestWhatGoesWithASession(t *testing.T) {
	h, _, _ := owned(t)
	queued := func() {
		c, _ := h.connect(wire.V5, as("worker", "right", wire.Connect{ClientID: "dev"}), true)
		subscribe(t, c, "jobs/#", 1)
		c.Send(&wire.Disconnect{})
		c.Closed()
		h.jobs(7)
	}
	queued()
	c, _ := h.connect(wire.V5, as("worker", "right", wire.Connect{ClientID: "dev", CleanStart: true}), true)
	subscribe(t, c, "jobs/#", 1) // waits for the disk, on which the end of the first session is by now
	if got := h.lost("session/dev"); !slices.Equal(got, []string{"7 clean_start"}) {
		t.Errorf("after a clean start: %v", got)
	}
	h.jobs(3) // sent, and not acknowledged
	for range 3 {
		brokertest.Receive[*wire.Publish](c)
	}
	c.Send(&wire.Disconnect{Properties: wire.Properties{SessionExpiry: ptr(uint32(0))}})
	c.Closed()
	queued()
	if got := h.lost("session/dev"); !slices.Equal(got, []string{"7 clean_start", "3 session_ended"}) {
		t.Errorf("after an end with the connection: %v", got)
	}
}

// TestSessionWithoutOwner: of what a version before owners has stored, the first login with a name becomes the owner,
// and an anonymous one only where it could have subscribed like that itself.
func TestSessionWithoutOwner(t *testing.T) {
	for filter, anonymous := range map[string]wire.Code{"open/#": wire.Success, "jobs/#": wire.NotAuthorized} {
		h, _, _ := owned(t)
		old := append([]journal.Change{}, journal.Change{Key: "session/dev", Value: binary.AppendUvarint(nil, 3600)},
			journal.Change{Key: "sub/dev\x00" + filter, Value: []byte{1, 0}})
		if err := h.journal.Append(journal.Entry{Changes: old}); err != nil {
			t.Fatal(err)
		}
		h.restart()
		h.jobs(3)
		c := brokertest.Dial(t, h.addr, wire.V311)
		if got := c.Connect(wire.Connect{ClientID: "dev"}).Code; got != anonymous {
			t.Errorf("%s: an anonymous client: %v, want %v", filter, got, anonymous)
		}
		c.Close()
		if anonymous == wire.Success {
			continue
		}
		c, ack := h.connect(wire.V311, as("worker", "right", wire.Connect{ClientID: "dev"}), true)
		if !ack.SessionPresent {
			t.Error("a session without an owner is gone")
		}
		for range 3 {
			receive(t, c)
		}
		c.Close()
		c = brokertest.Dial(t, h.addr, wire.V311)
		if got := c.Connect(as("twin", "right", wire.Connect{ClientID: "dev"})).Code; got != wire.NotAuthorized {
			t.Errorf("after it was adopted: %v", got)
		}
	}
}

// TestQueuedMessagesAndTheRightsOfNow: what was queued and may not be read any more is not acknowledged in silence;
// what may not be read when it is published is owed to none.
func TestQueuedMessagesAndTheRightsOfNow(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		h, a, with := owned(t)
		c, _ := h.connect(wire.V5, as("worker", "right", wire.Connect{ClientID: "dev"}), true)
		subscribe(t, c, "jobs/#", qos)
		c.Send(&wire.Disconnect{})
		c.Closed()
		boss, _ := h.connect(wire.V5, as("boss", "right", wire.Connect{ClientID: "boss", CleanStart: true}), false)
		for i := range 10 {
			publish(t, boss, wire.Publish{Topic: fmt.Sprint("jobs/", i), QoS: qos})
		}
		less := with("worker", "twin", "boss", "thief")
		less.Rules = append(less.Rules, auth.Rule{Topic: "jobs/3", Access: auth.Deny, User: "worker"}, auth.Rule{Topic: "jobs/4", Access: auth.Deny, User: "worker"})
		a.Configure(less)
		h.Reauthorize()
		publish(t, boss, wire.Publish{Topic: "jobs/3", QoS: qos}) // not owed at all
		publish(t, boss, wire.Publish{Topic: "jobs/last", QoS: qos})
		c, _ = h.connect(wire.V5, as("worker", "right", wire.Connect{ClientID: "dev"}), true)
		for i, got := range receiveAll(t, c, 9) {
			if want := []string{"0", "1", "2", "5", "6", "7", "8", "9", "last"}[i]; got.Topic != "jobs/"+want {
				t.Fatalf("QoS %d: got %q, want jobs/%s", qos, got.Topic, want)
			}
		}
		subscribe(t, c, "open/#", 1) // by when the losses are on disk
		if got := h.lost("session/dev"); !slices.Equal(got, []string{"2 denied"}) {
			t.Errorf("QoS %d: lost %v", qos, got)
		}
		if n := h.Stats().Dropped.Unread; n != 3 {
			t.Errorf("QoS %d: %d denied deliveries are counted", qos, n)
		}
	}
}

// receiveAll takes n messages and completes their handshakes, which may overlap.
func receiveAll(t testing.TB, c *brokertest.Client, n int) (got []*wire.Publish) {
	t.Helper()
	for open := 0; len(got) < n || open > 0; {
		p, err := c.Next()
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		switch p := p.(type) {
		case *wire.Publish:
			got = append(got, p)
			if p.QoS == 1 {
				c.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
			} else if p.QoS == 2 {
				open++
				c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
			}
		case *wire.Ack:
			open--
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
		}
	}
	return got
}

// TestSharedSubscriptionAndRights: no member takes a job that it may not read, connected or away.
func TestSharedSubscriptionAndRights(t *testing.T) {
	h, a, with := owned(t)
	for v, want := range map[wire.Version]wire.Code{wire.V5: wire.NotAuthorized, wire.V311: wire.Unspecified} {
		c, _ := h.connect(v, as("thief", "right", wire.Connect{ClientID: fmt.Sprint("thief", v), CleanStart: true}), false)
		c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "$share/w/jobs/#", QoS: 1}, {Filter: "jobs/#", QoS: 1}}})
		if got := brokertest.Receive[*wire.Suback](c).Codes; got[0] != want || got[1] != 1 {
			t.Errorf("version %d: only the right to subscribe: %v", v, got)
		}
	}
	join := func(user string) *brokertest.Client {
		c, _ := h.connect(wire.V5, as(user, "right", wire.Connect{ClientID: user}), true)
		subscribe(t, c, "$share/w/jobs/#", 1)
		return c
	}
	worker, twin := join("worker"), join("twin")
	h.jobs(10)
	for _, c := range []*brokertest.Client{worker, twin} {
		for range 5 {
			receive(t, c)
		}
	}
	less := with("worker", "twin", "boss")
	less.Rules = slices.DeleteFunc(less.Rules, func(r auth.Rule) bool { return r.User == "twin" })
	a.Configure(less)
	h.Reauthorize()
	h.jobs(10) // the twin is connected, and may read nothing
	for i := range 10 {
		if got := receive(t, worker); got.Topic != fmt.Sprint("jobs/", i) {
			t.Fatalf("job %d: got %q", i, got.Topic)
		}
	}
	for _, c := range []*brokertest.Client{worker, twin} {
		c.Send(&wire.Disconnect{})
		c.Closed()
	}
	h.jobs(10) // both are away
	worker, _ = h.connect(wire.V5, as("worker", "right", wire.Connect{ClientID: "worker"}), true)
	for i := range 10 {
		if got := receive(t, worker); got.Topic != fmt.Sprint("jobs/", i) {
			t.Fatalf("job %d after an absence: got %q", i, got.Topic)
		}
	}
}
