package retained

import (
	"fmt"
	"slices"
	"testing"

	"holdfast/broker"
)

type publish struct {
	message  *broker.Message
	promised Load
}

// TestRetainedOnTheirWay: messages that are on their way to disk have their room already, so that many at the same time do
// not exceed the limits together; what is refused gives it back, and this process has its reserve in any case.
func TestRetainedOnTheirWay(t *testing.T) {
	s := New(Load{100, 80_000}, func(string) bool { return false })
	begin := func(topic string, size int, own bool) (*publish, bool) {
		p := &publish{message: &broker.Message{Topic: topic, Payload: make([]byte, size)}}
		var fits bool
		fits, _, p.promised = s.Fits(p.message, own)
		return p, fits
	}
	var going []*publish
	for i := range 20 {
		if p, fits := begin(fmt.Sprint("client/", i), 10_000, false); fits {
			going = append(going, p)
		}
	}
	if len(going) != 6 { // of 70,000 bytes, with their topics
		t.Errorf("%d on their way fit, want 6", len(going))
	}
	s.Release(going[0].promised) // refused
	for _, p := range going[1:] {
		s.Put(p.message.Topic, 0, p.promised, func() Entry { return Entry{Message: p.message} })
	}
	if s.promised != (Load{}) || s.all.Messages != 5 {
		t.Errorf("promised %+v, retained %+v", s.promised, s.all)
	}
	if _, fits := begin("client/more", 10_000, false); !fits {
		t.Error("what was refused keeps its room")
	}
	s.Set(Entry{Message: &broker.Message{Topic: "client/old", Payload: make([]byte, 50_000)}}) // of a journal with other limits
	p, fits := begin("status", 9_000, true)
	if !fits {
		t.Error("this process has no reserve")
	}
	s.Set(Entry{Message: p.message, Own: true})
	if _, fits := begin("status2", 2_000, true); fits {
		t.Error("this process may exceed its reserve beyond the limits")
	}
}

// TestOrder: of several publishes of a topic on their way to disk, the one that began last is stored in the end, in whatever
// order they arrive; one without a payload removes what it comes over.
func TestOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}, {0, 2, 1}, {1, 0, 2}} {
		for last, payload := range []string{"", "x"} {
			s := New(Load{100, 1000}, func(string) bool { return false })
			messages := make([]*broker.Message, 3)
			numbers := make([]uint64, 3)
			for i := range messages {
				messages[i] = &broker.Message{Topic: "a", Payload: []byte{byte(i)}}
				numbers[i] = s.Begin("a")
			}
			messages[2].Payload = []byte(payload)
			newest := -1
			for _, i := range order {
				stored := s.Put("a", numbers[i], Load{}, func() Entry { return Entry{Message: messages[i]} })
				if stored != (i > newest) {
					t.Errorf("%v: publish %d stored %v after %d", order, i, stored, newest)
				}
				newest = max(newest, i)
				if _, onTheirWay := s.Latest("a"); !onTheirWay {
					t.Errorf("%v: none on its way before End", order)
				}
			}
			for range order {
				s.End("a")
			}
			e, onTheirWay := s.Latest("a")
			if onTheirWay || last == 1 && e.Message != messages[2] || last == 0 && e.Message != nil || s.Has(messages[2]) != (last == 1) || s.Len() != last {
				t.Errorf("%v: left %+v, %d messages, on their way %v", order, e.Message, s.Len(), onTheirWay)
			}
		}
	}
}

// TestMatching: a subscription finds what was stored before its version of the index, by topic, and nothing else; topics
// that do not count are found too, but not listed by Topics.
func TestMatching(t *testing.T) {
	s := New(Load{100, 1000}, func(topic string) bool { return topic == "$SYS/x" })
	for version, topic := range []string{"b/1", "a/1", "$SYS/x", "a/2"} {
		s.Set(Entry{Message: &broker.Message{Topic: topic, Payload: []byte("x")}, Version: uint64(version)})
	}
	for _, test := range []struct {
		filter  string
		version uint64
		want    []string
	}{
		{"#", 4, []string{"a/1", "a/2", "b/1"}},
		{"#", 3, []string{"a/1", "b/1"}},
		{"#", 0, nil},
		{"a/+", 4, []string{"a/1", "a/2"}},
		{"a/2", 4, []string{"a/2"}},
		{"a/2", 3, nil},
		{"$SYS/#", 4, []string{"$SYS/x"}},
	} {
		var got []string
		for _, e := range s.Matching(test.filter, test.version) {
			got = append(got, e.Message.Topic)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s of version %d: %q, want %q", test.filter, test.version, got, test.want)
		}
	}
	s.Begin("a/3")
	all := func(string) bool { return true }
	if got := s.Topics(all, "a/1"); !slices.Equal(got, []string{"a/2", "a/3", "b/1"}) {
		t.Errorf("topics after a/1: %q", got)
	}
	if bytes := 3 * len("a/1x"); s.Bytes() != bytes || s.Len() != 4 {
		t.Errorf("%d bytes of %d messages, want %d of 4", s.Bytes(), s.Len(), bytes)
	}
	s.Forget("$SYS/x")
	if s.Len() != 3 {
		t.Errorf("%d messages, want 3", s.Len())
	}
}
