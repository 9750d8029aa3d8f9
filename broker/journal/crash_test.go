package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
)

// TestCrashStates works with journals on a simulated disk and opens what a power cut could have left
// at any moment, thousands of times. Whatever state the disk is in, nothing acknowledged may be
// missing, nothing may be there that was never appended, and the order has to hold.
func TestCrashStates(t *testing.T) {
	states := 20_000
	if raceEnabled || testing.Short() {
		states = 1_500
	}
	if v, err := strconv.Atoi(os.Getenv("HOLDFAST_CRASH_STATES")); err == nil {
		states = v
	}
	const workloads, lives = 10, 4
	for seed := range uint64(workloads) {
		t.Run(fmt.Sprint("workload ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			for range lives {
				w.live()
				w.cut((states + workloads*lives - 1) / (workloads * lives))
			}
		})
	}
}

// world is a journal's disk and what its users know of it.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	opts journal.Options
	disk *simdisk.Disk

	mu       sync.Mutex
	messages map[uint64]*message
	lastID   uint64
	failing  bool // operations fail now and then
	alarms   bool // some messages are owed to alarm
}

// message is one that was appended, with the moments, in operations of the disk, at which something
// became true of it.
type message struct {
	id        uint64
	producer  int
	counter   uint64 // of the producer
	topic     string
	payload   []byte
	retained  bool
	owed      []string
	seq       uint64
	appended  int            // not on disk before
	committed int            // on disk since; never if -1
	acked     map[string]int // by reader: may be missing since
	dropped   string         // by this reader: if it is missing there, a loss names it
}

var (
	// dead and alarm read nothing, so that the oldest has to be dropped; alarm is owed little, and has a
	// higher priority, so that nothing of it has to be. Every other world has none: there, segments are
	// settled instead of compacted.
	readers   = []string{"fast", "odd", "dead", "alarm"}
	producers = 3
)

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: simdisk.Random(seed), disk: simdisk.New(), messages: map[uint64]*message{}}
	w.opts = journal.Options{MaxSize: 2 << 20, CommitEvery: time.Millisecond}
	if seed%5 == 4 {
		w.opts.WhenFull = journal.RefuseNew
	}
	w.failing = seed%3 == 2
	w.alarms = seed%2 == 1
	return w
}

// live works with the journal for a while and closes it.
func (w *world) live() {
	w.disk.Fail = nil
	if w.failing {
		seed := w.rng.Uint64()
		fail := simdisk.Random(seed)
		w.disk.Fail = func(op simdisk.Op, name string) error { // called with the disk's lock held
			if (op == simdisk.Write || op == simdisk.Datasync || op == simdisk.SyncDir || op == simdisk.Rename) && fail.IntN(40) == 0 {
				return errors.New("injected")
			}
			return nil
		}
	}
	opts := w.opts
	opts.FS = w.disk
	j, err := journal.Open(opts)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	var owed []*journal.Reader
	var consumers, work sync.WaitGroup
	stop := make(chan struct{})
	for _, name := range readers {
		r, err := j.OpenReader(name)
		if err != nil {
			w.t.Fatal(err)
		}
		owed = append(owed, r)
		if name == "alarm" {
			if err := r.SetPriority(1); err != nil {
				w.t.Fatal(err)
			}
		}
		if name == "fast" || name == "odd" {
			rng := simdisk.Random(w.rng.Uint64())
			consumers.Go(func() { w.consume(r, rng, stop) })
		}
	}
	for p := range producers {
		rng := simdisk.Random(w.rng.Uint64())
		n := 100 + rng.IntN(200)
		work.Go(func() {
			for range n {
				w.append(j, p, owed, rng)
			}
		})
	}
	work.Wait()
	close(stop)
	consumers.Wait()
	j.Close() // its error is that of an injected failure
	w.disk.Fail = nil
}

// append appends one message of a producer and notes what becomes of it.
func (w *world) append(j *journal.Journal, producer int, all []*journal.Reader, rng *rand.Rand) {
	size := rng.IntN(3000)
	if rng.IntN(50) == 0 {
		size = rng.IntN(40_000)
	}
	m := &message{producer: producer, committed: -1, retained: rng.IntN(10) == 0, acked: map[string]int{}}
	var owed []journal.Owed
	for _, r := range all {
		if r.Name() == "alarm" && w.alarms && rng.IntN(20) == 0 || r.Name() != "alarm" && rng.IntN(3) > 0 {
			m.owed = append(m.owed, r.Name())
			owed = append(owed, journal.Owed{Reader: r, QoS: 1})
		}
	}
	w.mu.Lock()
	w.lastID++
	m.id = w.lastID
	m.counter = m.id // grows with every message of the producer
	m.topic = fmt.Sprint("t/", producer)
	m.payload = content(m.id, size)
	w.messages[m.id] = m
	m.appended = w.disk.Now()
	w.mu.Unlock()
	e := journal.Entry{
		Message: &broker.Message{Topic: m.topic, Payload: m.payload, QoS: 1, Retain: m.retained},
		Owed:    owed, Retained: m.retained, Lazy: rng.IntN(2) == 0, Done: committed{w, m},
		Changes: []journal.Change{{Key: key(producer), Value: binary.AppendUvarint(nil, m.counter)}},
	}
	if err := j.Append(e); err != nil && !errors.Is(err, journal.ErrFull) {
		w.t.Errorf("append: %v", err)
	}
}

func key(producer int) string { return fmt.Sprint("counter/", producer) }

// content is the payload of a message: its number, and bytes that only that number has.
func content(id uint64, size int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+size), id)
	x := id
	for range size {
		x = x*6364136223846793005 + 1442695040888963407
		b = append(b, byte(x>>56))
	}
	return b
}

type committed struct {
	w *world
	m *message
}

func (c committed) Committed(_ *journal.Entry, seq uint64, err error) {
	if err != nil {
		return
	}
	now := c.w.disk.Now()
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.m.seq, c.m.committed = seq, now
}

// consume acknowledges most of what it reads, some of it late and out of order.
func (w *world) consume(r *journal.Reader, rng *rand.Rand, stop chan struct{}) {
	var held []journal.Delivery
	ack := func(i int) {
		d := held[i]
		held = slices.Delete(held, i, i+1)
		now := w.disk.Now()
		w.mu.Lock()
		drop := r.Name() == "odd" && rng.IntN(10) == 0
		if m := w.messages[binary.BigEndian.Uint64(d.Message.Payload)]; m != nil {
			m.acked[r.Name()] = now
			if drop {
				m.dropped = r.Name()
			}
		} else {
			w.t.Errorf("%s: message %x was never appended, or settled for good", r.Name(), d.Message.Payload[:8])
		}
		w.mu.Unlock()
		if drop {
			r.Drop(&d, journal.ReasonRefused)
			return
		}
		r.Ack(d.Seq)
	}
	r.Attach()
	for {
		d, ok, err := r.TryNext()
		switch {
		case errors.Is(err, journal.ErrClosed):
			return
		case ok:
			held = append(held, d)
			for len(held) > 0 && rng.IntN(8) > 0 && (len(held) > 20 || rng.IntN(3) > 0) {
				ack(rng.IntN(len(held)))
			}
			continue
		}
		select {
		case <-stop:
			r.Detach()
			return
		case <-r.Ready():
		}
	}
}

// cut checks n states that a power cut could have left, and goes on with the last of them.
func (w *world) cut(n int) {
	total := w.disk.Now()
	points := make([]int, n)
	for i := range points {
		points[i] = w.rng.IntN(total + 1)
	}
	slices.Sort(points)
	replay := w.disk.Replay()
	keep := w.rng.IntN(n)
	var kept *simdisk.Disk
	var left map[uint64][]string
	for i, at := range points {
		for replay.At() < at {
			replay.Next(w.rng)
		}
		disk := replay.Cut(w.rng)
		found := w.check(disk, at)
		if w.t.Failed() {
			w.t.Fatalf("state %d, at operation %d of %d:\n%s", i, at, total, w.disk.Trace(0, at))
		}
		if i == keep {
			kept, left = disk, found
		}
	}
	// What was not found is settled, or never was; what was found is on disk for good.
	w.disk = kept
	w.disk.Flush()
	for id, m := range w.messages {
		m.appended, m.committed = 0, 0
		m.dropped = ""
		clear(m.acked)
		if m.owed = left[id]; m.owed == nil {
			delete(w.messages, id)
		}
	}
}

// check opens what is left on a disk after a cut at a moment, and returns what readers are owed.
func (w *world) check(disk *simdisk.Disk, at int) map[uint64][]string {
	opts := w.opts
	opts.FS = disk
	j, err := journal.Open(opts)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	if rec := j.Recovery(); rec.Damaged > 0 || len(rec.Aside) > 0 || len(rec.Foreign) > 0 {
		w.t.Errorf("damage found where there is none: %+v", rec)
	}
	here := map[string][]*message{}
	var all []*journal.Reader
	newest := make([]uint64, producers)
	for _, name := range readers {
		r, err := j.OpenReader(name)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r)
		here[name] = w.drain(r, at)
		for _, m := range here[name] {
			newest[m.producer] = max(newest[m.producer], m.counter)
		}
	}
	w.checkState(j, at, newest)
	if err := j.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
	// A journal at its limit may have to drop the oldest segment as soon as it is open.
	losses := j.Losses()
	found := map[uint64][]string{}
	for _, r := range all {
		left := slices.DeleteFunc(here[r.Name()], func(m *message) bool { return lost(losses, r.Name(), m.seq) >= 0 })
		if d := r.Depth(); d != uint64(len(left)) {
			w.t.Errorf("%s: depth is %d, and %d messages were handed out and not lost", r.Name(), d, len(left))
		}
		for _, m := range left {
			found[m.id] = append(found[m.id], r.Name())
		}
		w.checkMissing(r.Name(), at, found, losses)
	}
	return found
}

// lost returns which loss names a message, or -1.
func lost(losses []journal.Loss, reader string, seq uint64) int {
	return slices.IndexFunc(losses, func(l journal.Loss) bool { return l.Reader == reader && l.First <= seq && seq <= l.Last })
}

// drain reads everything that a reader is owed.
func (w *world) drain(r *journal.Reader, at int) (here []*message) {
	r.Attach()
	last := make([]uint64, producers)
	var lastSeq uint64
	for {
		d, ok, err := r.TryNext()
		if err != nil {
			w.t.Errorf("%s: %v", r.Name(), err)
		}
		if !ok {
			return here
		}
		m := w.messages[binary.BigEndian.Uint64(d.Message.Payload)]
		switch {
		case m == nil || m.appended > at:
			w.t.Errorf("%s: message %x was never appended, or settled for good", r.Name(), d.Message.Payload[:8])
			return here
		case !bytes.Equal(m.payload, d.Message.Payload) || m.topic != d.Message.Topic:
			w.t.Errorf("%s: message %d has changed", r.Name(), m.id)
		case !slices.Contains(m.owed, r.Name()):
			w.t.Errorf("%s: message %d was not owed", r.Name(), m.id)
		case m.id <= last[m.producer] || d.Seq <= lastSeq:
			w.t.Errorf("%s: message %d (%d) comes after %d (%d)", r.Name(), m.id, d.Seq, last[m.producer], lastSeq)
		}
		last[m.producer], lastSeq = m.id, d.Seq
		m.seq = d.Seq
		here = append(here, m)
	}
}

// checkMissing looks for what a reader must have got and did not.
func (w *world) checkMissing(name string, at int, found map[uint64][]string, losses []journal.Loss) {
	missing := make([]uint64, len(losses))
	for id, m := range w.messages {
		if !slices.Contains(m.owed, name) || m.committed < 0 || m.committed > at || slices.Contains(found[id], name) {
			continue
		}
		if acked, ok := m.acked[name]; ok && acked < at && m.dropped != name {
			continue
		}
		i := lost(losses, name, m.seq)
		if i < 0 {
			w.t.Errorf("%s: message %d (%d) was acknowledged at %d and is missing at %d; losses %+v", name, id, m.seq, m.committed, at, losses)
			continue
		}
		missing[i]++
	}
	for i, n := range missing {
		if losses[i].Reader == "alarm" {
			w.t.Errorf("%+v, although others were owed something", losses[i])
		}
		if n > losses[i].Count {
			w.t.Errorf("%s: %d messages are missing, and the loss says %+v", name, n, losses[i])
		}
	}
}

// checkState checks the keys and retained messages, which change together with messages.
func (w *world) checkState(j *journal.Journal, at int, newest []uint64) {
	retained := map[string]uint64{}
	j.RangeRetained(func(m *broker.Message, _ journal.Time) bool {
		retained[m.Topic] = binary.BigEndian.Uint64(m.Payload)
		return true
	})
	for p := range producers {
		var value uint64
		j.Range(key(p), func(_ string, v []byte) bool {
			value, _ = binary.Uvarint(v)
			return false
		})
		kept := retained[fmt.Sprint("t/", p)]
		for _, m := range w.messages {
			if m.producer != p || m.committed < 0 || m.committed > at {
				continue
			}
			if m.counter > value {
				w.t.Errorf("producer %d: the counter is %d, and %d was acknowledged", p, value, m.counter)
			}
			if m.retained && m.id > kept {
				w.t.Errorf("producer %d: message %d is retained, and %d was acknowledged", p, kept, m.id)
			}
		}
		if newest[p] > value {
			w.t.Errorf("producer %d: message %d is there without its counter, which is %d", p, newest[p], value)
		}
	}
}
