package journal

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Time is when a message was appended. Wall may be wrong where Synced is false: a Pi has no battery
// for its clock. Boot is always right, and compares with other times of the same boot only; so a later reading
// of both in the same boot repairs Wall. See Journal.Age.
type Time struct {
	Wall   time.Time
	Boot   time.Duration // CLOCK_BOOTTIME: since boot, suspend included
	Synced bool          // whether the kernel's clock was synchronised (adjtimex(2))
	Here   bool          // whether Boot is of the boot that this process runs in
}

// Age returns how long ago t was. Within a boot, boot time tells, whatever the clock says meanwhile. Of an
// earlier boot the wall clock tells, if it was right then and is now; known is false if it was not, and
// age is what has passed at least: the time since this boot. A clock that has stepped in this boot although
// it was synchronised is taken at its earliest, so that no message becomes older by a step.
func (j *Journal) Age(t Time) (age time.Duration, known bool) {
	if t.Here {
		return max(0, time.Duration(j.clock.bootTime())-t.Boot), true
	}
	now := j.clock.read()
	age = time.Duration(now.boot)
	if !t.Synced || !now.synced {
		return age, false
	}
	return max(age, time.Duration(j.clock.earliest(now)-t.Wall.UnixNano())), true
}

// Wall returns t by the clock, repaired if the clock became right later in this boot, and whether it is known
// to be right.
func (j *Journal) Wall(t Time) (wall time.Time, known bool) {
	if t.Synced || !t.Here {
		return t.Wall, t.Synced
	}
	now := j.clock.read()
	return now.at(int64(t.Boot), true).Wall, now.synced
}

// clockReading ties wall time to boot time at one moment, both in ns.
type clockReading struct {
	wall, boot int64
	synced     bool
}

// at returns the time of a record made boot ns after boot, in this boot or an earlier one.
func (c clockReading) at(boot int64, here bool) Time {
	return Time{Wall: time.Unix(0, c.wall+boot-c.boot), Boot: time.Duration(boot), Synced: c.synced, Here: here}
}

// stepped reports whether wall time has moved against boot time by more than slewing explains, or
// became (un)synchronised, since c.
func (c clockReading) stepped(now clockReading) bool {
	drift := (now.wall - now.boot) - (c.wall - c.boot)
	return c.synced != now.synced || drift > int64(time.Second/2) || drift < -int64(time.Second/2)
}

// Clock is where a journal takes the time from, so that a test can let it pass, step and restart. The zero value
// is the system's.
type Clock struct {
	Wall   func() (ns int64, synced bool) // since 1970, and whether it is known to be right
	Boot   func() (ns int64)              // since boot
	BootID [16]byte                       // of this boot
}

// clock reads boot time without a system call per record: CLOCK_BOOTTIME as it was at the start, and
// CLOCK_MONOTONIC since. Time in suspend, which a Pi has none of, counts from the next start on.
type clock struct {
	Clock
	opened time.Time    // with the monotonic clock
	boot   int64        // boot time at opened
	offset atomic.Int64 // the least of wall minus boot time, in ns, while the clock was synchronised; 0 before that
}

func newClock(c Clock) *clock {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail on any kernel since 2.6.39
	if c.Wall == nil {
		c.Wall = wallTime
	}
	if c.BootID == [16]byte{} {
		c.BootID = bootID()
	}
	return &clock{Clock: c, opened: time.Now(), boot: ts.Nano()}
}

func (c *clock) bootTime() int64 {
	if c.Boot != nil {
		return c.Boot()
	}
	return c.boot + int64(time.Since(c.opened))
}

func (c *clock) read() clockReading {
	wall, synced := c.Wall()
	now := clockReading{wall: wall, boot: c.bootTime(), synced: synced}
	if synced {
		c.earliest(now)
	}
	return now
}

// earliest returns the wall time of a synchronised reading by the least that the clock has been ahead of boot time.
func (c *clock) earliest(now clockReading) int64 {
	for {
		old, offset := c.offset.Load(), now.wall-now.boot
		if old != 0 && old <= offset {
			return now.boot + old
		}
		if c.offset.CompareAndSwap(old, offset) {
			return now.wall
		}
	}
}

// here reports whether a boot is the one that this process runs in.
func (c *clock) here(bootID [16]byte) bool { return bootID == c.BootID && bootID != [16]byte{} }

// Now is the wall clock, and whether anything has set it right since the machine started.
func Now() (now time.Time, synced bool) {
	now = time.Now()
	_, synced = wallTime()
	return now, synced
}

// wallTime asks the kernel, which knows whether anything has set its clock right.
func wallTime() (ns int64, synced bool) {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return time.Now().UnixNano(), err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}
