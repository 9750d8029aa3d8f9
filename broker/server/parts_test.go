package server

import "testing"

// TestRoomForConnections: those that have not logged in give way, the oldest first, and a few may come beyond the limit
// while they end.
func TestRoomForConnections(t *testing.T) {
	const most, mostConnecting = 40, 10
	for _, test := range []struct {
		loggedIn, connecting int
		ok, replaces         bool
	}{
		{0, 0, true, false},
		{39, 0, true, false},
		{40, 0, false, false},
		{0, 9, true, false},
		{0, 10, true, true},
		{39, 1, true, true},
		{38, 1, true, false},
		{40, 1, true, true},
		{41, 1, false, false},
	} {
		n := connections{all: map[*conn]struct{}{}}
		var first *conn
		for range test.loggedIn {
			c := &conn{}
			n.add(c)
			n.arrived(c)
			n.arrived(c) // again, as at its end
		}
		for i := range test.connecting {
			c := &conn{}
			n.add(c)
			if i == 0 {
				first = c
			}
		}
		oldest, ok := n.room(most, mostConnecting)
		if ok != test.ok || (oldest != nil) != test.replaces || test.replaces && oldest != first {
			t.Errorf("%+v: room %v, in the place of the oldest %v", test, ok, oldest == first && oldest != nil)
		}
		for c := range n.all {
			n.remove(c)
		}
		if len(n.all) != 0 || n.connecting.Len() != 0 {
			t.Errorf("%+v: %d are left, %d of them connecting", test, len(n.all), n.connecting.Len())
		}
	}
}

// TestReceiveMaximum: which publishes of a client are to be answered, as a 5.0 client's receive maximum counts them.
func TestReceiveMaximum(t *testing.T) {
	var w window
	steps := []struct {
		what string
		do   func()
		want int // with one more of QoS 1
	}{
		{"nothing", func() {}, 1},
		{"QoS 1", func() { w.begin(1, 1, true) }, 2},
		{"QoS 2", func() { w.begin(2, 2, true) }, 3},
		{"the same again", func() { w.begin(2, 2, true) }, 3},
		{"PUBACK", func() { w.answered(1, 1, false) }, 2},
		{"PUBREC", func() { w.answered(2, 2, false) }, 2},
		{"PUBREL", func() { w.released(2) }, 1},
		{"QoS 2, refused", func() { w.begin(3, 2, true); w.answered(3, 2, true) }, 1},
		{"QoS 2 of 3.1.1, which has none", func() { w.begin(4, 2, false) }, 1},
	}
	for _, s := range steps {
		s.do()
		if got := w.begin(9, 1, true); got != s.want {
			t.Errorf("after %s: %d count, want %d", s.what, got, s.want)
		}
		w.answered(9, 1, false)
	}
}
