package verify

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// feed gives readings of device d with these numbers, on a topic for each tenth number.
func feed(c *Checker, d string, numbers ...uint64) {
	for _, n := range numbers {
		c.Message(fmt.Sprintf("sites/north/sensors/%s/air/%d", d, n%10), fmt.Appendf(nil, `{"value":1,"unit":"C","seq":%d}`, n))
	}
}

func upTo(from, to uint64) (list []uint64) {
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

func announce(c *Checker, d, text string) { c.Message("holdfast/"+d+"/losses", []byte(text)) }

// TestKnownGaps: what is missing, what of that was announced, duplicates and disorder, of a stream that was
// made with them.
func TestKnownGaps(t *testing.T) {
	c := New(0, 0)
	feed(c, "a", upTo(100, 199)...)
	feed(c, "a", upTo(220, 299)...)                                 // 200 to 219 are missing: 10 announced
	feed(c, "a", 290, 291, 292)                                     // sent again
	feed(c, "a", upTo(310, 320)...)                                 // 300 to 309 are missing: announced as damage, without numbers
	feed(c, "a", 345, 355, 335, 325)                                // in disorder: 335 and 325 after 345
	feed(c, "a", upTo(321, 324)...)                                 // late, each on another topic
	feed(c, "a", 99)                                                // from before
	feed(c, "a", upTo(400, 410)...)                                 // 356 to 399: announced twice, in two ranges of which one has grown
	feed(c, "b", 7, 8, 9)                                           // another device, with nothing missing
	c.Message("sites/north/status/a/air", []byte(`{"state":"ok"}`)) // no number
	c.Message("sites/north/sensors/a/air/x", []byte(`{"seq":"text"}`))
	announce(c, "a", `{"bridge":"cloud","id":1,"first":900,"last":950,"count":10,"reason":"refused","readings":{"first":201,"last":230,"count":10}}`)
	announce(c, "a", `{"bridge":"cloud","id":2,"first":960,"last":980,"count":4,"reason":"damage"}`)
	announce(c, "a", `{"bridge":"cloud","id":3,"first":990,"last":995,"count":4,"reason":"max_size","readings":{"first":356,"last":359,"count":4}}`)
	announce(c, "a", `{"bridge":"cloud","id":3,"first":990,"last":1095,"count":40,"reason":"max_size","readings":{"first":356,"last":395,"count":40}}`)
	announce(c, "a", `{"bridge":"cloud","id":3,"first":990,"last":995,"count":4,"reason":"max_size","readings":{"first":356,"last":359,"count":4}}`)
	announce(c, "a", `{"bridge":"other","id":4,"first":996,"last":999,"count":6,"reason":"max_size","readings":{"first":394,"last":399,"count":6}}`)
	announce(c, "a", `{"bridge":"other","id":5,"first":1,"last":9,"count":6,"reason":"max_size","readings":{"first":1,"last":50,"count":50}}`)
	r := c.Report()
	want := []Device{
		{
			Device: "a", First: 100, Last: 410, Received: 100 + 80 + 11 + 4 + 4 + 11, Duplicates: 3, Disorder: 2, Early: 1,
			Missing: 20 + 10 + 27 + 44, Announced: 10 + 44, Unaccounted: 10 + 10 + 27, Unnumbered: 4,
			Reasons: map[string]uint64{"refused": 10, "max_size": 46},
			Ranges:  []Range{{200, 200}, {211, 219}, {300, 309}, {326, 334}, {336, 344}, {346, 354}},
		},
		{Device: "b", First: 7, Last: 9, Received: 3, Reasons: map[string]uint64{}},
	}
	if !reflect.DeepEqual(r.Devices, want) {
		t.Errorf("got  %+v\nwant %+v", r.Devices, want)
	}
	if r.Ignored != 2 || r.Complete() {
		t.Errorf("ignored %d, complete %v", r.Ignored, r.Complete())
	}
	feed(c, "a", r.Devices[0].Ranges[0].First)
	feed(c, "a", slices.Concat(upTo(211, 219), upTo(300, 309), upTo(326, 354))...)
	if r := c.Report(); !r.Complete() {
		t.Errorf("not complete: %+v", r)
	}
}

// TestFrom: what is missing in front counts if it is known where to begin.
func TestFrom(t *testing.T) {
	c := New(0, 5)
	feed(c, "a", 4, 9, 3, 6)
	if d := c.Report().Devices[0]; d.First != 5 || d.Last != 9 || d.Missing != 3 || d.Early != 2 {
		t.Errorf("%+v", d)
	}
}

// TestAgainstASet compares with numbers that are simply remembered.
func TestAgainstASet(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c, seen := New(0, 0), map[uint64]bool{}
		var top, duplicates uint64
		feed(c, "a", 1)
		seen[1] = true
		for range 2000 {
			n := 1 + rng.Uint64N(1500)
			if seen[n] {
				duplicates++
			}
			seen[n], top = true, max(top, n)
			feed(c, "a", n)
		}
		first, count := 1+rng.Uint64N(700), 1+rng.Uint64N(40)
		last := first + rng.Uint64N(700)
		announce(c, "a", fmt.Sprintf(`{"id":1,"count":%d,"reason":"x","readings":{"first":%d,"last":%d,"count":%d}}`, count, first, last, count))
		var missing, within uint64
		for n := uint64(1); n <= top; n++ {
			if !seen[n] {
				missing++
				if first <= n && n <= last && within < count {
					within++
				}
			}
		}
		d := c.Report().Devices[0]
		if d.Missing != missing || d.Announced != within || d.Unaccounted != missing-within || d.Duplicates != duplicates || d.Received != uint64(len(seen)) {
			t.Fatalf("seed %d: got %+v, want %d missing, %d announced, %d duplicates", seed, d, missing, within, duplicates)
		}
	}
}

// TestBounds: whatever comes, memory is bounded and a report that is not whole says so.
func TestBounds(t *testing.T) {
	c := New(1, 0)
	for n := range uint64(maxGaps + 1000) {
		c.Message("a/t", fmt.Appendf(nil, `{"seq":%d}`, 2*n+1))
	}
	d := c.Report().Devices[0]
	if c.gaps > maxGaps || len(c.devices["a"].gaps) > maxGaps || d.Missing != maxGaps+999 || d.Unaccounted != d.Missing || len(d.Ranges) > listed {
		t.Errorf("%d gaps, %+v", c.gaps, d)
	}
	for n := range maxDevices + 10 {
		c.Message(fmt.Sprintf("d%d/t", n), []byte(`{"seq":1}`))
	}
	for n := range maxAnnounced + 10 {
		announce(c, "a", fmt.Sprintf(`{"id":%d,"count":1}`, n))
	}
	if r := c.Report(); len(r.Devices) != maxDevices || r.Beyond != 11+10 || r.Complete() {
		t.Errorf("%d devices, %d beyond", len(r.Devices), r.Beyond)
	}
}

// TestNonsense: numbers at the end of their range and impossible announcements do no harm.
func TestNonsense(t *testing.T) {
	c := New(0, 0)
	if c.Report().Complete() {
		t.Error("nothing came, and that is complete")
	}
	feed(c, "a", 1, math.MaxUint64, math.MaxUint64)
	announce(c, "a", `{"id":1,"count":1,"readings":{"first":9,"last":3,"count":18446744073709551615}}`)
	announce(c, "a", `{"id":2,"count":18446744073709551615,"readings":{"first":0,"last":18446744073709551615,"count":18446744073709551615}}`)
	announce(c, "a", `{"id":3,"count":-1}`)
	announce(c, "a", `[]`)
	if d := c.Report().Devices[0]; d.Missing != math.MaxUint64-2 || d.Unaccounted != 0 || d.Duplicates != 1 {
		t.Errorf("%+v", d)
	}
}

// TestUnknownLoss: an announcement of an unknown number is reported, once, and explains nothing that is missing.
func TestUnknownLoss(t *testing.T) {
	c := New(0, 0)
	feed(c, "a", 1, 2, 5)
	for range 2 {
		announce(c, "a", `{"bridge":"cloud","id":1,"first":900,"last":900,"count":0,"reason":"unknown"}`)
	}
	announce(c, "a", `{"bridge":"cloud","id":2,"first":950,"last":950,"count":0,"reason":"max_size"}`) // says nothing
	r := c.Report()
	if len(r.Devices) != 1 || r.Devices[0].Unknown != 1 || r.Devices[0].Unaccounted != 2 || r.Devices[0].Unnumbered != 0 || r.Ignored != 1 || r.Complete() {
		t.Errorf("%+v", r)
	}
}

// TestDataThatWentBack: what gateways send whose data directory was restored from an older copy. Each case has the
// numbers that came, with the second at which they were taken, and announcements.
func TestDataThatWentBack(t *testing.T) {
	const second = 3 * Series // where the second series begins
	told := func(first, last uint64) string {
		return fmt.Sprintf(`{"bridge":"cloud","id":12884901889,"first":90,"last":90,"count":0,"reason":"unknown","readings":{"first":%d,"last":%d,"count":0}}`, first, last)
	}
	type reading struct{ seq, at uint64 }
	for _, c := range []struct {
		name      string
		readings  []reading
		losses    []string
		want      Device
		unknowing bool // not Complete
	}{
		{"noticed, not told yet", []reading{{1, 1}, {2, 2}, {second + 1, 3}, {second + 2, 4}}, nil,
			Device{Received: 4, Restarts: []Range{{3, second}}}, true},
		{"noticed and told", []reading{{1, 1}, {2, 2}, {second + 1, 3}}, []string{told(2, second)},
			Device{Received: 3, Unknown: 1, Restarts: []Range{{3, second}}}, false},
		{"a gap before it and one after it", []reading{{1, 1}, {5, 2}, {second + 1, 3}, {second + 3, 5}}, []string{told(4, second)},
			Device{Received: 4, Unknown: 1, Restarts: []Range{{4, 4}, {6, second}}, Missing: 3, Unaccounted: 3, Ranges: []Range{{2, 3}, {second + 2, second + 2}}}, true},
		{"the first of the series is missing", []reading{{1, 1}, {second + 3, 3}}, []string{told(2, second)},
			Device{Received: 2, Unknown: 1, Restarts: []Range{{2, second}}, Missing: 2, Unaccounted: 2, Ranges: []Range{{second + 1, second + 2}}}, true},
		{"one from before comes late", []reading{{1, 1}, {second + 1, 3}, {2, 2}}, []string{told(2, second)},
			Device{Received: 3, Disorder: 1, Unknown: 1, Restarts: []Range{{3, second}}}, false},
		{"not noticed", []reading{{1, 1}, {2, 2}, {3, 3}, {2, 10}, {3, 11}, {4, 12}, {4, 12}}, nil,
			Device{Received: 4, Reused: 2, Duplicates: 1}, true},
		{"sent again", []reading{{1, 1}, {2, 2}, {3, 3}, {2, 2}, {3, 3}, {4, 4}}, nil, Device{Received: 4, Duplicates: 2}, false},
		{"sent again after the clock stepped back", []reading{{1, 100}, {2, 5}, {1, 100}, {2, 5}}, nil, Device{Received: 2, Duplicates: 2}, false},
		{"losses with a name that was given before", []reading{{1, 1}, {10, 2}}, []string{
			`{"bridge":"cloud","id":7,"first":5,"last":9,"count":3,"reason":"max_size","time":"2026-11-24T10:00:00.000Z","readings":{"first":2,"last":4,"count":3}}`,
			`{"bridge":"cloud","id":7,"first":5,"last":7,"count":1,"reason":"max_size","time":"2026-11-24T10:00:09.000Z","readings":{"first":6,"last":6,"count":1}}`,
			`{"bridge":"cloud","id":7,"first":5,"last":8,"count":2,"reason":"max_size","time":"2026-11-24T10:00:19.000Z","readings":{"first":6,"last":7,"count":2}}`,
		}, Device{Received: 2, Missing: 8, Announced: 5, Unaccounted: 3, Ranges: []Range{{5, 5}, {8, 9}}, Reasons: map[string]uint64{"max_size": 5}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := New(0, 0)
			for _, r := range c.readings {
				ch.Message("sensors/a/air/t", fmt.Appendf(nil, `{"value":1,"time":"2026-11-24T10:%02d:%02d.000Z","seq":%d}`, r.at/60, r.at%60, r.seq))
			}
			for range 2 {
				for _, l := range c.losses {
					announce(ch, "a", l)
				}
			}
			r := ch.Report()
			c.want.Device, c.want.First, c.want.Last = "a", c.readings[0].seq, r.Devices[0].Last
			if c.want.Reasons == nil {
				c.want.Reasons = map[string]uint64{}
			}
			if got, want := fmt.Sprintf("%+v", r.Devices[0]), fmt.Sprintf("%+v", c.want); got != want || r.Complete() == c.unknowing {
				t.Errorf("complete %v\ngot  %s\nwant %s", r.Complete(), got, want)
			}
		})
	}
}
