package server

import (
	"fmt"
	"testing"

	"holdfast/broker"
)

// TestRetainedOnTheirWay: messages that are on their way to disk have their room already, so that many at the same time do
// not exceed the limits together; what is refused gives it back, and this process has its reserve in any case.
func TestRetainedOnTheirWay(t *testing.T) {
	most := load{100, 80_000}
	s := &retainedStore{messages: map[string]retained{}}
	publish := func(topic string, size int, own bool) (*publication, bool) {
		p := &publication{message: &broker.Message{Topic: topic, Payload: make([]byte, size)}, own: own}
		fits, _ := s.fits(p, most)
		return p, fits
	}
	var going []*publication
	for i := range 20 {
		if p, fits := publish(fmt.Sprint("client/", i), 10_000, false); fits {
			going = append(going, p)
		}
	}
	if len(going) != 6 { // of 70,000 bytes, with their topics
		t.Errorf("%d on their way fit, want 6", len(going))
	}
	s.keepPromise(going[0]) // refused
	for _, p := range going[1:] {
		s.keepPromise(p)
		s.set(retained{message: p.message})
	}
	if s.promised != (load{}) || s.all.messages != 5 {
		t.Errorf("promised %+v, retained %+v", s.promised, s.all)
	}
	if _, fits := publish("client/more", 10_000, false); !fits {
		t.Error("what was refused keeps its room")
	}
	s.set(retained{message: &broker.Message{Topic: "client/old", Payload: make([]byte, 50_000)}}) // of a journal with other limits
	p, fits := publish("status", 9_000, true)
	if !fits {
		t.Error("this process has no reserve")
	}
	s.set(retained{message: p.message, own: true})
	if _, fits := publish("status2", 2_000, true); fits {
		t.Error("this process may exceed its reserve beyond the limits")
	}
}
