package journal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/broker"
)

// machine is a fake clock that knows the true time. Its wall clock is only right while it is synchronised.
type machine struct {
	id     atomic.Uint64
	boot   atomic.Int64  // since the machine started, in ns
	truth  atomic.Int64  // since 1970, in ns
	off    atomic.Int64  // of the wall clock from the truth
	worst  time.Duration // off while it was synchronised, at most 0, the least in this boot
	synced atomic.Bool
}

func (m *machine) BootID() (id [16]byte) {
	id[0], id[1], id[2] = byte(m.id.Load()), byte(m.id.Load()>>8), 1
	return id
}
func (m *machine) Boot() time.Duration  { return time.Duration(m.boot.Load()) }
func (m *machine) Wall() (int64, bool)  { return m.truth.Load() + m.off.Load(), m.synced.Load() }
func (m *machine) pass(d time.Duration) { m.boot.Add(int64(d)); m.truth.Add(int64(d)) }

// reboot starts the machine off later, with a clock that says anything.
func (m *machine) reboot(off time.Duration, wall int64) {
	m.truth.Add(int64(off))
	m.id.Add(1)
	m.boot.Store(int64(time.Second))
	m.worst = 0
	m.step(wall)
}

// step sets the wall clock wrong.
func (m *machine) step(wall int64) {
	m.synced.Store(false)
	m.off.Store(wall - m.truth.Load())
}

func (m *machine) sync() { m.off.Store(0); m.synced.Store(true) }

// lie sets the wall clock wrong, and it says all the same that it is synchronised.
func (m *machine) lie(off time.Duration) {
	m.off.Store(int64(off))
	m.worst = min(m.worst, off)
}

// sentAt is what the model knows of a message.
type sentAt struct {
	truth, boot int64
	id          uint64 // of the boot
	synced      bool   // whether the clock was synchronised when it was appended
}

// TestHistories runs seeded histories of steps, boots without a clock, restarts, power cuts and drains against a
// model that knows the true time:
//
//   - A message's age is never more than the truth: nothing young expires or is dropped for max_age.
//   - Within a boot it is the truth, so that nothing expired is delivered, and the interval that is forwarded is
//     never larger than it may be.
//   - Over boots it is the truth if the clock was synchronised when the message was appended and is now, and
//     otherwise at least the boot time of the boot that runs. What a machine slept or was off without a clock
//     cannot be known.
//   - A synchronised clock that steps by an hour or 40 days, either way, and is put right again, makes nothing older
//     than it is, and what is from earlier boots younger by that step at most.
//
// HOLDFAST_CLOCK_RUNS says how many.
func TestHistories(t *testing.T) {
	runs := 60
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_CLOCK_RUNS")); err == nil {
		runs = n
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { history(t, uint64(seed)) })
	}
}

func history(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 20))
	m := &machine{}
	m.truth.Store(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano())
	year := int64(365 * 24 * time.Hour)
	anyWall := func() int64 { return m.truth.Load() + rnd.Int64N(80*year) - 40*year }
	m.reboot(0, anyWall())
	dir := t.TempDir()
	set := func(o *Options) {
		o.Clock, o.SegmentSize, o.MaxAge = m, smallestPart, 1000*time.Hour
		withoutSync(o)
	}
	j := open(t, dir, set)
	r := reader(t, j, "a")
	sent := map[uint64]sentAt{}
	var retained sentAt
	next := 0
	check := func(what string, at sentAt, tm Time) {
		t.Helper()
		const slack = 2 * time.Millisecond // a frame tells its time in ms
		got, truth := j.Waited(tm), time.Duration(m.truth.Load()-at.truth)
		least := m.Boot()
		_, synced := m.Wall()
		if at.id == m.id.Load() {
			least = truth
		} else if at.synced && synced {
			least = max(least, truth+m.worst)
		}
		if got > truth+slack || got < least-slack {
			t.Fatalf("%s: waited %v, want %v to %v (%+v, %+v, now boot %d at %v, synchronised %v)", what, got, least, truth, at, tm, m.id.Load(), m.Boot(), synced)
		}
	}
	lies := false
	for range 40 {
		action := rnd.IntN(10)
		if lies && action >= 4 && action <= 8 && action != 7 { // what is written while it lies is lost to the truth
			m.sync()
			lies = false
		}
		switch action {
		case 0, 1:
			m.pass(time.Duration(rnd.Int64N(int64(20 * time.Hour))))
		case 2:
			m.step(anyWall())
			lies = false
		case 3:
			m.sync()
			j.Now() // as each commit
			lies = false
		case 9:
			if _, lies = m.Wall(); lies {
				j.Now()
				by := []time.Duration{time.Hour, 40 * 24 * time.Hour}[rnd.IntN(2)]
				m.lie([]time.Duration{by, -by}[rnd.IntN(2)])
			}
		case 4, 5, 6: // append
			n := 1 + rnd.IntN(400)
			at := sentAt{m.truth.Load(), m.boot.Load(), m.id.Load(), m.synced.Load()}
			publish(t, j, next, next+n, r)
			next += n
			top := r.j.nextSequence()
			for seq := top - uint64(n); seq < top; seq++ {
				sent[seq] = at
			}
			publishRetained(t, j) // after the others: it takes a number too
			retained = at
		case 7: // drain some
			r.Attach()
			for range rnd.IntN(1000) {
				d, ok, err := r.TryNext()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				check(fmt.Sprintf("message %d", d.Seq), sent[d.Seq], d.Time)
				r.Ack(d.Seq)
			}
			r.Detach()
		case 8: // power cut or restart, of the machine or of the gateway alone
			if rnd.IntN(2) == 0 {
				crashed := crash(t, dir)
				closeJournal(t, j)
				dir = crashed
			} else {
				closeJournal(t, j)
			}
			if rnd.IntN(4) > 0 {
				m.reboot(time.Duration(rnd.Int64N(int64(100*time.Hour))), anyWall())
			} else {
				m.pass(time.Minute)
			}
			j = open(t, dir, set)
			r = reader(t, j, "a")
		}
		j.RangeRetained(func(_ *broker.Message, tm Time) bool {
			check("retained", retained, tm)
			return true
		})
		for _, l := range j.Losses() {
			if l.Reason != ReasonAge {
				t.Fatalf("loss: %+v", l)
			}
			for seq := l.First; seq <= l.Last; seq++ {
				if at, ok := sent[seq]; ok && time.Duration(m.truth.Load()-at.truth) < 1000*time.Hour {
					t.Fatalf("message %d is dropped for its age, %v after it was sent", seq, time.Duration(m.truth.Load()-at.truth))
				}
			}
		}
	}
	closeJournal(t, j)
}

func (j *Journal) nextSequence() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.queue.nextSeq
}

func publishRetained(t *testing.T, j *Journal) {
	t.Helper()
	w := &waiter{}
	w.wg.Add(1)
	m := &broker.Message{Topic: "retained", Payload: []byte("v"), QoS: 1, Retain: true}
	if err := j.Append(Entry{Message: m, Retained: true, Done: w}); err != nil {
		t.Fatal(err)
	}
	w.wg.Wait()
}
