package journal

import (
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Time is when a message was appended. Wall may be wrong where Synced is false: a Pi has no battery
// for its clock. Boot is always right. Journal.Waited returns how long ago that was.
type Time struct {
	Wall   time.Time
	Boot   time.Duration // CLOCK_BOOTTIME of the boot that runs; at most 0 for an earlier boot (segment.since)
	Synced bool          // whether Wall is known to be right: the clock was synchronised, then or later in that boot
	// Earlier reports whether the message is from a boot before the one that runs. Then the message is at
	// least as old as Boot implies.
	Earlier bool
}

// Clock is the source of time, a seam for tests. Its methods are called from several goroutines.
type Clock interface {
	BootID() [16]byte                    // of the boot that runs, as /proc/sys/kernel/random/boot_id; zero if unknown
	Boot() time.Duration                 // CLOCK_BOOTTIME: since boot, suspend included; never goes back
	Wall() (ns int64, synchronised bool) // since 1970, and whether anything has set it right (adjtimex(2))
}

// clockReading ties wall time to boot time at one moment, both in ns.
type clockReading struct {
	wall, boot int64
	synced     bool
}

// at returns the time of a record made boot ns after boot.
func (c clockReading) at(boot int64) Time {
	return Time{Wall: time.Unix(0, c.wall+boot-c.boot), Boot: time.Duration(boot), Synced: c.synced}
}

// stepped reports whether wall time has moved against boot time by more than slewing explains, or
// became (un)synchronised, since c.
func (c clockReading) stepped(now clockReading) bool {
	drift := (now.wall - now.boot) - (c.wall - c.boot)
	return c.synced != now.synced || drift > int64(time.Second/2) || drift < -int64(time.Second/2)
}

// clock reads boot time without a system call per record.
type clock struct {
	source Clock                          // nil is the kernel
	wall   func() (ns int64, synced bool) // nil is the kernel or source
	bootID [16]byte                       // of the boot that runs; zero if unknown
	opened time.Time                      // with the monotonic clock
	boot   atomic.Int64                   // boot time at opened; grows by what the machine sleeps (read)
	least  atomic.Int64                   // the least that wall time was ahead of boot time, in ns, while it was synchronised
}

func (c *clock) init(opts *Options) {
	c.source, c.wall, c.opened = opts.Clock, opts.wall, time.Now()
	c.least.Store(math.MaxInt64)
	if c.source == nil {
		c.boot.Store(kernelBoot())
		c.bootID = bootID()
	} else {
		c.bootID = c.source.BootID()
	}
}

// kernelBoot is CLOCK_BOOTTIME in ns.
func kernelBoot() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail on any kernel since 2.6.39
	return ts.Nano()
}

func (c *clock) bootTime() int64 {
	if c.source != nil {
		return int64(c.source.Boot())
	}
	return c.boot.Load() + int64(time.Since(c.opened))
}

// read also adds the time that the machine has slept: Go's monotonic clock stands still then.
func (c *clock) read() clockReading {
	if c.source == nil {
		if slept := kernelBoot() - c.bootTime(); slept > int64(time.Second) {
			c.boot.Add(slept)
		}
	}
	wall, synced := c.wallTime()
	return clockReading{wall: wall, boot: c.bootTime(), synced: synced}
}

func (c *clock) wallTime() (ns int64, synced bool) {
	boot := c.bootTime() // before the wall clock: a pause in between makes nothing older
	switch {
	case c.wall != nil:
		ns, synced = c.wall()
	case c.source != nil:
		ns, synced = c.source.Wall()
	default:
		ns, synced = wallTime()
	}
	if synced {
		for least := c.least.Load(); ns-boot < least && !c.least.CompareAndSwap(least, ns-boot); least = c.least.Load() {
		}
	}
	return ns, synced
}

// earliest returns the earliest possible wall time, in ns, and whether that is synchronised. A clock that
// is synchronised and steps was wrong before or is wrong now, by 40 days as well as by an hour. It is not known
// which, so earliest uses the reading by which less time has passed.
func (c *clock) earliest() (ns int64, synced bool) {
	ns, synced = c.wallTime()
	if synced {
		ns = min(ns, c.bootTime()+c.least.Load())
	}
	return ns, synced
}

// Now returns the time of a message that is appended now.
func (j *Journal) Now() Time {
	now := j.clock.read()
	return now.at(now.boot)
}

// Waited returns how long ago t was, of a message of this journal. Within a boot, boot time alone counts,
// whatever the wall clock does. Over a restart of the machine the result is a lower bound: the boot time
// that the log shows, or more by the wall clock where it was synchronised then and is now. It is never more
// than the true time as long as "synchronised" is true, or was true once in the boot that runs (earliest).
func (j *Journal) Waited(t Time) time.Duration {
	waited := max(0, time.Duration(j.clock.bootTime())-t.Boot)
	if t.Earlier && t.Synced {
		if now, synced := j.clock.earliest(); synced {
			waited = max(waited, time.Unix(0, now).Sub(t.Wall))
		}
	}
	return waited
}

// Date returns when a message was appended, by the wall clock as it is now: that may have been wrong then. For
// a time that the wall clock got right it is the same from call to call.
func (j *Journal) Date(t Time) time.Time {
	at := time.Now().Round(0).Add(-j.Waited(t))
	if at.Sub(t.Wall).Abs() < time.Second {
		return t.Wall
	}
	return at.Round(time.Second)
}

// Waited is Journal.Waited.
func (r *Reader) Waited(t Time) time.Duration { return r.j.Waited(t) }

// Remaining returns the seconds that are left of a lifetime of expiry seconds after waited, and false if it
// is over [MQTT-3.3.2-5]. The time waited is taken off what the publisher allowed [MQTT-3.3.2-6].
func Remaining(expiry uint32, waited time.Duration) (seconds uint32, ok bool) {
	if waited = max(0, waited); waited >= time.Duration(expiry)*time.Second {
		return 0, false
	}
	return expiry - uint32(waited/time.Second), true
}

// bootEnd describes an earlier boot, shared by its segments.
type bootEnd struct {
	last  int64 // the newest boot time of it on disk
	shift int64 // from its boot time to that of the boot that runs: at least so long ago
	right clockReading
	// right is a reading while the clock was synchronised, if ok; unsure if two of them contradict each other.
	ok, unsure bool
}

// learn takes in a reading of the boot's clock.
func (e *bootEnd) learn(c clockReading) {
	e.last = max(e.last, c.boot)
	if !c.synced {
		return
	}
	e.unsure = e.unsure || e.ok && e.right.stepped(c)
	e.right, e.ok = c, true
}

// since returns the time of a record of s, made boot ns after boot, by the clock reading c. It places a record of an
// earlier boot as long before the start of this one as is certain: by the length of the boots in
// between, as the log shows them.
func (s *segment) since(c clockReading, boot int64) Time {
	t := c.at(boot)
	e := s.earlier
	if e == nil {
		t.Earlier = boot <= 0
		return t
	}
	if !c.synced && e.ok && !e.unsure && boot > 0 { // the clock was set right later in that boot
		t = e.right.at(boot)
	}
	t.Boot, t.Earlier = time.Duration(min(boot, e.last)+e.shift), true
	t.Synced = t.Synced && !e.unsure
	return t
}

// placeBoots finds the segments of earlier boots, and how long ago those were at least. Called
// when the log has been read, before anything is appended.
func (j *Journal) placeBoots() {
	var shift int64
	var e *bootEnd
	looked := 0
	for i := len(j.segments) - 1; i >= 0; i-- {
		s := j.segments[i]
		if s.bootID == j.clock.bootID && j.clock.bootID != [16]byte{} && e == nil {
			continue
		}
		if e == nil || j.segments[i+1].bootID != s.bootID {
			e = &bootEnd{last: math.MinInt64, shift: shift}
			if s.newest == 0 && looked < mostBoots {
				looked++
				j.readBoot(s)
			}
			for k := i; k >= 0 && j.segments[k].bootID == s.bootID; k-- {
				e.learn(j.segments[k].clock)
				e.last = max(e.last, j.segments[k].newest)
				for _, c := range j.segments[k].clocks {
					e.learn(c)
				}
			}
			e.last = max(e.last, 0)
			e.shift = shift - e.last
			shift = e.shift
		}
		s.earlier = e
	}
	for _, s := range j.segments {
		s.clocks = nil
	}
	for topic, r := range j.state.retained {
		if r.seg != nil {
			r.time = r.seg.since(clockReading{r.time.Wall.UnixNano(), int64(r.time.Boot), r.time.Synced}, int64(r.time.Boot))
			r.seg = nil
			j.state.retained[topic] = r
		}
	}
}

// mostBoots bounds how many segments are read while opening only to learn how long a boot lasted.
const mostBoots = 4

// readBoot learns from the last segment of a boot how long the boot lasted. A part that cannot be read makes it
// shorter.
func (j *Journal) readBoot(s *segment) {
	f, err := j.fs.Open(s.name(), false)
	if err != nil {
		return
	}
	defer f.Close()
	for sc := newScanner(f, &s.header, headerSize, s.end, nil); ; {
		fr, ok := sc.next()
		if !ok {
			return
		}
		s.newest = max(s.newest, s.clock.boot+int64(fr.millis)*1e6)
		if fr.kind == kindClock {
			p := parser{b: fr.body}
			s.clocks = append(s.clocks, p.clock())
		}
	}
}

// Now is the wall clock, and whether anything has set it right since the machine started.
func Now() (now time.Time, synced bool) {
	now = time.Now()
	_, synced = wallTime()
	return now, synced
}

// wallTime asks the kernel for the time, and whether anything has set its clock right.
func wallTime() (ns int64, synced bool) {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return time.Now().UnixNano(), err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}
