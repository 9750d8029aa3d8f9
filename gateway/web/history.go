package web

import (
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// How much is remembered of each quantity: a day in slots, and the last points as they came. It is
// allocated as it fills.
const (
	slotTime   = 2 * time.Minute
	slots      = 720
	recentGap  = 5 * time.Second // least time between points
	recents    = 240
	maxSeries  = 256 // 256 * (720*16 + 240*8) bytes = 3.4 MB
	sparkTime  = time.Hour
	sparkMost  = 60 // points
	historyAge = slots * slotTime
)

// tick is the unit of a point's time, which counts from the start of the process by the monotonic clock: when
// the wall clock is corrected, old points move to where they belong.
const tick = 100 * time.Millisecond

// History remembers a day of readings, by names such as "air/temperature". Methods are safe for
// concurrent use.
type History struct {
	mu      sync.Mutex
	epoch   time.Time
	version int // changes when former readings have been put in front
	series  map[string]*series
}

// series is one quantity. Both lists are rings once they are full, with the oldest at next.
type series struct {
	slots  ring[slot]
	recent ring[point]
}

type slot struct {
	at              int32 // ticks, its middle
	mean, low, high float32
}

type point struct {
	at    int32 // ticks
	value float32
}

type ring[T any] struct {
	list []T
	next int // where the oldest is, if it is full
}

// add grows by a twelfth of the most at a time.
func (r *ring[T]) add(v T, most int) {
	if len(r.list) < most {
		if len(r.list) == cap(r.list) {
			grown := make([]T, len(r.list), min(most, len(r.list)+most/12))
			copy(grown, r.list)
			r.list = grown
		}
		r.list = append(r.list, v)
		return
	}
	r.list[r.next] = v
	r.next = (r.next + 1) % most
}

func (r *ring[T]) last() *T {
	if len(r.list) == 0 {
		return nil
	}
	return &r.list[(r.next+len(r.list)-1)%len(r.list)]
}

func (r *ring[T]) each(f func(T)) {
	for i := range r.list {
		f(r.list[(r.next+i)%len(r.list)])
	}
}

// NewHistory returns one that is empty.
func NewHistory() *History { return &History{epoch: time.Now(), series: map[string]*series{}} }

// Add notes a reading. Of more quantities than maxSeries the last ones are not remembered.
func (h *History) Add(name string, at time.Time, value float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.series[name]
	if s == nil {
		if len(h.series) >= maxSeries {
			return
		}
		s = new(series)
		h.series[name] = s
	}
	t, v := h.ticks(at), float32(value)
	last := s.recent.last()
	if last != nil && t <= last.at {
		return // the same moment, or before it
	}
	if last == nil || t-last.at >= int32(recentGap/tick) {
		s.recent.add(point{t, v}, recents)
	}
	middle := slotOf(t)
	sl := s.slots.last()
	if sl == nil || sl.at != middle {
		s.slots.add(slot{middle, v, v, v}, slots)
		return
	}
	// Of a slot's mean, newer values count a little more than older ones: no sum has to be kept.
	sl.mean += (v - sl.mean) / 8
	sl.low, sl.high = min(sl.low, v), max(sl.high, v)
}

// slotOf is the middle of the slot that t is in.
func slotOf(t int32) int32 {
	const width = int32(slotTime / tick)
	return int32(math.Floor(float64(t)/float64(width)))*width + width/2
}

func (h *History) ticks(at time.Time) int32 { return int32(at.Sub(h.epoch) / tick) }

// Before returns a function that adds readings of former processes, and one that puts them in front of those
// of this one. Values have to come in order, and one of each slot is enough.
func (h *History) Before() (add func(name string, at time.Time, value func() (float64, bool)), done func()) {
	old := map[string]*ring[slot]{}
	h.mu.Lock()
	epoch := h.epoch.Round(0) // there is only the wall clock to compare with
	h.mu.Unlock()
	now := time.Now()
	if moved := now.Round(0).Sub(epoch) - now.Sub(h.epoch); moved != 0 {
		epoch = epoch.Add(moved) // the clock was set since then
	}
	add = func(name string, at time.Time, value func() (float64, bool)) {
		age := at.Sub(epoch)
		r := old[name]
		if age >= 0 || age < -historyAge || r == nil && len(old) >= maxSeries {
			return
		}
		middle := slotOf(int32(age / tick))
		if r != nil && middle <= r.last().at {
			return
		}
		v, ok := value()
		if !ok {
			return
		}
		if r == nil {
			r = new(ring[slot])
			old[name] = r
		}
		r.add(slot{middle, float32(v), float32(v), float32(v)}, slots)
	}
	done = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for name, before := range old {
			s := h.series[name]
			if s == nil {
				continue // it is not measured any more
			}
			s.slots.each(func(v slot) {
				if last := before.last(); v.at > last.at {
					before.add(v, slots)
				}
			})
			s.slots = *before
		}
		h.version++
	}
	return add, done
}

// Version changes when a page has to ask again.
func (h *History) Version() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.version
}

// Chart is what a page draws: times in seconds since 1970, and values.
type Chart struct {
	Time []float64 `json:"t"`
	Mean []float32 `json:"v"`
	Low  []float32 `json:"lo,omitempty"`
	High []float32 `json:"hi,omitempty"`
}

func (c *Chart) add(base float64, s slot) {
	c.Time = append(c.Time, math.Round(base*10+float64(s.at))/10)
	c.Mean, c.Low, c.High = append(c.Mean, s.mean), append(c.Low, s.low), append(c.High, s.high)
}

// base is the wall time of tick 0, in seconds.
func (h *History) base() float64 {
	now := time.Now()
	return float64(now.UnixMilli())/1000 - now.Sub(h.epoch).Seconds()
}

// Chart returns everything that is known of one quantity: slots, and from there on single points.
func (h *History) Chart(name string) (c Chart, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.series[name]
	if s == nil {
		return c, false
	}
	base, oldest := h.base(), h.ticks(time.Now().Add(-historyAge))
	from := s.recent.list[s.recent.next%len(s.recent.list)].at
	s.slots.each(func(v slot) {
		if v.at >= oldest && v.at < from {
			c.add(base, v)
		}
	})
	s.recent.each(func(p point) { c.add(base, slot{p.at, p.value, p.value, p.value}) })
	return c, true
}

// sparks returns the last hour of everything, in few points.
func (h *History) sparks() map[string]Chart {
	h.mu.Lock()
	names := make([]string, 0, len(h.series))
	for name := range h.series {
		names = append(names, name)
	}
	h.mu.Unlock()
	all := make(map[string]Chart, len(names))
	after := float64(time.Now().Add(-sparkTime).Unix())
	for _, name := range names {
		c, ok := h.Chart(name)
		if !ok {
			continue
		}
		i, _ := slices.BinarySearch(c.Time, after)
		var few Chart
		step := (len(c.Time)-i)/sparkMost + 1
		for ; i < len(c.Time); i += step {
			few.Time, few.Mean = append(few.Time, c.Time[i]), append(few.Mean, c.Mean[i])
		}
		all[name] = few
	}
	return all
}

// history answers with one quantity's chart, or with a few points of all.
func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("series")
	if name == "" {
		answer(w, http.StatusOK, s.opts.History.sparks())
		return
	}
	c, ok := s.opts.History.Chart(name)
	if !ok {
		fail(w, http.StatusNotFound, "nothing is remembered of this quantity")
		return
	}
	answer(w, http.StatusOK, c)
}
