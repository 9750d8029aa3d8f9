package filters

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/broker"
)

// TestTurns: a message of a shared subscription goes to the members that take it now, in turn; while there is none, to those
// that take it later, in turn; and a member that has the message anyway gets it once, with both identifiers.
func TestTurns(t *testing.T) {
	for name, test := range map[string]struct {
		turns []Turn
		want  []int // of six messages, for each member
	}{
		"all now":              {[]Turn{Now, Now, Now}, []int{2, 2, 2}},
		"one now":              {[]Turn{Later, Never, Now}, []int{0, 0, 6}},
		"none now":             {[]Turn{Later, Later}, []int{3, 3}},
		"neither now nor then": {[]Turn{Never, Never}, []int{0, 0}},
		"a single one":         {[]Turn{Later}, []int{6}},
	} {
		x := New[*client](64)
		members := make([]*client, len(test.turns))
		for i, turn := range test.turns {
			members[i] = &client{turn}
			x.Add("$share/g/a/+", members[i], Subscription{QoS: 1, ID: uint32(i + 1)}, NoLimit, NoLimit)
		}
		got := make([]int, len(members))
		var room []Match[*client]
		for range 6 {
			var chosen []Match[*client]
			chosen, room = x.Named("a/b").Choose(room)
			if len(chosen) > 1 {
				t.Fatalf("%s: %d get the message", name, len(chosen))
			}
			for _, m := range chosen {
				i := slices.Index(members, m.Target)
				if got[i]++; !slices.Equal(m.IDs, []uint32{uint32(i + 1)}) || m.QoS != 1 {
					t.Errorf("%s: member %d gets %+v", name, i, m)
				}
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: messages %v, want %v", name, got, test.want)
		}
	}

	x := New[*client](64)
	c := &client{Now}
	x.Add("$share/g/a", c, Subscription{QoS: 2, ID: 7}, NoLimit, NoLimit)
	if ids := x.Named("a").Identifiers(c); !slices.Equal(ids, []uint32{7}) {
		t.Errorf("identifiers %v, want that of the group", ids)
	}
	x.Add("#", c, Subscription{ID: 8}, NoLimit, NoLimit)
	chosen, _ := x.Named("a").Choose(nil)
	if len(chosen) != 1 || chosen[0].QoS != 2 || !slices.Equal(chosen[0].IDs, []uint32{8, 7}) {
		t.Errorf("got %+v, want the member once", chosen)
	}
	if ids := x.Named("a").Identifiers(c); !slices.Equal(ids, []uint32{8}) {
		t.Errorf("identifiers %v, want that of its own filter", ids)
	}
	x.Remove("$share/g/a", c)
	x.Remove("#", c)
	if chosen, _ := x.Named("a").Choose(nil); len(chosen) != 0 || x.Len() != 0 {
		t.Errorf("%d are left, %d subscriptions", len(chosen), x.Len())
	}
}

// TestTopicsAreCurrent: whatever is remembered of a topic, it has the subscribers of now, and those that have come since
// an earlier version are the difference.
func TestTopicsAreCurrent(t *testing.T) {
	for _, name := range []string{"a/b", "a/" + strings.Repeat("b", longestTopic)} { // remembered, and too long for it
		x := New[*client](3)
		first, second, member := &client{}, &client{}, &client{Now}
		x.Add("a/#", first, Subscription{}, NoLimit, NoLimit)
		read := x.Name([]byte(name))
		before := x.Resolve(read)
		if read.Err != nil || before.Name != name || before.Version != x.Version() {
			t.Errorf("got %+v", before)
		}
		x.Add("a/+", second, Subscription{}, NoLimit, NoLimit)
		x.Add("$share/g/a/+", member, Subscription{}, NoLimit, NoLimit)
		now := x.Resolve(before)
		if chosen, _ := before.Choose(nil); len(chosen) != 1 {
			t.Errorf("%.9s: the topic has changed: %d subscribers", name, len(chosen))
		}
		if chosen, _ := x.Named(name).Choose(nil); len(chosen) != 3 || x.Resolve(x.Name([]byte(name))).Version != now.Version {
			t.Errorf("%.9s: %d subscribers, want 3", name, len(chosen))
		}
		late := before.Newer(now, nil)
		if len(late) != 2 || late[0].Target != second || late[1].Target != member {
			t.Errorf("%.9s: %d have come, want the second and the member", name, len(late))
		}
		if late := now.Newer(now, nil); len(late) != 0 {
			t.Errorf("%.9s: %d have come since now", name, len(late))
		}
	}
	x := New[*client](3)
	for name, malformed := range map[string]bool{"a/+": true, "": true, "a/b/c/d": false} {
		if topic := x.Name([]byte(name)); topic.Err == nil || errors.Is(topic.Err, broker.ErrTopic) != malformed {
			t.Errorf("%q: %v", name, topic.Err)
		}
	}
}
