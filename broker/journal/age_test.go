package journal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// machine is the model of a computer whose true time is known: its clock may be unsynchronised, step, and
// begin anywhere at a boot.
type machine struct {
	mu     sync.Mutex    // guards the rest while a journal is open
	true0  time.Duration // true time, since the history began
	booted time.Duration // true time of this boot
	offset time.Duration // of the wall clock from true time
	synced bool
	boots  byte
	ahead  bool // every synchronised reading of this boot was ahead of the true time, or there was none
}

// epoch is the true time at the begin of a history.
var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func (m *machine) clock() Clock {
	return Clock{
		Wall: func() (int64, bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.ahead = m.ahead && (!m.synced || m.offset > time.Second)
			return epoch.Add(m.true0 + m.offset).UnixNano(), m.synced
		},
		Boot: func() int64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return int64(m.true0 - m.booted)
		},
		BootID: [16]byte{m.boots, 1},
	}
}

func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.true0 += d
}

// set sets the clock, or has it step.
func (m *machine) set(synced bool, offset time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced, m.offset = synced, offset
}

// boot is a power cut, after which the clock has stood still or begins in the past.
func (m *machine) boot(r *rand.Rand) {
	off := time.Duration(r.Int64N(int64(40 * 24 * time.Hour)))
	m.true0 += off
	m.booted = m.true0
	m.boots++
	m.synced, m.offset, m.ahead = false, -off, true
	if r.IntN(3) == 0 {
		m.offset = -56 * 365 * 24 * time.Hour
	}
}

// runs is how many histories a test goes through, set by the environment for more.
func runs(t *testing.T, name string, otherwise int) int {
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	return otherwise
}

// sample is one message of a history.
type sample struct {
	taken  time.Duration // true time
	boot   byte
	synced bool
	behind bool // its clock was behind although it was synchronised: the wall time is older than it was
}

// TestAges checks the ages of messages in random histories of steps, boots without a clock, power cuts and restarts of
// the process. Within a boot an age is the true one. Over boots none is ever larger than the true one, but where a clock
// that called itself synchronised was wrong all along, which cannot be known; and where both clocks were right
// it is the true one.
func TestAges(t *testing.T) {
	for seed := range uint64(runs(t, "HOLDFAST_CLOCK_RUNS", 60)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { ages(t, seed) })
	}
}

func ages(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := &machine{ahead: true}
	m.boot(r)
	dir := t.TempDir()
	options := func(o *Options) {
		withoutSync(o)
		o.Clock = m.clock()
	}
	j := open(t, dir, options)
	rd := reader(t, j, "a")
	var samples []sample
	take := func() {
		samples = append(samples, sample{m.true0, m.boots, m.synced, m.synced && m.offset < -time.Second})
		publish(t, j, len(samples)-1, len(samples), rd)
	}
	reopen := func(change func()) {
		closeJournal(t, j)
		change()
		m.ahead = true
		j = open(t, dir, options)
		rd = reader(t, j, "a")
	}
	for range 4 + r.IntN(20) {
		m.pass(time.Duration(r.Int64N(int64(3 * time.Hour))))
		switch r.IntN(8) {
		case 0, 1, 2:
			take()
		case 3:
			m.set(true, 0)
			take()
		case 4:
			m.set(m.synced, m.offset+[]time.Duration{-time.Hour, time.Hour, 40 * 24 * time.Hour, -40 * 24 * time.Hour}[r.IntN(4)])
			take()
		case 5:
			reopen(func() {})
		case 6:
			reopen(func() { m.boot(r) })
		case 7:
			m.set(r.IntN(2) == 0, m.offset)
		}
	}
	take()
	rd.Attach()
	for i, s := range samples {
		d, ok, err := rd.TryNext()
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		age, known := j.Age(d.Time)
		j.clock.read()
		truth := m.true0 - s.taken
		say := func(what string) {
			t.Errorf("message %d: %s: got %v (known %v), the truth is %v: %+v, %+v", i, what, age, known, truth, s, m)
		}
		const rounded = time.Millisecond
		switch {
		case s.boot == m.boots:
			if age < truth-rounded || age > truth+rounded || !known {
				say("in this boot")
			}
		case s.behind || m.ahead && m.synced: // a clock that lies
		case age > truth+rounded:
			say("older than it is")
		case s.synced && m.synced && m.offset == 0 && !known:
			say("both clocks are right, and it is not known")
		}
		if age < m.true0-m.booted-rounded && s.boot != m.boots {
			say("less than this boot")
		}
	}
	closeJournal(t, j)
}

// TestMaxAgeModel keeps what is young and drops what is old for certain, in the same histories.
func TestMaxAgeModel(t *testing.T) {
	for seed := range uint64(runs(t, "HOLDFAST_CLOCK_RUNS", 60) / 10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			m := &machine{ahead: true}
			m.boot(r)
			dir := t.TempDir()
			const most = 24 * time.Hour
			options := func(o *Options) {
				withoutSync(o)
				o.Clock, o.MaxAge, o.SegmentSize = m.clock(), most, smallestPart
			}
			j := open(t, dir, options)
			rd := reader(t, j, "a")
			var batches []sample // of 2,000 messages, more than a segment
			for range 12 {
				switch r.IntN(6) {
				case 0, 1:
					m.pass(time.Duration(r.Int64N(int64(10 * time.Hour))))
				case 2:
					m.set(true, 0)
				case 3:
					m.set(m.synced, m.offset+[]time.Duration{-time.Hour, time.Hour, 40 * 24 * time.Hour}[r.IntN(3)])
				case 4:
					closeJournal(t, j)
					if r.IntN(2) == 0 {
						m.boot(r)
					}
					m.ahead = true
					j = open(t, dir, options)
					rd = reader(t, j, "a")
				case 5:
					m.set(false, m.offset)
				}
				tidy(t, j)
				batches = append(batches, sample{m.true0, m.boots, m.synced, m.synced && m.offset < -time.Second})
				publish(t, j, 2000*(len(batches)-1), 2000*len(batches), rd)
			}
			tidy(t, j)
			dropped := map[int]bool{}
			for _, l := range j.Losses() {
				if l.Reason != ReasonAge {
					t.Errorf("loss: %+v", l)
				}
				for seq := l.First; seq <= l.Last; seq++ {
					dropped[int(seq-1)/2000] = true
				}
			}
			for i, s := range batches {
				if truth := m.true0 - s.taken; dropped[i] && truth < most && !s.behind && !m.ahead {
					t.Errorf("batch %d is %v old, and messages of it were dropped: %+v, now %+v", i, truth, s, m)
				}
			}
			closeJournal(t, j)
		})
	}
}
