package journal

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is when a message was appended. Wall may be wrong where Synced is false: a Pi has no battery
// for its clock. Boot is always right, so a later reading of both in the same boot repairs Wall.
type Time struct {
	Wall   time.Time
	Boot   time.Duration // CLOCK_BOOTTIME: since boot, suspend included
	Synced bool          // whether the kernel's clock was synchronised (adjtimex(2))
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

// stepped says whether wall time has moved against boot time by more than slewing explains, or
// became (un)synchronised, since c.
func (c clockReading) stepped(now clockReading) bool {
	drift := (now.wall - now.boot) - (c.wall - c.boot)
	return c.synced != now.synced || drift > int64(time.Second/2) || drift < -int64(time.Second/2)
}

// clock reads boot time without a system call per record.
type clock struct {
	opened time.Time // with the monotonic clock
	boot   int64     // boot time at opened
	wall   func() (ns int64, synced bool)
}

func newClock(wall func() (ns int64, synced bool)) clock {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail on any kernel since 2.6.39
	if wall == nil {
		wall = wallTime
	}
	return clock{opened: time.Now(), boot: ts.Nano(), wall: wall}
}

func (c *clock) bootTime() int64 { return c.boot + int64(time.Since(c.opened)) }

func (c *clock) read() clockReading {
	wall, synced := c.wall()
	return clockReading{wall: wall, boot: c.bootTime(), synced: synced}
}

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
