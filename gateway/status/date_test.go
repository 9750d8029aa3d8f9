package status

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"holdfast/broker/brokertest"
)

// times calls do with each time in v, and with where it is.
func times(v reflect.Value, path string, do func(path string, t reflect.Value)) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		do(path, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			times(v.Field(i), path+"."+v.Type().Field(i).Name, do)
		}
	case reflect.Slice:
		for i := range v.Len() {
			times(v.Index(i), path, do)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			times(v.Elem(), path, do)
		}
	}
}

// TestTimesFollowTheClock steps the wall clock after every time in a status was taken. Each keeps its distance to now,
// but for those that no clock of this process has told.
func TestTimesFollowTheClock(t *testing.T) {
	written := map[string]string{ // with where it is from
		".Bridges.Certificates.Expires": "a certificate",
		".Bridges.Oldest":               "the journal, which knows how long it has waited",
		".Journal.Oldest":               "the journal, which knows how long it has waited",
	}
	for _, step := range append(brokertest.Steps(), 0, 20*time.Millisecond) {
		taken := time.Now()
		now := brokertest.Stepped(taken.Add(90*time.Minute), step)
		change, trial := &Change{}, &Trial{}
		s := &Status{
			Sensors: []Sensor{{Readings: make([]Reading, 2)}}, Outputs: make([]Output, 1), Clients: Clients{List: make([]Client, 1)},
			Bridges: []Bridge{{Unmatched: make([]UnmatchedRule, 1), Certificates: make([]Certificate, 1)}}, Listeners: make([]Listener, 2),
			Journal: Journal{Losses: make([]Loss, 1)}, Config: Config{Last: change, Trial: trial},
		}
		times(reflect.ValueOf(s).Elem(), "", func(_ string, v reflect.Value) { v.Set(reflect.ValueOf(taken)) })
		s.Time = now
		s.Redate()
		seen := 0
		times(reflect.ValueOf(s).Elem(), "", func(path string, v reflect.Value) {
			at := v.Interface().(time.Time)
			want := taken.Round(0).Add(step.Round(time.Second))
			if path == ".Time" {
				want = now.Round(0)
			}
			if _, ok := written[path]; ok {
				want = taken
			}
			seen++
			if !at.Equal(want) || fmt.Sprint(at) != fmt.Sprint(want) { // nor does it move with the next step
				t.Errorf("step by %v: %s: got %v, want %v", step, path, at, want)
			}
		})
		if seen < 20 || !change.Time.Equal(taken) || !trial.Begun.Equal(taken) {
			t.Errorf("%d times, want them all, and what others hold left alone: %v, %v", seen, change.Time, trial.Begun)
		}
	}
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := Date(time.Now(), past); !got.Equal(past) {
		t.Errorf("a time that was written down: got %v, want %v", got, past)
	}
}
