package main

import (
	"context"
	"runtime"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"
)

// Result is one measurement. Everything is per the time that the load ran; the machine's other load
// is in it.
type Result struct {
	Target   string
	Queue    string
	Phase    string // growing or steady
	InFlight int

	Acks       float64 // durable messages a second
	PerCommit  float64 // messages in a commit
	FlashRatio float64 // bytes to the device for one byte of payload
	Flushes    float64 // of the device, for one commit
	CPU        float64 // microseconds of user and system time for a message, load and consumer included
	Allocs     float64 // for a message, load and consumer included
	Heap       float64 // MiB, the largest seen, garbage included
	WrittenPer float64 // bytes to the device in a commit
	Raw        float64 // commits a second of a bare write and fdatasync of as many bytes
}

// usage is a reading of what a measurement is the difference of.
type usage struct {
	at      time.Time
	acked   uint64
	commits uint64
	cpu     time.Duration
	mallocs uint64
	device  deviceCounters
}

func readUsage(t *target, q queue, l *load) (usage, error) {
	var u usage
	var err error
	if u.device, err = t.counters(); err != nil {
		return u, err
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	u.mallocs = mem.Mallocs
	u.cpu = processCPU()
	u.commits = q.commits()
	u.acked = l.acked()
	u.at = time.Now()
	return u, nil
}

func processCPU() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // fails for a bad address only
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// measure runs n in flight for some time. Bytes are counted until everything that was written has
// reached the device, flushes until the load ended: the last sync is not the queue's.
func measure(ctx context.Context, t *target, q queue, n int, messages []message, length time.Duration) (Result, error) {
	r := Result{Target: t.name, InFlight: n}
	if err := t.sync(); err != nil {
		return r, err
	}
	runtime.GC()
	l := startLoad(ctx, q, n, messages)
	pause(ctx, length/8)
	from, err := readUsage(t, q, l)
	if err != nil {
		return r, err
	}
	heap := newHeapMeter()
	for end := from.at.Add(length); time.Now().Before(end) && ctx.Err() == nil && len(l.errs) == 0; {
		pause(ctx, 50*time.Millisecond)
		heap.read()
	}
	to, err := readUsage(t, q, l)
	if err != nil {
		return r, err
	}
	if err := l.stop(); err != nil {
		return r, err
	}
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if err := t.sync(); err != nil {
		return r, err
	}
	last, err := t.counters()
	if err != nil {
		return r, err
	}
	count := float64(to.acked - from.acked)
	commits := float64(to.commits - from.commits)
	r.Acks = count / to.at.Sub(from.at).Seconds()
	r.PerCommit = count / commits
	r.FlashRatio = float64(last.bytes-from.device.bytes) / float64(payloadSize*(l.acked()-from.acked))
	r.Flushes = float64(to.device.flushes-from.device.flushes) / commits
	r.WrittenPer = float64(to.device.bytes-from.device.bytes) / commits
	r.CPU = float64((to.cpu - from.cpu).Nanoseconds()) / 1e3 / count
	r.Allocs = float64(to.mallocs-from.mallocs) / count
	r.Heap = heap.most()
	return r, nil
}

// heapMeter watches the Go heap. What modernc.org/sqlite allocates is outside of it.
type heapMeter struct {
	sample []metrics.Sample
	max    uint64
}

func newHeapMeter() *heapMeter {
	h := &heapMeter{sample: []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}}
	h.read()
	return h
}

func (h *heapMeter) read() {
	metrics.Read(h.sample)
	h.max = max(h.max, h.sample[0].Value.Uint64())
}

// most is in MiB.
func (h *heapMeter) most() float64 { return float64(h.max) / (1 << 20) }
