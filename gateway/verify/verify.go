// Package verify checks the completeness of a stream: whether all readings of gateways have arrived upstream.
//
// The readings of a device are numbered without a gap, over restarts. A number that is missing between the
// first and the last that came is lost, late, or was announced as lost by the gateway on
// holdfast/<device>/losses. A report that is Complete promises: each reading between First and Last has
// come at least once, or a gateway has announced its loss and the reason. Memory is bounded, whatever comes.
//
// A gateway whose data directory was restored from an old copy, or lost, does not know which numbers it has given. If
// it notices, it goes on above the next multiple of Series, and what it leaves out is no gap: see Device.Restarts. If
// it cannot notice, it gives numbers again: see Device.Reused.
//
// It knows nothing of readings before the first, unless it is given where to begin, or after the last, nor of
// messages without a number; a stream that holds only some readings of a device has gaps by nature.
package verify

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// What is kept, of all devices together, and how many ranges a report lists for each.
const (
	maxDevices   = 10_000
	maxTopics    = 100_000
	maxGaps      = 200_000
	maxAnnounced = 100_000
	listed       = 20
)

// Series is how many numbers the readings of one series have. The first number of a series but the first one is 1 above a
// multiple of it.
const Series = 1 << 32

// unknown is the reason of an announcement that an unknown number of messages is lost: its Count is 0. It is a reason
// of the journal's.
const unknown = "unknown"

// Range is a range of numbers, both ends included.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

func (r Range) len() uint64 { return r.Last - r.First + 1 }

// Loss is the payload of an announcement: see gateway/README.md.
type Loss struct {
	Bridge   string   `json:"bridge"`
	ID       uint64   `json:"id"`
	First    uint64   `json:"first"`
	Last     uint64   `json:"last"`
	Count    uint64   `json:"count"`
	Reason   string   `json:"reason"`
	Time     string   `json:"time"`
	Readings *Numbers `json:"readings,omitempty"`
}

// Numbers are readings that were lost: Count of those from First to Last. With the reason unknown Count is 0: some of
// them were given to readings, and the others to none.
type Numbers struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Count uint64 `json:"count"`
}

// Device is what is known of one device's readings.
type Device struct {
	Device      string  `json:"device"`
	First       uint64  `json:"first"` // number that was asked for, or came, first
	Last        uint64  `json:"last"`  // highest that came
	Received    uint64  `json:"received"`
	Duplicates  uint64  `json:"duplicates"`
	Disorder    uint64  `json:"disorder"` // came behind a higher number on the same topic
	Early       uint64  `json:"early"`    // below First
	Missing     uint64  `json:"missing"`
	Announced   uint64  `json:"announced"` // of those missing
	Unaccounted uint64  `json:"unaccounted"`
	Ranges      []Range `json:"ranges,omitempty"` // the first of what is unaccounted
	// Unnumbered messages were announced as lost without saying which readings are among them.
	Unnumbered uint64 `json:"unnumbered,omitempty"`
	// Unknown announcements say that a number of messages is lost that is not known.
	Unknown uint64 `json:"unknown,omitempty"`
	// Restarts are numbers that did not come and that the gateway left out, because it did not know which of them it
	// had given: an unknown number of readings is lost there. The first of them are listed.
	Restarts []Range `json:"restarts,omitempty"`
	// Reused counts new readings with a number that another reading had: the gateway's data went back in time, and what
	// else had these numbers, or is missing there, is not known.
	Reused  uint64            `json:"reused,omitempty"`
	Reasons map[string]uint64 `json:"reasons,omitempty"` // of announced readings, as the gateway counts them
}

// Report is what has been found.
type Report struct {
	Devices []Device `json:"devices"`
	Ignored uint64   `json:"ignored"` // messages without a number
	// Beyond counts messages that exceeded what is kept: the report is not whole.
	Beyond uint64 `json:"beyond,omitempty"`
}

// Complete reports whether nothing is missing that was not announced.
func (r *Report) Complete() bool {
	return len(r.Devices) > 0 && r.Beyond == 0 && !slices.ContainsFunc(r.Devices, func(d Device) bool {
		return d.Unaccounted > 0 || d.Reused > 0 || len(d.Restarts) > 0 && d.Unknown == 0
	})
}

// Checker takes messages as they come. It is for one goroutine.
type Checker struct {
	level     int
	from      uint64
	devices   map[string]*device
	topics    map[string]newest
	gaps      int
	announced int
	ignored   uint64
	beyond    uint64
}

// newest is of a topic.
type newest struct {
	seq  uint64    // of the last reading
	time time.Time // the newest of any
}

type device struct {
	Device
	gaps      []Range // not seen, ascending
	closed    uint64  // missing numbers in gaps that are not kept any more
	announced map[announcementKey]Loss
}

// announcementKey identifies an announcement: another one with the same value replaces it, because the range has
// grown or the message came twice. Of a gateway whose data went back in time, again counts other ranges with the same name.
type announcementKey struct {
	bridge    string
	id, first uint64
	again     int
}

// New returns a Checker. The device's name is the level of topics with that number, from 1 on; 0 takes
// topics that end in sensors/<device>/<sensor>/<quantity>. from is the first number that every device is
// asked for; 0 begins with the one that comes first.
func New(level int, from uint64) *Checker {
	return &Checker{level: level, from: from, devices: map[string]*device{}, topics: map[string]newest{}}
}

// Message takes one message that has come, and reports whether it was a reading or an announcement.
func (c *Checker) Message(topic string, payload []byte) bool {
	levels := strings.Split(topic, "/")
	if n := len(levels); n >= 3 && levels[n-3] == "holdfast" && levels[n-1] == "losses" {
		var l Loss
		if json.Unmarshal(payload, &l) == nil && (l.Count > 0 || l.Reason == unknown) {
			c.loss(levels[n-2], l)
			return true
		}
	} else if name, ok := c.name(levels); ok {
		var reading struct {
			Seq  *uint64         `json:"seq"`
			Time json.RawMessage `json:"time"`
		}
		if json.Unmarshal(payload, &reading) == nil && reading.Seq != nil && *reading.Seq > 0 {
			var taken time.Time // zero if it is not known
			_ = json.Unmarshal(reading.Time, &taken)
			c.reading(name, topic, *reading.Seq, taken)
			return true
		}
	}
	c.ignored++
	return false
}

func (c *Checker) name(levels []string) (string, bool) {
	n := len(levels)
	switch {
	case c.level > 0 && c.level <= n:
		return levels[c.level-1], true
	case c.level == 0 && n >= 4 && levels[n-4] == "sensors":
		return levels[n-3], true
	}
	return "", false
}

func (c *Checker) device(name string) *device {
	d := c.devices[name]
	if d == nil && len(c.devices) < maxDevices {
		d = &device{Device: Device{Device: name}, announced: map[announcementKey]Loss{}}
		c.devices[name] = d
	}
	if d == nil {
		c.beyond++
	}
	return d
}

func (c *Checker) reading(name, topic string, seq uint64, taken time.Time) {
	d := c.device(name)
	if d == nil {
		return
	}
	if d.First == 0 {
		d.First = cmp.Or(c.from, seq)
		d.Last = d.First - 1
	}
	last, known := c.topics[topic]
	after := known && taken.After(last.time)
	switch {
	case seq > d.Last:
		if seq > d.Last+1 {
			d.gaps = append(d.gaps, Range{d.Last + 1, seq - 1})
			c.gaps++
		}
		d.Last = seq
		d.Received++
	case seq < d.First:
		d.Early++
		return
	case !c.fill(d, seq):
		if !after {
			d.Duplicates++
			return
		}
		d.Reused++ // each one of this topic was older, so it is none of them
		last.time = taken
		c.topics[topic] = last
		return
	default:
		d.Received++
	}
	if after || !known {
		last.time = taken
	}
	switch {
	case known && seq < last.seq:
		d.Disorder++
		c.topics[topic] = last
	case known || len(c.topics) < maxTopics:
		last.seq = seq
		c.topics[topic] = last
	default:
		c.beyond++
	}
	for ; c.gaps > maxGaps && len(d.gaps) > 0; c.gaps-- {
		d.closed += d.gaps[0].len()
		d.gaps = d.gaps[1:]
	}
}

// fill takes a number out of the gaps, and reports whether it was in one.
func (c *Checker) fill(d *device, seq uint64) bool {
	i := find(d.gaps, seq)
	if i == len(d.gaps) || seq < d.gaps[i].First {
		return false
	}
	left := d.gaps[i].without(Range{seq, seq})
	d.gaps = slices.Replace(d.gaps, i, i+1, left...)
	c.gaps += len(left) - 1
	return true
}

// find returns the first of gaps that ends at n or later.
func find(gaps []Range, n uint64) int {
	i, _ := slices.BinarySearchFunc(gaps, n, func(r Range, n uint64) int { return cmp.Compare(r.Last, n) })
	return i
}

// without returns what is left of r when o, which lies in it, is taken out.
func (r Range) without(o Range) (left []Range) {
	if r.First < o.First {
		left = append(left, Range{r.First, o.First - 1})
	}
	if r.Last > o.Last {
		left = append(left, Range{o.Last + 1, r.Last})
	}
	return left
}

func (c *Checker) loss(name string, l Loss) {
	d := c.device(name)
	if d == nil {
		return
	}
	key := announcementKey{l.Bridge, l.ID, l.First, 0}
	old, known := d.announced[key]
	for known && old.other(&l) && c.announced < maxAnnounced {
		key.again++
		old, known = d.announced[key]
	}
	switch {
	case known && old.Count > l.Count: // an older message that came again
	case known || c.announced < maxAnnounced:
		if !known {
			c.announced++
		}
		d.announced[key] = l
	default:
		c.beyond++
	}
}

// other reports whether next has the name of the range l and is another one: a range only grows, and with it its time.
// Times are UTC in one format, in order as text. A gateway's clock may step, so a range that contains an earlier one has
// grown whatever its time is.
func (l *Loss) other(next *Loss) bool {
	switch {
	case l.Reason != next.Reason || !l.within(next) && !next.within(l):
		return true
	case next.within(l) && l.Count > 0:
		return next.Time > l.Time
	}
	return false
}

// within reports whether l may have grown to be o.
func (l *Loss) within(o *Loss) bool {
	if l.Last > o.Last || l.Count > o.Count {
		return false
	}
	a, b := l.Readings, o.Readings
	return a == nil || b != nil && a.First >= b.First && a.Last <= b.Last && a.Count <= b.Count
}
