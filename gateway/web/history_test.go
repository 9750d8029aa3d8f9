package web

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHistory: a day in slots, then single points, in order, whatever comes; and no more.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory()
		const n = 2 * 24 * 3600 // seconds
		for i := range n {
			h.Add("air/temperature", time.Now(), float64(i))
			time.Sleep(time.Second)
		}
		h.Add("air/temperature", time.Now().Add(-time.Hour), -1) // late: left out
		c, ok := h.Chart("air/temperature")
		if !ok || !slices.IsSorted(c.Time) || len(c.Time) > slots+recents || len(c.Time) < slots {
			t.Fatalf("got %d points, sorted %v", len(c.Time), slices.IsSorted(c.Time))
		}
		now := float64(time.Now().Unix())
		if age := now - c.Time[0]; age > historyAge.Seconds() || age < historyAge.Seconds()*0.98 {
			t.Errorf("the oldest point is %v s old", age)
		}
		// Of slots values and bounds, of points the values as they were.
		for i, at := range c.Time {
			is := n - (now - at) // what was measured then
			if is := float32(is); c.Low[i] > is+1 || c.High[i] < is-1 || c.Mean[i] < c.Low[i] || c.Mean[i] > c.High[i] {
				t.Fatalf("point %d: got %v from %v to %v, want %v", i, c.Mean[i], c.Low[i], c.High[i], is)
			}
		}
		last := len(c.Time) - 1
		if c.Mean[last] < n-10 || c.Time[last]-c.Time[last-1] != recentGap.Seconds() {
			t.Errorf("the last point is %v, %v s after another", c.Mean[last], c.Time[last]-c.Time[last-1])
		}
		s := h.sparks()["air/temperature"]
		if len(s.Time) > sparkMost || len(s.Time) < sparkMost/2 || s.Time[0] < now-sparkTime.Seconds() || s.Low != nil {
			t.Errorf("a line of %d points from %v s ago", len(s.Time), now-s.Time[0])
		}
		if _, ok := h.Chart("none"); ok {
			t.Error("a quantity without readings has a chart")
		}
	})
}

// TestHistoryIsBounded: the README names the bytes that this comes to.
func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory()
		for i := range 2 * maxSeries {
			h.Add(fmt.Sprint("s", i), time.Now(), 1)
		}
		if len(h.series) != maxSeries {
			t.Errorf("%d quantities, want %d", len(h.series), maxSeries)
		}
		for range slots * 2 {
			h.Add("s0", time.Now(), 1)
			time.Sleep(slotTime)
		}
		if s := h.series["s0"]; cap(s.slots.list) != slots || cap(s.recent.list) != recents {
			t.Errorf("room for %d slots and %d points, want %d and %d", cap(s.slots.list), cap(s.recent.list), slots, recents)
		}
	})
}

// TestFormerReadings come in front of those of this process, and only where they are older.
func TestFormerReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		h := NewHistory()
		for range 10 {
			time.Sleep(time.Minute)
			h.Add("a", time.Now(), 2)
		}
		v := h.Version()
		add, done := h.Before()
		asked := 0
		one := func() (float64, bool) { asked++; return 1, true }
		add("a", begun.Add(-25*time.Hour), one) // too old
		for i := range 60 {
			add("a", begun.Add(time.Duration(i-60)*time.Minute), one)
		}
		add("a", begun.Add(-time.Hour), one)    // not in order
		add("a", begun.Add(time.Minute), one)   // of this process
		add("gone", begun.Add(-time.Hour), one) // not measured any more
		add("a", begun.Add(-time.Second), func() (float64, bool) { return 0, false })
		done()
		if asked != 31 {
			t.Errorf("%d values were asked for, want one for each slot", asked)
		}
		c, _ := h.Chart("a")
		if !slices.IsSorted(c.Time) || len(c.Time) != 30+10 || c.Mean[0] != 1 || c.Mean[29] != 1 || c.Mean[30] != 2 {
			t.Errorf("got %v", c)
		}
		if h.Version() == v {
			t.Error("pages do not ask again")
		}
		if _, ok := h.Chart("gone"); ok {
			t.Error("a quantity without readings has a chart")
		}
	})
}

func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tl := NewTimeline()
		begun := time.Now()
		time.Sleep(time.Minute)
		tl.Changed(true, nil)
		time.Sleep(time.Hour)
		tl.Changed(false, errors.New(strings.Repeat("é", maxReason)))
		got := tl.Periods()
		if len(got) != 3 || got[0].Connected || !got[1].Connected || got[2].Connected ||
			!got[0].Since.Equal(begun) || !got[2].Since.Equal(begun.Add(61*time.Minute)) || len(got[2].Reason) > maxReason+3 {
			t.Errorf("got %+v", got)
		}
		for range maxPeriods {
			tl.Changed(true, nil)
			time.Sleep(time.Second)
			tl.Changed(false, nil)
		}
		if got := tl.Periods(); len(got) != maxPeriods || got[maxPeriods-1].Connected {
			t.Errorf("got %d periods", len(got))
		}
	})
}
